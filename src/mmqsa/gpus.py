"""The GPUs of this machine, without torch, which takes seconds to import."""

import os
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder for each
DEVICES = Path("/dev")


def num_gpus() -> int:
    """How many NVIDIA GPUs a job may use: those of CUDA_VISIBLE_DEVICES, where it is set.

    >>> num_gpus() >= 0
    True
    """
    listed = len(list(DRIVER.iterdir())) if DRIVER.is_dir() else 0
    there = listed or len(list(DEVICES.glob("nvidia[0-9]*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return there
    chosen = visible.split(",")
    chosen = chosen[: chosen.index("-1")] if "-1" in chosen else chosen
    return min(there, sum(bool(name.strip()) for name in chosen))
