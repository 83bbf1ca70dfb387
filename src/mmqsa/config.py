"""The whole of ``config.yaml``: the settings' sections, and on top of them the ablation grid.

The schema that Snakemake checks is written from here:
``python -m mmqsa.config > workflow/schemas/config.schema.yaml``.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from mmqsa.settings import (
    RUN_SECTIONS,
    Dataset,
    MaskSource,
    MatchingName,
    Name,
    Positive,
    Section,
    Seed,
    Settings,
    dump_yaml,
    first_fault,
    merged,
    read_yaml,
    validated,
)

# Image sets by name. The corruptions are those of data/corruptions.py, which needs SciPy's filters.
NAME = r"[A-Za-z0-9]+(?:[-_.][A-Za-z0-9]+)*"
SPLIT = r"(?:detection-)?(?:train|val|trainval)|trainaug|all-but-val"
VARIANT = r"squash|released|(?:noise|blur|contrast|jpeg|fog|pixelate)[1-5]"


@dataclass(frozen=True)
class ImageSet:
    """Images that a run can be scored on: a split of a data set, as it is or changed.

    ``variant`` is empty, a geometry other than crop, or a corruption and its severity (fog3).
    """

    dataset: str
    split: str
    variant: str

    @classmethod
    def parse(cls, name: str, dataset: str) -> "ImageSet":
        """From ``[DATASET/]SPLIT[-VARIANT]``; ``dataset`` where none is named."""
        match = re.fullmatch(rf"(?:({NAME})/)?({SPLIT})(?:-({VARIANT}))?", name)
        if match is None:
            raise ValueError(
                f"{name!r} is no set of images; say [DATASET/]SPLIT[-VARIANT], such as val, "
                "val-fog3, detection-trainval-squash or scenes/val"
            )
        return cls(match[1] or dataset, match[2], match[3] or "")

    @property
    def file(self) -> str:
        """What its cache is called below ``features/{dataset}``, without suffix."""
        return f"{self.split}-{self.variant}" if self.variant else self.split

    @property
    def name(self) -> str:
        """What its metrics are called."""
        return f"{self.dataset}-{self.file}"


class Claim(Section):
    """One claim of the paper, as an order of runs."""

    says: str
    source: str
    """Where the paper says so."""
    order: Annotated[list[str], Field(min_length=1)]
    """From worst to best, SETTING or SETTING/MATCHING; a single one is held against the paper's
    own values."""
    of: Literal["mean", "spread"] = "mean"
    """mean: of a metric, over seeds. spread: over seeds, which the last has least of."""


class Curve(Section):
    """A figure of every metric against one of the settings."""

    against: str
    """SECTION.KEY, such as slots.heads."""
    lines: dict[str, list[Name]] = {}
    """What a line is called -> its settings; empty: one line of all the table's."""


class Table(Section):
    """One table: its rows are settings, under one or more matchings, on one or more image sets."""

    kind: Literal[
        "metrics", "sweep", "strata", "comparisons", "claims", "diagnosis", "compute", "provenance"
    ] = "metrics"
    """sweep: other slots and iterations at evaluation; strata: by size and number of objects;
    comparisons: every setting against the first, image by image; claims: a verdict for each;
    diagnosis: signs of failure of the first setting; compute: what trainings took; provenance: what
    made every run."""
    caption: str
    settings: list[Name] = []
    """Rows; those that are not run are left out. Empty: all that are run."""
    matchings: Annotated[list[MatchingName], Field(min_length=1)] = ["hungarian"]
    mask_sources: Annotated[list[MaskSource], Field(min_length=1)] = ["decoder", "attention"]
    images: dict[str, list[str] | None] = {}
    """What a row says -> image sets whose mean it shows; empty: the evaluation split alone.
    null takes a row away."""
    updates: bool = False
    """Say how many updates each head got."""
    references: Literal["all", "best", "none"] = "best"
    """What stands beneath of controls and other methods on the same keys; best: the best of each
    method, and every control that is best in something."""
    published: list[str] = []
    """Protocols of resources/published.csv to stand beneath."""
    labels: dict[str, str] = {}
    """What a row is called in print, by its setting or matching."""
    intervals: bool = False
    """Print the 95 % interval of every mean over seeds beneath it."""
    claims: list[Claim] = []
    """Of the kind claims."""
    curve: Curve | None = None
    """Drawn besides."""
    figures: list[Literal["controls", "training", "strata", "severity", "similarity"]] = []
    """Drawn besides: settings beside controls; losses; objects by size; metrics against a
    corruption's severity; how alike the heads' slots are (of a diagnosis)."""

    @property
    def drawn(self) -> list[str]:
        """All figures of the table."""
        return [*(["curve"] if self.curve else []), *self.figures]


class Scheduling(Section):
    """What jobs are expected to take, and so what a scheduler is asked for; no number depends on
    it."""

    gpu_tflops: Positive = 200.0
    """10^12 operations a second of a training on the GPU."""
    cpu_tflops: Positive = 0.1
    """The same of one CPU core."""
    margin: Positive = 3.0
    """A job's time limit over its expected time."""


class Config(Settings):
    """The whole of config.yaml."""

    results: str = "results"
    """Folder that everything is written to."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """cpu frees the trainings from the one-per-GPU rule."""
    require_gpu: bool = False
    """With `auto`: stop where there is no GPU instead of computing on the CPU."""
    scheduling: Scheduling = Scheduling()
    other_datasets: dict[Name, Dataset] = {}
    """To evaluate on, besides the one that is trained on; a table's `images` names them."""
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0, 1, 2, 3, 4]
    """Every setting is trained once per seed."""
    settings: dict[Name, dict[str, Any]] = {"full": {}}
    """Named points of the ablation grid: only what differs from the sections above."""
    grid: list[Name] | None = None
    """Which of the settings to run; null: all."""
    tables: dict[Name, Table | None] = {}
    """null takes away a table of the config below."""
    showcase: Name = "full"
    """The paper's method: held against the paper's values, and shown in images (first seed)."""

    @field_validator("tables")
    @classmethod
    def _without_removed(cls, tables: dict[str, Table | None]) -> dict[str, Table]:
        return {name: table for name, table in tables.items() if table is not None}

    @model_validator(mode="after")
    def _grid_is_sound(self) -> "Config":
        for name, changes in self.settings.items():
            strangers = set(changes) - set(RUN_SECTIONS)
            if strangers:
                raise ValueError(
                    f"settings.{name}.{min(strangers)}: a setting may change "
                    f"{', '.join(RUN_SECTIONS)}; all else has one value for the whole config"
                )
            self.setting(name)
        for where, names in {
            "grid": self.grid or [],
            "showcase": [self.showcase],
            **{f"tables.{name}.settings": table.settings for name, table in self.tables.items()},
        }.items():
            missing = [name for name in names if name not in self.settings]
            if missing:
                known = ", ".join(self.settings)
                raise ValueError(f"{where}: no setting is called {missing[0]!r}; there are {known}")
        for name, table in self.tables.items():
            used = [own.split("/")[0] for claim in table.claims for own in claim.order]
            used += chain(*table.curve.lines.values()) if table.curve else []
            strangers = [own for own in used if own not in (table.settings or self.settings)]
            if strangers:
                raise ValueError(
                    f"tables.{name}: {strangers[0]} stands in its claims or curve, but not among "
                    "its settings; add it there"
                )
            if table.curve:
                section, _, key = table.curve.against.partition(".")
                if key not in getattr(type(getattr(self, section, None)), "model_fields", {}):
                    raise ValueError(
                        f"tables.{name}.curve.against: there is no setting "
                        f"{table.curve.against!r}; say SECTION.KEY, such as slots.heads"
                    )
            strangers = [own for own in table.matchings if own not in self.matching.strategies]
            if strangers:
                raise ValueError(
                    f"tables.{name}.matchings: {strangers[0]} is not scored; add it to "
                    "matching.strategies"
                )
            for image_set in chain(*self.image_sets(table).values()):
                if image_set.dataset not in self.datasets:
                    raise ValueError(
                        f"tables.{name}.images: no data set is called {image_set.dataset!r}; "
                        f"there are {', '.join(self.datasets)}"
                    )
        return self

    @property
    def datasets(self) -> dict[str, Dataset]:
        """All data sets by name: the one that is trained on, and the others."""
        others = {
            name: dataset.model_copy(update={"name": name})
            for name, dataset in self.other_datasets.items()
        }
        return others | {self.dataset.name: self.dataset}

    def split_set(self, split: str) -> ImageSet:
        """A split of the data set that is trained on, in its geometry."""
        geometry = self.dataset.geometry
        return ImageSet(self.dataset.name, split, "" if geometry == "crop" else geometry)

    def image_sets(self, table: Table) -> dict[str, list[ImageSet]]:
        """What a table's rows say -> the image sets that they are means over.

        The evaluation split first and the others by name: an order that does not depend on which
        config file says which.
        """
        own = [self.split_set(self.dataset.eval_split)]
        if not table.images:
            return {"": own}
        rows = {
            label: [ImageSet.parse(name, self.dataset.name) for name in names]
            for label, names in table.images.items()
            if names is not None
        }
        return dict(sorted(rows.items(), key=lambda row: (row[1] != own, row[0])))

    def rows(self, table: Table) -> list[str]:
        """The settings of a table that are run."""
        run = set(self.names)
        return [name for name in table.settings or self.settings if name in run]

    def tables_with(self, setting: str, image_set: ImageSet) -> list[Table]:
        """The tables that print a setting's scores on an image set."""
        return self.printing.get((setting, image_set), [])

    @cached_property
    def printing(self) -> dict[tuple[str, ImageSet], list[Table]]:
        """The same for every pair: a workflow asks for each of thousands of jobs."""
        found: dict[tuple[str, ImageSet], list[Table]] = {}
        for table in self.tables.values():
            for pair in product(self.rows(table), set(chain(*self.image_sets(table).values()))):
                found.setdefault(pair, []).append(table)
        return found

    @classmethod
    def load(cls, *paths: str | Path) -> "Config":
        """Read config files, later ones over earlier ones. Raises InputError."""
        data: dict[str, Any] = {}
        for path in paths:
            data = merged(data, read_yaml(path))
        return validated(cls, data, paths[-1])

    @classmethod
    def parse(cls, data: dict[str, Any]) -> "Config":
        """Check an already merged config, such as Snakemake's. Raises InputError."""
        return validated(cls, data, "config")

    @property
    def names(self) -> list[str]:
        """The settings that are run."""
        return self.grid if self.grid is not None else list(self.settings)

    def setting(self, name: str) -> Settings:
        """The resolved settings of one named point of the ablation grid."""
        try:
            return Settings.model_validate(merged(self.sections(), self.settings[name]))
        except ValidationError as error:
            raise ValueError(f"settings.{name}.{first_fault(error)}") from None


def config_schema() -> dict[str, Any]:
    """The JSON schema of config.yaml."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


if __name__ == "__main__":
    print("# Written by `make schema` from src/mmqsa/settings.py and config.py: edit that.")
    print(dump_yaml(config_schema()), end="")
