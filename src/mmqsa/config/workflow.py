"""The whole of config.yaml: the knobs of every stage, the settings of the ablation, the tables."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from itertools import chain, permutations, product
from typing import Annotated, Any, Self, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from mmqsa.config.base import (
    DESCRIBES,
    Name,
    StageConfig,
    Text,
    first_error,
    key_text,
    merged,
    validated,
)
from mmqsa.config.choices import MatchingName
from mmqsa.config.data import (
    DatasetConfig,
)
from mmqsa.config.evaluation import (
    LEARNED,
    SAME_MASKS,
    ScoringConfig,
)
from mmqsa.config.files import quoted
from mmqsa.config.model import PAPERS_SCORE, score_name
from mmqsa.config.scheduling import SchedulingConfig, SeedsConfig
from mmqsa.config.stages import STAGES
from mmqsa.config.tables import SPLIT, ImageSet, Label, PageConfig, Table
from mmqsa.config.training import RUN_SECTIONS, RunConfig


class Config(RunConfig, ScoringConfig, SeedsConfig):
    """The whole of config.yaml."""

    results: Text = "results"
    """folder for all outputs"""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """auto | cpu | cuda | cuda:N; cpu lifts the limit of one training per GPU"""
    require_gpu: bool = False
    """true: `auto` stops where there is no GPU instead of using the CPU"""
    scheduling: SchedulingConfig = SchedulingConfig()
    page: PageConfig = PageConfig()
    other_datasets: dict[Name, DatasetConfig] = {}
    """further data sets to evaluate on, which the `images` of a table name; null takes one away"""
    settings: dict[Name, dict[str, Any]] = {"full": {}}
    """named points of the ablation: what differs from the sections above"""
    grid: dict[str, list[Name]] | list[Name] | None = None
    """settings to run: groups of them, which add up; null: all"""
    labels: dict[Name, Label] = {}
    """printed name of a setting, the same in every table and figure; {score} stands for its masking
    score"""
    printed: list[Name] | None = None
    """the tables to make, of those below; null: all"""
    tables: dict[Name, Table] = {}
    """what can be printed; null removes a table of the config below"""
    showcase: Name = "full"
    """the paper's method: compared with published values, its first seed shown in images"""

    @field_validator("tables", mode="before")
    @classmethod
    def _to_make(cls, tables: Any, info: ValidationInfo) -> Any:
        """The tables to make; those that are left out may name settings that nobody tries."""
        if not isinstance(tables, dict):
            return tables  # which pydantic refuses
        tables = {name: table for name, table in tables.items() if table is not None}
        printed = info.data.get("printed")
        if unknown := sorted(set(printed or []) - set(tables)):
            raise ValueError(
                f"unknown table {quoted(unknown[0])} in printed; "
                f"expected one of {', '.join(map(str, tables))}"
            )
        return tables if printed is None else {name: tables[name] for name in printed}

    @field_validator("other_datasets", mode="before")
    @classmethod
    def _still_there(cls, datasets: Any) -> Any:
        """null takes one of the config below away."""
        if not isinstance(datasets, dict):
            return datasets
        return {name: one for name, one in datasets.items() if one is not None}

    @model_validator(mode="after")
    def _data_sets_differ(self) -> Self:
        if self.dataset.name in self.other_datasets:
            raise ValueError(
                f"other_datasets.{self.dataset.name}: has the name of the data set that is trained "
                "on; give it another, or null to take it away"
            )
        places: dict[str, str] = {}
        for name, dataset in self.datasets.items():
            root = os.path.realpath(dataset.root)
            if root in places:
                raise ValueError(
                    f"other_datasets: {places[root]} and {name} have one root, "
                    f"{quoted(dataset.root)}; give each its own"
                )
            places[root] = name
        for one, other in permutations(self.datasets, 2):
            split = f"{other.removeprefix(one + '-')}-val"
            if split != f"{other}-val" and re.fullmatch(SPLIT, split):
                raise ValueError(
                    f"other_datasets: the split {split} of {one} and val of {other} would both be "
                    f"called {other}-val; give one of the two another name"
                )
        return self

    @model_validator(mode="after")
    def _splits_exist(self) -> Self:
        for key in ("train_split", "eval_split"):
            try:
                self.dataset.check_split(getattr(self.dataset, key))
            except ValueError as error:
                raise ValueError(f"dataset.{key}: {error}") from None
        return self

    @model_validator(mode="after")
    def _images_have_enough_patches(self) -> Self:
        methods = {"kmeans_clusters": "kmeans", "cut_segments": "normalised-cut"}
        for key, method in methods.items():
            most, patches = max(getattr(self.evaluation, key)), self.backbone.num_patches
            if patches and most > patches and method in self.evaluation.baselines:
                raise ValueError(
                    f"evaluation.{key}: {most}, but an image has {patches} patches; name no more "
                    "than these"
                )
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for name, changes in self.settings.items():
            if others := set(changes) - {*RUN_SECTIONS, "seeds"}:
                raise ValueError(
                    f"settings.{name}.{key_text(min(others))}: a setting may change "
                    f"{', '.join(RUN_SECTIONS)} and seeds; everything else is fixed for the whole "
                    "config"
                )
            self.setting(name)
            self.seeds_of(name)
        self._check_settings("grid", self.names)
        self._check_settings("showcase", [self.showcase])
        self._check_settings("labels", self.labels)
        if not self.names:
            raise ValueError("grid: names no setting; name one, or null for all")
        if self.showcase not in self.names:  # figures show its first run
            raise ValueError(
                f"showcase: {self.showcase} is not run; name one of {', '.join(self.names)}, or "
                "add it to grid"
            )
        self._check_settings("page.settings", self.page.settings)
        for name, table in self.tables.items():
            self._check_table(f"tables.{name}", table)
        return self

    def _check_settings(self, where: str, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.settings:
                known = ", ".join(self.settings)
                raise ValueError(
                    f"{where}: unknown setting {quoted(name)}; expected one of {known}"
                )

    def _check_table(self, where: str, table: Table) -> None:
        self._check_settings(f"{where}.settings", table.settings)
        compared = [name.split("/")[0] for claim in table.claims for name in claim.order]
        compared += chain(*table.curve.lines.values()) if table.curve else []
        for name in compared:
            if name not in (table.settings or self.settings):
                raise ValueError(
                    f"{where}: its claims or curve name {name}, which is not among its settings; "
                    "add it there"
                )
        for name in table.labels:
            if name in self.settings and name not in get_args(MatchingName):
                raise ValueError(
                    f"{where}.labels.{name}: a setting has one name in all tables; write it as "
                    f"labels.{name} of the whole config"
                )
            if name not in get_args(MatchingName):
                known = ", ".join(get_args(MatchingName))
                raise ValueError(
                    f"{where}.labels: unknown matching {quoted(name)}; expected one of {known}"
                )
        key, scored = "matching.strategies", self.matching.strategies
        if table.kind == "sweep":
            key, scored = "evaluation.sweep.strategies", self.evaluation.sweep.strategies
        for name in table.matchings:
            if name not in scored:
                raise ValueError(f"{where}.matchings: {name} is not scored; add it to {key}")
        if all(pair in SAME_MASKS for pair in product(table.matchings, table.mask_sources)):
            raise ValueError(
                f"{where}.mask_sources: {table.matchings[0]} has no masks of its own from these; "
                "add decoder"
            )
        for image_set in chain(*self.image_sets(table).values()):
            if image_set.protocol == "single" and (
                not self.evaluation.single_boxes or table.kind in ("sweep", "snapshots")
            ):
                raise ValueError(
                    f"{where}.images: the protocol single is not scored; set "
                    "evaluation.single_boxes, and ask for it in no sweep and no snapshots"
                )
            if image_set.dataset not in self.datasets:
                raise ValueError(
                    f"{where}.images: unknown data set {image_set.dataset!r}; expected one of "
                    f"{', '.join(self.datasets)}"
                )
            if not self.rows(table):
                continue  # it is not made
            try:
                self.datasets[image_set.dataset].check_split(image_set.split)
            except ValueError as error:
                raise ValueError(f"{where}.images: {image_set.name}: {error}") from None
            if image_set.geometry == "native":
                self._check_own_size(where, table)
        self._check_scores(where, table)

    def _check_own_size(self, where: str, table: Table) -> None:
        """What photographs at their own size cannot be scored with; evaluation/native.py."""
        if "attention" not in {*table.mask_sources} & {*self.evaluation.mask_sources}:
            raise ValueError(
                f"{where}.mask_sources: a decoder has positions for the patches of a square alone, "
                "and its images have their own size; add attention, here and to "
                "evaluation.mask_sources"
            )
        standardised = {"features": self} | {
            f"settings.{name}.features": self.setting(name) for name in self.rows(table)
        }
        for key, config in standardised.items():
            if config.features.standardise == "position":
                raise ValueError(
                    f"{key}.standardise: position has a mean for each patch of a square, and the "
                    f"images of {where} have their own size; choose feature or none"
                )

    def _check_scores(self, where: str, table: Table) -> None:
        """What a table's scores are made of must be scored, and learned where it can be."""
        if table.kind in ("compute", "provenance"):
            return
        if not {*table.mask_sources} & {*self.evaluation.mask_sources}:
            raise ValueError(
                f"{where}.mask_sources: {table.mask_sources[0]} is not scored; add it to "
                "evaluation.mask_sources"
            )
        first, needed = self.matching.strategies[0], set(table.matchings)
        if table.kind == "sweep":
            needed = LEARNED & {*self.evaluation.sweep.strategies} or needed
        if table.kind == "snapshots" and first in LEARNED:
            raise ValueError(
                f"matching.strategies: snapshots ({where}) are scored by the first, and {first} is "
                "learned at the end of a training; put another first, such as hungarian"
            )
        for name in self.rows(table):
            if self.setting(name).slots.num_heads == 1 and needed <= LEARNED:
                fix = "add hungarian to its matchings"
                if table.kind == "sweep":
                    fix = f"{min(needed)} out of evaluation.sweep.strategies"
                raise ValueError(
                    f"{where}: {min(needed)} is learned from several heads, and the setting {name} "
                    f"has one; take {name} out of its settings, or {fix}"
                )

    @property
    def datasets(self) -> dict[str, DatasetConfig]:
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
        """Label of a table's row -> the image sets that it is the mean of.

        The evaluation split comes first, the others by name: an order that does not depend on
        which config file adds which.
        """
        evaluated = [self.split_set(self.dataset.eval_split)]
        if not table.images:
            return {"": evaluated}
        rows = {
            label: [ImageSet.parse(name, self.dataset.name) for name in names]
            for label, names in table.images.items()
            if names is not None
        }

        def place(row: tuple[str, list[ImageSet]]) -> tuple[bool, str]:
            usual = row[1] == evaluated and not row[1][0].protocol
            return not usual, row[0]

        return dict(sorted(rows.items(), key=place))

    @property
    def names(self) -> list[str]:
        """The settings that are run."""
        if self.grid is None:
            return list(self.settings)
        groups = self.grid.values() if isinstance(self.grid, dict) else [self.grid]
        return list(dict.fromkeys(chain(*groups)))

    @cached_property
    def printed_names(self) -> dict[str, str]:
        """What each setting that is run is called in tables and figures; no two alike."""
        named = {}
        for name in self.names:
            score = self.setting(name).masking.score
            words = score_name(score) + " (the paper)" * (score == PAPERS_SCORE)
            named[name] = self.labels.get(name, name).replace("{score}", words)
        alike = Counter(named.values())
        return {
            name: f"{label} ({name})" if alike[label] > 1 else label
            for name, label in named.items()
        }

    def rows(self, table: Table) -> list[str]:
        """The settings of a table that are run."""
        run = set(self.names)
        return [name for name in table.settings or self.settings if name in run]

    def seeds_of(self, name: str) -> list[int]:
        """The seeds that a setting is trained with."""
        own = {key: value for key, value in self.settings[name].items() if key == "seeds"}
        try:
            return SeedsConfig.model_validate({"seeds": self.seeds} | own).seeds
        except ValidationError as error:
            raise ValueError(f"settings.{name}.{first_error(error)}") from None

    def tables_with(self, setting: str, image_set: ImageSet) -> list[Table]:
        """The tables that print a setting's scores on an image set."""
        return self._tables_by_scores.get((setting, image_set), [])

    @cached_property
    def _tables_by_scores(self) -> dict[tuple[str, ImageSet], list[Table]]:
        """The same for every pair: a workflow asks for each of thousands of jobs."""
        by_scores: dict[tuple[str, ImageSet], list[Table]] = {}
        for table in self.tables.values():
            for pair in product(self.rows(table), set(chain(*self.image_sets(table).values()))):
                by_scores.setdefault(pair, []).append(table)
        return by_scores

    def setting(self, name: str) -> RunConfig:
        """The configuration of the runs of one setting; one that is not run may be impossible."""
        context = None if name in self.names else DESCRIBES
        sections = self.model_dump(include=set(RunConfig.model_fields))
        try:
            changed = merged(sections, self.settings[name])
            mine = {key: changed[key] for key in sections}
            return RunConfig.model_validate(mine, context=context)
        except ValidationError as error:
            raise ValueError(f"settings.{name}.{first_error(error)}") from None

    def stage(self, name: str) -> StageConfig:
        """What the stage ``name``, one of STAGES, reads."""
        stage = STAGES[name]
        return stage.model_validate(self.model_dump(include=set(stage.model_fields)))

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Self:
        """Check an already merged config, such as Snakemake's. Raises InputError."""
        return validated(cls, _with_nulls(data), "config")


def _with_nulls(data: Any) -> Any:
    """Snakemake's --config gives the text ``null`` for YAML's null."""
    if isinstance(data, dict):
        return {key: _with_nulls(value) for key, value in data.items()}
    return None if data == "null" else data
