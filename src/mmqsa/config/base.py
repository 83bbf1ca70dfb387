"""What all parts of the configuration share: reading, checking, merging and writing YAML."""

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmqsa.errors import InputError

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*$")]
MD5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]

# Top-level keys of config.yaml: those that `make config` writes, and all. A stage reads its own and
# skips the others.
KNOBS = (
    *("results", "device", "require_gpu", "scheduling", "dataset", "backbone", "features"),
    *("masking", "slots", "decoder", "training", "matching", "evaluation"),
)
CONFIG_KEYS = (
    *(*KNOBS, "seeds", "other_datasets", "settings", "grid"),
    *("printed", "tables", "showcase"),
)


Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class StageConfig(Section):
    """The sections that a stage reads. A section that the file leaves out has its defaults."""

    depends_on: ClassVar[dict[str, Any]]
    """The keys that the stage's output depends on, as pydantic's ``include``."""

    @classmethod
    def load(cls, *paths: str | Path | None) -> Self:
        """Read YAML files, later ones over earlier ones; each may be the whole config.yaml.

        Without a file, the defaults. Raises InputError that names the file and the key.
        """
        files = [path for path in paths if path is not None]
        data: dict[str, Any] = {}
        for path in files:
            data = merged(data, read_yaml(path))
        others = set(CONFIG_KEYS) - set(cls.model_fields)
        mine = {key: data[key] for key in data if key not in others}
        return validated(cls, mine, files[-1] if files else "defaults")

    def changed(self, origin: str, changes: dict[str, Any]) -> Self:
        """A copy with ``changes``. Raises InputError that names ``origin``."""
        return validated(type(self), merged(self.model_dump(), changes), origin)

    def dependencies(self) -> dict[str, Any]:
        """What the stage's output depends on, as plain data."""
        return self.model_dump(mode="json", include=self.depends_on)


def expand(path: str, key: str) -> str:
    """``path`` with ``~`` and environment variables filled in.

    Raises InputError that names ``key`` when a variable is not set.
    """
    expanded = os.path.expandvars(os.path.expanduser(path))
    if "$" in expanded:
        raise InputError(f"{key}: {path!r} names an environment variable that is not set; set it")
    return expanded


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file's mapping. Raises InputError on a missing or malformed file."""
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputError(f"{path}: a config file is a mapping of sections")
    return data


def dump_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML, keys in their given order."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` over it, mapping by mapping."""
    result = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if nested else value
    return result


def first_error(error: ValidationError) -> str:
    """The first error of a validation as ``key: what is wrong with it``."""
    details = error.errors()[0]
    where = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        return f"{where}: no such key; remove it or correct its spelling"
    if details["type"] == "value_error":
        return f"{where + ': ' if where else ''}{details['ctx']['error']}"
    return f"{where}: {details['msg']}, not {details['input']!r}"


def validated(model: type[Model], data: dict[str, Any], origin: str | Path) -> Model:
    """``data`` as a ``model``. Raises InputError that names ``origin`` and the faulty key."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{origin}: {first_error(error)}") from None
