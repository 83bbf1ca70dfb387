"""What made a run, as plain data: the door of ``provenance.json``."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mmqsa.config.base import Finite, Seed, validated
from mmqsa.config.files import read_json
from mmqsa.errors import InputError

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Provenance(BaseModel):
    """What readers take from it; further keys are kept."""

    model_config = ConfigDict(extra="allow")

    mmqsa: str
    packages: dict[str, str]
    device: str
    precision: str
    seed: Seed
    seconds: NotNegative
    images_per_second: NotNegative
    num_images: Annotated[int, Field(ge=1)]
    num_parameters: Annotated[int, Field(ge=1)]
    updates_per_head: Annotated[list[int], Field(min_length=1)]
    final_loss: Finite
    cache: dict[str, Any]
    cache_fingerprint: str


def read_provenance(path: Path) -> dict[str, Any]:
    """A run's provenance as it was written. Raises InputError that names the file and the key."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: no provenance of a run; train it again")
    validated(Provenance, data, path)
    return data
