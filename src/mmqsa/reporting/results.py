"""The metrics files below a results folder, as tidy tables."""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict

from mmqsa.config.base import dump_yaml, read_yaml, validated
from mmqsa.config.evaluation import BASELINES
from mmqsa.config.tables import METRICS, Table
from mmqsa.config.workflow import Config
from mmqsa.errors import InputError

HEADINGS = METRICS


class Spec(BaseModel):
    """One table and what it needs to know of the config: enough to make it again, alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    table: Table
    images: dict[str, list[str]]  # what a row says -> names of the metrics files it is the mean of
    slots: int
    seeds: list[int]
    showcase: str  # the setting that is the paper's method
    references: list[str]  # controls and other methods
    comparable: bool  # same data set and backbone as the paper: a difference to it means something
    what: str  # data, backbone and budget in words, for captions


def table_spec(config: Config, name: str) -> str:
    """The YAML text of a table's spec; rows whose settings are not run are left out."""
    table = config.tables[name]
    rows = config.rows(table)
    changes: dict = {"settings": rows}
    if table.curve:
        lines = {
            label: [setting for setting in own if setting in rows]
            for label, own in table.curve.lines.items()
        }
        changes["curve"] = table.curve.model_copy(update={"lines": lines})
    sets = config.image_sets(table)
    evaluated = sorted({image_set.name for row in sets.values() for image_set in row})
    scored = ", ".join(evaluated) if len(evaluated) < 3 else f"{len(evaluated)} image sets"
    spec = Spec(
        name=name,
        table=table.model_copy(update=changes),
        images={row: [image_set.name for image_set in own] for row, own in sets.items()},
        slots=config.slots.num_slots,
        seeds=config.seeds,
        showcase=config.showcase,
        references=(
            [] if table.references == "none" else ["controls", *config.evaluation.baselines]
        ),
        comparable=(
            config.dataset.name == "voc2012"
            and config.backbone.name == "vit_small_patch16_224.dino"
        ),
        what=f"{scored}, {config.backbone.name}"
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


def run_tables(results: Path, spec: Spec, suffix: str = "") -> pd.DataFrame:
    """The rows of ``metrics/{images}{suffix}.csv`` of every run of a table that is there.

    With columns ``setting``, ``seed``, ``row`` (what the spec calls the images) and ``images``.
    """
    found = []
    for setting, seed in product(spec.table.settings, spec.seeds):
        folder = run_folder(results, setting, seed) / "metrics"
        names = {"setting": setting, "seed": seed}
        found += [own.assign(**names) for own in _of_images(folder, spec, suffix)]
    return pd.concat(found) if found else _none()


def reference_tables(results: Path, spec: Spec, suffix: str = "") -> pd.DataFrame:
    """The same of what stands beneath: ``kind`` (method, supervised or control) and ``name``.

    ``method`` is the stage's name of it.
    """
    found = []
    for kind in spec.references:
        tables = _of_images(results / "controls", spec, f"-{kind}{suffix}")
        found += [own.assign(method=kind, kind=BASELINES.get(kind, "control")) for own in tables]
    return pd.concat(found) if found else _none()


def _of_images(folder: Path, spec: Spec, suffix: str) -> Iterator[pd.DataFrame]:
    for row, images in spec.images.items():
        for name in images:
            path = folder / f"{name}{suffix}.csv"
            if path.is_file():
                yield read_metrics(path).assign(row=row, images=name)


def _none() -> pd.DataFrame:
    columns = [
        "setting",
        "seed",
        "row",
        "images",
        "matching",
        "mask_source",
        "kind",
        "method",
        "name",
    ]
    return pd.DataFrame(columns=[*columns, "slots", "protocol", "metric", "value", "n_images"])


RUN_NAMES = ["setting", "seed", "row", "matching", "mask_source", "protocol", "metric"]
REFERENCE_NAMES = ["kind", "method", "name", "slots", "row", "protocol", "metric"]


def run_metrics(results: Path, spec: Spec) -> pd.DataFrame:
    """Metrics of every run that is there, means over evaluation seeds and a row's image sets.

    ``eval_sd`` is their std over evaluation seeds, NaN for a single one.
    """
    return _means(run_tables(results, spec), RUN_NAMES)


def reference_metrics(results: Path, spec: Spec) -> pd.DataFrame:
    """Those of controls and other methods: ``kind``, ``name``, ``slots``, ``row``, …"""
    return _means(reference_tables(results, spec), REFERENCE_NAMES)


def _means(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    if "eval_seed" not in rows:
        rows = rows.assign(eval_seed=0)
    of_seed = rows.groupby([*names, "eval_seed"], sort=False)
    of_seed = of_seed.agg(value=("value", "mean"), n_images=("n_images", "first")).reset_index()
    means = of_seed.groupby(names, sort=False)
    return means.agg(
        value=("value", "mean"), eval_sd=("value", "std"), n_images=("n_images", "first")
    ).reset_index()


def provenance(results: Path, setting: str, seed: int) -> dict:
    """The provenance of a run; empty when it is not there."""
    path = run_folder(results, setting, seed) / "provenance.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def read_metrics(path: Path) -> pd.DataFrame:
    """A metrics file, per image or not; image ids are text. Raises InputError that names it."""
    try:
        return pd.read_csv(path, dtype={"image_id": str})  # COCO's are digits
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a metrics file ({error}); evaluate again") from None
