"""The metrics files below a results folder, as one tidy table."""

import json
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict

from mmqsa.config import Config, Table
from mmqsa.errors import InputError
from mmqsa.settings import dump_yaml, read_yaml, validated

# Every metric, in the order of print: (protocol, metric) -> heading.
HEADINGS = {
    ("paper", "corloc"): "CorLoc",
    ("paper", "miou_with_background"): "mIoU (with bg)",
    ("paper", "mbo_c"): "mBO^c",
    ("dinosaur", "fg_ari"): "FG-ARI",
    ("dinosaur", "mbo_i"): "mBO^i",
    ("dinosaur", "miou"): "mIoU (instances)",
}


class Spec(BaseModel):
    """One table and what it needs to know of the config: enough to make it again, alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    table: Table
    dataset: str
    split: str
    slots: int
    seeds: list[int]
    comparable: bool  # same data set and backbone as the paper: a difference to it means something
    what: str  # data, backbone and budget in words, for captions


def table_spec(config: Config, name: str) -> str:
    """The YAML text of a table's spec; rows whose settings are not run are left out."""
    table = config.tables[name]
    rows = [setting for setting in table.settings if setting in config.names]
    spec = Spec(
        name=name,
        table=table.model_copy(update={"settings": rows}),
        dataset=config.dataset.name,
        split=config.dataset.eval_split,
        slots=config.slots.number,
        seeds=config.seeds,
        comparable=(
            config.dataset.name == "voc2012"
            and config.backbone.name == "vit_small_patch16_224.dino"
        ),
        what=f"{config.dataset.name} {config.dataset.eval_split}, {config.backbone.name}"
        f"{'' if config.backbone.pretrained else ' (random weights)'} "
        f"{config.backbone.feature}s, {config.training.steps} steps of "
        f"{config.training.batch_size} images",
    )
    return dump_yaml(spec.model_dump(mode="json"))


def load_spec(path: Path) -> Spec:
    """Read a spec. Raises InputError that names the file and the key."""
    return validated(Spec, read_yaml(path), path)


def run_folder(results: Path, setting: str, seed: int) -> Path:
    return results / "runs" / setting / f"seed{seed}"


def run_metrics(results: Path, spec: Spec) -> pd.DataFrame:
    """Metrics of every run that is there: those of its csv, and ``setting`` and ``seed``.

    Values are means over evaluation seeds.
    """
    found = []
    for setting in spec.table.settings:
        for seed in spec.seeds:
            folder = run_folder(results, setting, seed) / "metrics"
            path = folder / f"{spec.dataset}-{spec.split}.csv"
            if path.is_file():
                found.append(_read(path).assign(setting=setting, seed=seed))
    if not found:
        return pd.DataFrame(
            columns=[
                "setting",
                "seed",
                "matching",
                "mask_source",
                "protocol",
                "metric",
                "value",
                "n_images",
            ]
        )
    names = ["setting", "seed", "matching", "mask_source", "protocol", "metric"]
    return (
        pd.concat(found)
        .groupby(names, sort=False)
        .agg(value=("value", "mean"), n_images=("n_images", "first"))
        .reset_index()
    )


def reference_metrics(results: Path, spec: Spec) -> pd.DataFrame:
    """Controls and k-means: ``kind``, ``name``, ``slots``, protocol, metric, value, n_images."""
    found = []
    for kind in ("kmeans", "controls"):
        path = results / "controls" / f"{spec.dataset}-{spec.split}-{kind}.csv"
        if path.is_file():
            found.append(_read(path).assign(kind=kind))
    if not found:
        return pd.DataFrame(
            columns=["kind", "name", "slots", "protocol", "metric", "value", "n_images"]
        )
    names = ["kind", "name", "slots", "protocol", "metric"]
    return (
        pd.concat(found)
        .groupby(names, sort=False)
        .agg(value=("value", "mean"), n_images=("n_images", "first"))
        .reset_index()
    )


def provenance(results: Path, setting: str, seed: int) -> dict:
    """The provenance of a run; empty when it is not there."""
    path = run_folder(results, setting, seed) / "provenance.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a metrics file ({error}); evaluate again") from None
