"""The state of an unfinished training, so that a killed one goes on where it was."""

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from mmqsa.atomic import whole_file
from mmqsa.errors import InputError


@dataclass
class Progress:
    """How far a training is, besides what model, optimiser and generators hold."""

    step: int = 0  # steps done
    seconds: float = 0.0  # spent on them, over all attempts
    history: list[list[float]] = field(default_factory=list)  # rows of history.csv
    updates: list[int] = field(default_factory=list)  # of each head
    order: list[int] = field(default_factory=list)  # images left of the epoch
    losses: list[float] = field(default_factory=list)  # of the steps since the last history row
    resumed: list[int] = field(default_factory=list)  # steps at which it was taken up again


def save(
    path: Path,
    identity: str,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    generators: list[torch.Generator],
    progress: Progress,
) -> None:
    """Write a checkpoint, whole or not at all. ``identity`` says which training it belongs to."""
    for left in path.parent.glob(f".{path.stem}.*{path.suffix}"):
        left.unlink()  # by a process that was killed while it wrote
    state = io.BytesIO()  # torch's own writing does not say that a disk is full
    torch.save(
        {
            "identity": identity,
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "generators": [generator.get_state() for generator in generators],
            "progress": asdict(progress),
        },
        state,
    )
    with whole_file(path) as temporary:
        temporary.write_bytes(state.getbuffer())


def restore(
    path: Path,
    identity: str,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    generators: list[torch.Generator],
) -> Progress | None:
    """Put a checkpoint's state back and return its progress; None when there is none.

    Raises InputError when it is damaged or belongs to another training.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["identity"]
    except Exception as error:
        raise InputError(
            f"{path}: damaged checkpoint ({type(error).__name__}); delete it to start over"
        ) from None
    if found != identity:
        raise InputError(
            f"{path}: belongs to a training with other settings, seed or features; "
            "delete it to start over"
        )
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    for generator, saved in zip(generators, state["generators"], strict=True):
        generator.set_state(saved)
    progress = Progress(**state["progress"])
    progress.resumed.append(progress.step)
    return progress


def step_of(path: Path) -> int | None:
    """How many steps a checkpoint of this process holds; None when there is none."""
    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)["progress"]["step"]
