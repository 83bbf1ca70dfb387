"""Where a stage computes."""

import torch

from mmqsa.errors import InputError


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Raises InputError when it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(
            f"--device: {name!r} is no device; say auto, cpu, cuda or cuda:N"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"--device: {name} was asked for, but torch sees no GPU "
            "(is a CPU build of torch installed?)"
        )
    return device
