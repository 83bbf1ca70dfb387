"""What made a cache's features: as text in its file, and compared by every stage that reads it."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmqsa.config.base import Name, Text, validated
from mmqsa.config.choices import GeometryName
from mmqsa.config.data import Mean, Std
from mmqsa.config.files import quoted
from mmqsa.config.tables import NAME, SPLIT
from mmqsa.errors import InputError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CacheAttributes(BaseModel):
    """The schema; further keys, of a later version, are kept."""

    model_config = ConfigDict(extra="allow", strict=True)

    dataset: Name
    split: Annotated[str, Field(pattern=rf"^(?:{SPLIT})$")]
    ids_sha256: Sha256
    geometry: GeometryName
    backbone: Text
    weights_sha256: Sha256
    feature: Literal["key", "query", "value", "token"]
    blocks: Annotated[list[Annotated[int, Field(ge=0, lt=1000)]], Field(min_length=1)]
    combine: Literal["concatenate", "sum"]
    position_rule: Literal["dino", "timm", "rotary"]
    image_size: Annotated[int, Field(ge=1, le=4096)]
    grid: Annotated[int, Field(ge=2, le=512)]
    mean: Mean
    std: Std
    precision: Literal["fp32", "tf32", "bf16", "fp16"]
    num_classes: Annotated[int, Field(ge=1, le=254)]
    corruption: Annotated[str, Field(pattern=rf"^{NAME}[1-5]$")] | None
    exif_turned: Annotated[int, Field(ge=1)] | None = None  # absent: none is
    features_sha256: Sha256 | None = None  # once the cache is finished

    @model_validator(mode="after")
    def _patches_are_whole(self) -> Self:
        if self.image_size % self.grid:
            raise ValueError(
                f"image_size: {self.image_size} px are not divided by a grid of {self.grid} patches"
            )
        return self


# Those that must be equal in every cache that one model is used on.
NETWORK_ATTRIBUTES = (
    *("backbone", "weights_sha256", "feature", "blocks", "combine", "image_size", "grid"),
    *("mean", "std", "position_rule", "precision"),
)


def parse_attributes(text: Any, path: Path) -> dict[str, Any]:
    """The attributes in a cache's text. Raises InputError that names the cache and the key."""
    try:
        data = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise InputError(
            f"{path}: its attributes are no JSON text but {quoted(text)}; extract again"
        ) from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: its attributes are {quoted(data)}; extract again")
    validated(CacheAttributes, data, f"{path}: attributes")
    return data


def check_attributes(
    attributes: dict[str, Any],
    expected: dict[str, Any],
    path: str | Path,
    reader: str = "this stage",
) -> None:
    """Raises InputError that shows the first difference, and which reader expects it."""
    for name, value in expected.items():
        if attributes.get(name) != value:
            raise InputError(
                f"{path}: made with {name} = {quoted(attributes.get(name))}, but {reader} expects "
                f"{quoted(value)}; use what it was made with, or delete it and extract again"
            )
