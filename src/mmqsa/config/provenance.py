"""What made a run, as plain data: the door of ``provenance.json``."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mmqsa.config.base import MAX_COUNT, Count, Seed, Text, validated
from mmqsa.config.files import read_json
from mmqsa.errors import InputError

NotNegative = Annotated[float, Field(ge=0, le=MAX_COUNT)]


class Record(BaseModel):
    """What readers take of it; further keys are kept. Readers get it as it is: no 1 for "1"."""

    model_config = ConfigDict(extra="allow", strict=True)


class Packages(Record):
    """Their versions."""

    torch: Text


class Provenance(Record):
    """What made a run."""

    mmqsa: Text
    packages: Packages
    python: Text
    device: Text
    precision: Text
    seed: Seed
    seconds: NotNegative
    images_per_second: NotNegative
    num_images: Count
    num_parameters: Count
    updates_per_head: Annotated[
        list[Annotated[int, Field(ge=0, le=MAX_COUNT)]], Field(min_length=1)
    ]
    final_loss: Annotated[float, Field(ge=-MAX_COUNT, le=MAX_COUNT)]
    cache: dict[str, Any]
    cache_fingerprint: Text


def read_provenance(path: Path) -> dict[str, Any]:
    """A run's provenance as it was written. Raises InputError that names the file and the key."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: no provenance of a run; train it again")
    validated(Provenance, data, path)
    return data
