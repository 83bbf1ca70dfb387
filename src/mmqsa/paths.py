"""Where everything lies below a results folder: the one place that rules and reporting ask.

Names may be Snakemake's wildcards: ``Paths(Path("results")).run("{setting}", "{seed}")``.
"""

import os
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
HISTORY = "history.csv"
PROVENANCE = "provenance.json"
SIMILARITY = "similarity.safetensors"  # of a run, once it is learned
FUSION = "fusion.safetensors"  # the same
LEARNED = (SIMILARITY, FUSION)  # each has a record beside it, with the suffix .json
SNAPSHOTS = "snapshots"  # folder of a run: its weights at the steps of training.snapshots
METRICS = "metrics"  # folder of a run: its scores
CHECKPOINT = "resume.pt"  # of an unfinished run, never a declared output of a rule
COMPRESSED = ("per_image", "per_object")  # kinds of metrics files that have thousands of rows


@dataclass(frozen=True)
class Paths:
    """The files below ``results``."""

    results: Path

    def cache(self, dataset: str, images: str) -> Path:
        """The feature cache of a split or one of its variants."""
        return self.results / "features" / dataset / f"{images}.h5"

    def identity(self, dataset: str, images: str) -> Path:
        """What that cache was made with: small, so that rules compare its content."""
        return self.cache(dataset, images).with_suffix(".json")

    def run(self, setting: str, seed: int | str) -> Path:
        """The folder of a run: WEIGHTS, CONFIG, HISTORY, PROVENANCE and metrics/."""
        return self.results / "runs" / setting / f"seed{seed}"

    def metrics(self, setting: str, seed: int | str, image_set: str, kind: str = "") -> Path:
        """The metrics of a run; ``kind`` one of COMPRESSED, sweep, snapshots, agreement, slots."""
        return beside(self.run(setting, seed) / METRICS / f"{image_set}.csv", kind)

    def reference(self, image_set: str, method: str, kind: str = "") -> Path:
        """The metrics of a baseline, of the controls, or of the premise."""
        return beside(self.results / "controls" / f"{image_set}-{method}.csv", kind)

    def method(self, image_set: str, name: str, kind: str = "") -> Path:
        """The metrics of a method of other code: in a folder of its own, whatever its name is."""
        return beside(self.methods / name / f"{image_set}.csv", kind)

    @property
    def methods(self) -> Path:
        """The folder of methods of other code: a record NAME.yaml and a folder of scores each."""
        return self.results / "methods"

    @property
    def page(self) -> Path:
        """The folder of the page, which can be sent."""
        return self.results / "page"

    def stage_config(self, name: str) -> Path:
        """The YAML file that a stage reads."""
        return self.results / "config" / f"{name}.yaml"

    def table(self, name: str, suffix: str) -> Path:
        """A table: csv, md, tex or html."""
        return self.results / "tables" / f"{name}.{suffix}"

    def figure(self, name: str, kind: str, suffix: str) -> Path:
        """A figure of a table, or of the showcase: pdf or png."""
        return self.results / "figures" / f"{name}-{kind}.{suffix}"

    def log(self, name: str) -> Path:
        """The log of a rule's job."""
        return self.results / "logs" / f"{name}.log"


def beside(metrics: Path, kind: str) -> Path:
    """The file of another kind beside a metrics file; without a kind, that file itself."""
    suffix = ".csv.gz" if kind in COMPRESSED else ".csv"
    return metrics.with_name(f"{metrics.stem}-{kind}{suffix}") if kind else metrics


def label_maps_path(metrics: Path) -> Path:
    """The file of the label maps that a metrics file is about."""
    return metrics.with_name(f"{metrics.stem}-label_maps.h5")


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is ``folder`` or below it, wherever links lead."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
