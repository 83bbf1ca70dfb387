"""The whole of ``config.yaml``: the settings' sections, and on top of them the ablation grid.

The schema that Snakemake checks is written from here:
``python -m mmqsa.config > workflow/schemas/config.schema.yaml``.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from mmqsa.settings import (
    RUN_SECTIONS,
    MatchingName,
    Name,
    Section,
    Seed,
    Settings,
    dump_yaml,
    first_fault,
    merged,
    read_yaml,
    validated,
)


class Table(Section):
    """One table: its rows are settings, under one or more matchings."""

    caption: str
    settings: Annotated[list[Name], Field(min_length=1)]
    matchings: Annotated[list[MatchingName], Field(min_length=1)] = ["hungarian"]
    published: list[str] = []
    """Protocols of resources/published.csv to stand beneath."""
    labels: dict[str, str] = {}
    """What a row is called in print, by its setting or matching."""


class Config(Settings):
    """The whole of config.yaml."""

    results: str = "results"
    """Folder that everything is written to."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """cpu frees the trainings from the one-per-GPU rule."""
    require_gpu: bool = False
    """With `auto`: stop where there is no GPU instead of computing on the CPU."""
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0, 1, 2, 3, 4]
    """Every setting is trained once per seed."""
    settings: dict[Name, dict[str, Any]] = {"full": {}}
    """Named points of the ablation grid: only what differs from the sections above."""
    grid: list[Name] | None = None
    """Which of the settings to run; null: all."""
    tables: dict[Name, Table] = {}
    showcase: Name = "full"
    """The setting whose first seed the qualitative figure shows."""

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
        return self

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
