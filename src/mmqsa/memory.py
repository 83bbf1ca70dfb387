"""Available memory, and allocator tuning."""

import ctypes
import resource
from collections.abc import Iterator
from pathlib import Path

import torch


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still allocate on ``device``.

    On a CPU the least of what the machine, the control group (a SLURM job, a container) and the
    limits of the process (``ulimit``) leave.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    machine = _kilobytes(Path("/proc/meminfo"), "MemAvailable")
    return min([*machine, *_group_memory(), *_process_memory()], default=1 << 62)


def _group_memory() -> Iterator[int]:
    """What the control groups leave, of version 2 or of version 1, which many clusters have."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, names, path in (line.split(":", 2) for line in lines):
        if not names:
            yield from _left(root, path, "memory.max", "memory.current")
        elif "memory" in names.split(","):
            yield from _left(
                root / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes"
            )


def _left(top: Path, path: str, limit: str, used: str) -> Iterator[int]:
    """What a process's group leaves, and the topmost group that it sees: its container's."""
    for group in {top / path.lstrip("/"), top}:
        try:
            most = (group / limit).read_text().strip()
            taken = int((group / used).read_text())
            rows = dict(row.split() for row in (group / "memory.stat").read_text().splitlines())
            if most != "max":
                # The page cache counts as used, but is freed on demand.
                yield int(most) - taken + int(rows["inactive_file"])
        except (OSError, ValueError, KeyError):
            continue


def _process_memory() -> Iterator[int]:
    status = Path("/proc/self/status")
    for limit, used in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY:
            yield from (max(0, most - taken) for taken in _kilobytes(status, used))


def _kilobytes(path: Path, field: str) -> Iterator[int]:
    """The value in bytes of a ``Field:   n kB`` line, if it is there."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return
    yield from (int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_freed_memory(keep: bool = True) -> None:
    """Let glibc reuse large freed blocks instead of returning them to the system.

    A step on a CPU allocates the same activations again and again, and fetching their pages anew is
    slow. ``keep=False`` restores what glibc arrives at by itself. Without glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, (1 << 31) - 1 if keep else 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, -1 if keep else 64 << 20)  # -1: never
