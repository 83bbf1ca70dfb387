"""What all parts of the configuration share: checking, merging and errors."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from mmqsa.config.files import quoted, read_yaml
from mmqsa.errors import InputError

MAX_COUNT = 10**12  # above any budget; what is larger overflows somewhere
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Steps = Annotated[int, Field(ge=1, le=10**9)]
Batch = Annotated[int, Field(ge=1, le=4096)]
Width = Annotated[int, Field(ge=1, le=16_384)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=1e-15, le=1e3, allow_inf_nan=False)]  # of learning
Fraction = Annotated[float, Field(ge=0, lt=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
# A path or a title: what no shell, file name or table could carry is refused.
Text = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]
Name = Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*$")]
MD5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


def _each_once(values: list[Any]) -> list[Any]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{quoted(value)} is there twice; name each once")
    return values


# What is listed twice would be computed twice, and count twice in a mean.
Item = TypeVar("Item")
Distinct = Annotated[list[Item], Field(max_length=1000), AfterValidator(_each_once)]
OneOrMore = Annotated[list[Item], Field(min_length=1, max_length=1000), AfterValidator(_each_once)]

# Top-level keys of config.yaml: those that `make config` writes, and all. A stage reads its own and
# skips the others.
KNOBS = (
    *("results", "device", "require_gpu", "scheduling", "dataset", "backbone", "features"),
    *("masking", "slots", "decoder", "training", "matching", "evaluation", "page"),
)
CONFIG_KEYS = (
    *(*KNOBS, "seeds", "other_datasets", "settings", "grid"),
    *("labels", "printed", "tables", "showcase"),
)


Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="wrap")
    @classmethod
    def _no_truth_for_a_number(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        """Pydantic takes true for 1; here ``steps: true`` is a slip."""
        section = handler(data)
        for name, value in data.items() if isinstance(data, dict) else ():
            if _truth_became_number(value, getattr(section, name, None)):
                raise ValueError(f"{name}: expected a number, not {quoted(value)}")
        return section


def _truth_became_number(given: Any, taken: Any) -> bool:
    """Whether a bool, or one in a list or mapping of plain values, was taken for a number."""
    if isinstance(given, bool):
        return not isinstance(taken, bool) and isinstance(taken, int | float)
    if isinstance(given, list) and isinstance(taken, list):
        return any(map(_truth_became_number, given, taken))
    return False


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
        raise InputError(
            f"{key}: {quoted(path)} names an environment variable that is not set; set it"
        )
    return expanded


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` over it, mapping by mapping."""
    result = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if nested else value
    return result


# A validation's context where values only describe: a finished run, or a setting that is not run.
DESCRIBES: dict[str, Any] = {"describes": True}


def to_be_carried_out(info: ValidationInfo) -> bool:
    """Whether what is validated is about to be run, so that it must be possible."""
    return info.context != DESCRIBES


def key_text(part: str | int) -> str:
    """A key as it is, or as a literal where it is not a plain word."""
    return str(part) if re.fullmatch(r"[\w.-]{1,100}", str(part)) else quoted(part)


def first_error(error: ValidationError) -> str:
    """The first error of a validation as ``key: what is wrong with it``."""
    details = error.errors()[0]
    where = ".".join(map(key_text, details["loc"]))
    if details["type"] == "extra_forbidden":
        return f"{where}: no such key; remove it or correct its spelling"
    if details["type"] == "value_error":
        fault = str(details["ctx"]["error"])
        names_key = re.match(r"[a-z_]+(\.\w+)*: ", fault)  # below ``where``
        return f"{where}{'.' if names_key else ': '}{fault}" if where else fault
    return f"{where}: {details['msg']}, not {quoted(details['input'])}"


def validated(
    model: type[Model],
    data: dict[str, Any],
    origin: str | Path,
    context: dict[str, Any] | None = None,
) -> Model:
    """``data`` as a ``model``. Raises InputError that names ``origin`` and the faulty key."""
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        raise InputError(f"{origin}: {first_error(error)}") from None
