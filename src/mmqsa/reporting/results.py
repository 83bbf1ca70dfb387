"""Metrics files below a results folder as tidy tables, and the specs of what is printed of them."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Any, Self

import pandas as pd
from pydantic import Field, model_validator

from mmqsa.config.base import Distinct, Name, OneOrMore, Section, Seed, Text, validated
from mmqsa.config.evaluation import BASELINES
from mmqsa.config.files import dump_yaml, read_yaml
from mmqsa.config.methods import MethodRecord, read_methods
from mmqsa.config.model import PAPERS_SCORE, score_name
from mmqsa.config.provenance import read_provenance
from mmqsa.config.tables import METRICS, Label, Table, unpack
from mmqsa.config.workflow import Config
from mmqsa.errors import InputError
from mmqsa.paths import HISTORY, PROVENANCE, Paths
from mmqsa.reporting.inputs import figures, knob
from mmqsa.reporting.metrics_file import (
    REFERENCE,
    RUN,
    differing_labels,
    labels_of,
    read_table,
)

# Mask source -> its name in tables and figures.
SOURCES = {
    "decoder": "decoder masks",
    "attention": "attention masks",
    "decoder-masks": "decoder masks, per head",
}
# Knob of a curve -> its name in tables and figures.
KNOBS = {
    "slots.num_heads": "query heads",
    "slots.num_slots": "slots",
    "slots.iterations": "iterations",
    "masking.ratio": "hidden share of patches",
}
UNSUPERVISED = ("method", "control")  # kinds of references that see no labels
MISSING = "missing"  # printed for a setting without runs
Rows = Annotated[dict[Label, OneOrMore[Name]], Field(min_length=1)]
RUN_KEYS = ["setting", "seed", "row", "matching", "mask_source", "protocol", "metric"]
REFERENCE_KEYS = ["kind", "method", "name", "num_slots", "row", "protocol", "metric"]


class Spec(Section):
    """One printed table and what it needs of the config: enough to make it without the config."""

    name: Name
    table: Table
    images: Rows  # label of a row -> image sets whose mean it shows
    protocols: Rows  # label of a row -> protocols that it prints
    num_slots: Annotated[int, Field(ge=2, le=64)]
    names: dict[Name, Label] = {}  # printed names of settings
    scores: dict[Name, Text] = {}  # of the settings that hide patches by one: masking.score
    knobs: dict[Name, float] = {}  # of every setting, the value of the knob of the table's curve
    seeds: dict[Name, OneOrMore[Seed]]  # of every setting
    showcase: Name  # the setting that is the paper's method
    references: Distinct[Name]  # baselines and controls
    comparable: bool  # the paper's data set and backbone: differences to its values mean something
    like_published: bool  # data set and backbone are those of the published values that are listed
    features: Text  # what they are called, for captions
    setup: Text  # images, features and training budget, for captions

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if missing := [name for name in self.table.settings if name not in self.seeds]:
            raise ValueError(f"seeds: none of the setting {missing[0]}; name them")
        if list(self.protocols) != list(self.images):
            raise ValueError("protocols: expected the rows of images; name the same")
        return self

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Setting and seed of every run."""
        return [(name, seed) for name in self.table.settings for seed in self.seeds[name]]

    @property
    def first(self) -> str:
        """The table's first setting that is run; empty without any."""
        return next(iter(self.table.settings), "")

    def label(self, setting: str) -> str:
        """The printed name of a setting."""
        return self.names.get(setting, setting)

    def matching_label(self, matching: str) -> str:
        """The printed name of a matching."""
        return self.table.labels.get(matching, matching)

    def caption(self, *sentences: str) -> str:
        """What the table shows, on which images and features; then ``sentences`` on reading it."""
        return " ".join(filter(None, [f"{self.table.caption}.", self.setup, *sentences]))


def table_spec(config: Config, name: str) -> str:
    """The YAML text of a table's spec.

    Settings that are not run are left out, and figures that have nothing to show (see `figures`).
    """
    table = config.tables[name]
    assert table is not None  # removed ones are not in the config
    rows = config.rows(table)
    drawn = figures(config, table)
    changes: dict[str, Any] = {"settings": rows, "curve": None}
    changes["figures"] = [kind for kind in table.figures if kind in drawn]
    if table.curve and "curve" in drawn:
        lines = {
            label: [setting for setting in settings if setting in rows]
            for label, settings in table.curve.lines.items()
        }
        changes["curve"] = table.curve.model_copy(update={"lines": lines})
    image_sets = config.image_sets(table)
    images = {row: [one.name for one in several] for row, several in image_sets.items()}
    printed = {
        row: list(dict.fromkeys(chain(*(one.printed for one in several))))
        for row, several in image_sets.items()
    }
    names = sorted({name for row in images.values() for name in row})
    backbone, training = config.backbone, config.training
    network = (backbone.title or backbone.name) + " with random weights" * (not backbone.pretrained)
    features = f"{network}, {backbone.feature}"
    features += f" of blocks {backbone.blocks}" if len(backbone.blocks) > 1 else ""
    runs = {setting: config.setting(setting) for setting in rows}
    names_of_rows = {setting: config.printed_names[setting] for setting in rows}
    scores = {
        setting: run.masking.score
        for setting, run in runs.items()
        if run.masking.strategy in ("background", "foreground")
    }
    said = "" if table.kind == "claims" else _about_scores(scores, names_of_rows)
    budget = f"Training: {training.steps:,} steps of {training.batch_size} images."
    voc2012, papers_backbone = "voc2012", "vit_small_patch16_224.dino"
    data_sets = {name.partition("boxes-")[2] or voc2012 for name in table.published}
    data = {
        "name": name,
        "table": table.model_copy(update=changes),
        "images": images,
        "protocols": printed,
        "num_slots": config.slots.num_slots,
        "names": names_of_rows,
        "scores": scores,
        "knobs": {one: knob(run, table.curve.against) for one, run in runs.items()}
        if table.curve
        else {},
        "seeds": {setting: config.seeds_of(setting) for setting in rows},
        "showcase": config.showcase,
        "references": ["controls", *config.evaluation.baselines] * (table.references != "none"),
        "comparable": (config.dataset.name, backbone.name) == (voc2012, papers_backbone),
        "like_published": data_sets <= {config.dataset.name} and backbone.name == papers_backbone,
        "features": features,
        "setup": f"Images: {', '.join(names) if len(names) < 3 else f'{len(names)} sets'}. "
        f"Features: {features}. {'' if table.kind == 'snapshots' else budget} {said}".strip(),
    }
    spec = validated(Spec, data, f"tables.{name}")
    return dump_yaml(spec.model_dump(mode="json"))


def _about_scores(scores: Mapping[str, str], names: dict[str, str]) -> str:
    """What a caption says of settings that are masked by another score than the paper's mean.

    Empty where all of them say so in their names.
    """
    others = {one: score_name(score) for one, score in scores.items() if score != PAPERS_SCORE}
    if all(score in names[setting] for setting, score in others.items()):
        return ""
    as_paper = [names[setting] for setting in scores if setting not in others]
    but = f", but for {'; '.join(as_paper)}" if as_paper else ""
    words = " or the ".join(dict.fromkeys(others.values()))
    return f"Masking is by the {words}, not by the mean as in the paper{but}."


def load_spec(path: Path) -> Spec:
    """Read a spec. Raises InputError that names the file and the key."""
    return validated(Spec, read_yaml(path), path)


@dataclass(frozen=True)
class Results:
    """What one table is made from: its spec, the files below a results folder, published values.

    Runs and references that do not exist are left out; without any a table has its columns alone.
    """

    spec: Spec
    paths: Paths
    published: pd.DataFrame

    def runs(self, kind: str = "") -> pd.DataFrame:
        """One kind of metrics file (see Paths.metrics) of every run.

        With columns ``setting``, ``seed``, ``row`` (label of the images) and ``images``.
        """
        entries = (
            (
                self.paths.metrics(setting, seed, images, kind),
                {"setting": setting, "seed": seed, "row": row, "images": images},
                self.spec.protocols[row],
            )
            for setting, seed in self.spec.runs
            for row, images in self._image_sets()
        )
        of_slots = kind in ("agreement", "slots")
        rows = self._concatenated(entries, kind, () if of_slots else RUN)
        self._check_seeds(rows, kind)
        return rows

    def _check_seeds(self, rows: pd.DataFrame, kind: str) -> None:
        """Raises InputError where a seed was scored less than another of the same setting."""
        counts = rows.groupby(["setting", "images", "seed"]).size()
        fewer = counts[counts < counts.groupby(["setting", "images"]).transform("max")]
        for (setting, images, seed), count in fewer.items():
            path = self.paths.metrics(setting, seed, images, kind)
            raise InputError(
                f"{path}: {count} rows, where another seed has more; restore it, or evaluate again"
            )

    @cached_property
    def methods(self) -> dict[str, MethodRecord]:
        """By title, the methods of other code that are scored on the table's images.

        All of them, whatever the table's ``references``, but for none. An ``eval_seed`` of theirs
        is a training, or whatever else their predictions are several of. A title that a setting, a
        baseline or a control has as well is followed by the method's name.
        """
        if self.spec.table.references == "none":
            return {}
        records = [
            record
            for name, record in read_methods(self.paths).items()
            if any(exists(self.paths.method(images, name)) for _, images in self._image_sets())
        ]
        if not records:
            return {}
        taken = {self.spec.label(name) for name in self.spec.table.settings}
        for method, (_, images) in product(self.spec.references, self._image_sets()):
            if exists(path := self.paths.reference(images, method)):
                taken |= set(read_table(path, "", REFERENCE)["name"])
        titles = (one.title + f" ({one.name})" * (one.title in taken) for one in records)
        return dict(zip(titles, records, strict=True))

    @property
    def credits(self) -> str:
        """Where these are from, for captions; empty without any."""
        sources = [
            f"{title} ({record.source})" if record.source else title
            for title, record in self.methods.items()
        ]
        return f"Of other code: {'; '.join(sources)}." if sources else ""

    def references(self, kind: str = "") -> pd.DataFrame:
        """The same of baselines, controls and methods of other code.

        With columns ``method`` (the stage's name, or the record's), ``kind`` (method, supervised or
        control).
        """
        names: list[tuple[Callable[..., Path], dict[str, Any]]] = [
            (self.paths.reference, {"method": method, "kind": BASELINES.get(method, "control")})
            for method in self.spec.references
        ]
        names += [
            (
                self.paths.method,
                {"method": record.name, "kind": record.kind, "name": title, "num_slots": 0},
            )
            for title, record in self.methods.items()
        ]
        entries = (
            (
                place(images, of_one["method"], kind),
                {**of_one, "row": row, "images": images},
                self.spec.protocols[row],
            )
            for place, of_one in names
            for row, images in self._image_sets()
        )
        return self._concatenated(entries, kind, REFERENCE)

    def _concatenated(
        self,
        entries: Iterable[tuple[Path, dict[str, Any], list[str]]],
        kind: str,
        columns: tuple[str, ...],
    ) -> pd.DataFrame:
        """The files that are there as one table, with the names of each entry.

        Raises InputError where two were scored on other labels of the same images.
        """
        tables = []
        for path, names, protocols in entries:
            if exists(path):
                table = read_table(path, kind, columns)
                self._check_labels(path, names["images"], labels_of(table))
                tables.append(_of_protocols(table, protocols).assign(**names))
        if tables:
            return pd.concat(tables)
        empty = {*RUN_KEYS, *REFERENCE_KEYS, "images", "eval_seed", "value", "n_images"}
        return pd.DataFrame(columns=sorted(empty))

    def _check_labels(self, path: Path, images: str, labels: str) -> None:
        first = self._labels.setdefault(images, (path, labels))
        if labels and not first[1]:
            self._labels[images] = (path, labels)
        elif kinds := differing_labels(first[1], labels):
            raise InputError(
                f"{path}: was scored on other labels than {first[0]} ({', '.join(kinds)}); score "
                "one of the two again, on the same labels"
            )

    @cached_property
    def _labels(self) -> dict[str, tuple[Path, str]]:
        """By image set, a metrics file and the labels that it was scored on."""
        return {}

    def _image_sets(self) -> Iterable[tuple[str, str]]:
        return ((row, name) for row, names in self.spec.images.items() for name in names)

    def run_metrics(self) -> pd.DataFrame:
        """Metrics by RUN_KEYS, means over evaluation seeds and a row's image sets.

        ``eval_sd`` is their std over evaluation seeds, NaN for a single one.
        """
        return _means(self.runs(), RUN_KEYS)

    def reference_metrics(self) -> pd.DataFrame:
        """The same of baselines, controls and methods of other code, by REFERENCE_KEYS.

        ``void``: share of images, in percent, where a method had nothing to go by. ``seeds``: the
        values of single seeds of a method of other code, which has no ``eval_sd``; else empty.
        """
        rows = self.references()
        void = rows.get("void", pd.Series(0.0, rows.index)).fillna(0.0)
        means = _means(rows, REFERENCE_KEYS)
        shares = void.groupby(rows["name"]).mean()
        by_seed = rows.groupby([*REFERENCE_KEYS, "eval_seed"], sort=False)["value"].mean()
        seeds = by_seed.groupby(REFERENCE_KEYS, sort=False).agg(list)
        other = means["name"].isin(list(self.methods))
        return means.assign(
            void=means["name"].map(shares),
            eval_sd=means["eval_sd"].mask(other),
            seeds=[values * of_other for values, of_other in zip(seeds, other, strict=True)],
        )

    def provenance(self, setting: str, seed: int) -> dict[str, Any]:
        """The provenance of a run; empty without the run."""
        path = self.paths.run(setting, seed) / PROVENANCE
        return read_provenance(path) if exists(path) else {}

    def history(self, setting: str, seed: int) -> pd.DataFrame:
        """Loss and learning rate of a run by ``step``; empty without the run."""
        path = self.paths.run(setting, seed) / HISTORY
        return read_table(path, "history") if exists(path) else pd.DataFrame()


def _of_protocols(metrics: pd.DataFrame, protocols: list[str]) -> pd.DataFrame:
    """A metrics file's rows, or columns of images, that are scored by one of ``protocols``."""
    if "protocol" in metrics:
        return metrics[metrics["protocol"].isin(protocols)]
    others = [name for name, pair in unpack(metrics).items() if pair[0] not in protocols]
    return metrics.drop(columns=others)


def of_first_protocol(metrics: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the paper's protocol, or of whatever there is, and their metrics in order."""
    paper = metrics[metrics["protocol"] == "paper"]
    rows = paper if len(paper) else metrics
    return rows, [name for name in METRICS if name in set(rows["metric"])]


def exists(path: Path) -> bool:
    """Whether a file is there. InputError for what is no file, or not compressed yet."""
    plain = path.with_suffix("")  # of NAME.csv.gz
    if path.is_file():
        return True
    if path.suffix == ".gz" and plain.exists():
        raise InputError(f"{plain}: such files are compressed now; run `gzip -n {plain}`")
    if os.path.lexists(path):
        raise InputError(f"{path}: not a regular file; restore it, or remove it")
    return False


def _means(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    value, n_images = ("value", "mean"), ("n_images", "first")
    by_seed = rows.groupby([*keys, "eval_seed"], sort=False)
    means = by_seed.agg(value=value, n_images=n_images).reset_index().groupby(keys, sort=False)
    return means.agg(value=value, eval_sd=("value", "std"), n_images=n_images).reset_index()


def read_published(path: Path | None = None) -> pd.DataFrame:
    """Published numbers with their sources; None: those of the package. Raises InputError."""
    return read_table(path or Path(__file__).with_name("published.csv"), "published")
