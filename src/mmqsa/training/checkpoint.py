"""Checkpoints of a training: one file, replaced as a whole."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mmqsa.atomic import whole_file
from mmqsa.config.files import check_regular
from mmqsa.errors import InputError


def save(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all. ``identity`` says which training it belongs to."""
    for partial in path.parent.glob(f".{path.stem}.*{path.suffix}"):
        partial.unlink()  # of a process that was killed while it wrote
    content = io.BytesIO()  # torch's own writing does not say that a disk is full
    torch.save({"identity": identity, **state}, content)
    with whole_file(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load(path: Path, identity: str) -> dict[str, Any] | None:
    """Read a checkpoint; None when there is none.

    Raises InputError when it is damaged or belongs to another training.
    """
    check_regular(path)
    if not path.exists():
        return None
    with naming_damage(path):
        state = torch.load(path, map_location="cpu", weights_only=True)
        same = state["identity"] == identity
    if not same:
        raise InputError(
            f"{path}: belongs to a training with another config, seed, features or code; "
            "delete it to start over"
        )
    return state


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turns whatever a damaged checkpoint raises into an InputError that names it."""
    try:
        yield
    except Exception as error:
        raise InputError(
            f"{path}: damaged checkpoint ({type(error).__name__}); delete it to start over"
        ) from None


def step_of(path: Path) -> int | None:
    """How many steps a checkpoint of this process holds; None when there is none."""
    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)["step"]
