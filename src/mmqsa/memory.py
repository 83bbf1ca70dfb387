"""How much memory a process may still take, and that it keeps what it has."""

import ctypes
import resource
from collections.abc import Iterator
from pathlib import Path

import torch


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still take on ``device``.

    On a CPU the least of what the machine, the control group (a SLURM job, a container) and the
    limits of the process (``ulimit``) leave.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([*_machine_memory(), *_group_memory(), *_process_memory()], default=1 << 62)


def _machine_memory() -> Iterator[int]:
    yield from _kilobytes(Path("/proc/meminfo"), "MemAvailable")


def _group_memory() -> Iterator[int]:
    """What the control groups leave, of version 2 or of version 1, which many clusters have."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    own = {
        name: path
        for _, names, path in (line.split(":", 2) for line in lines)
        for name in names.split(",")
    }
    yield from _left(Path("/sys/fs/cgroup"), own.get("", "/"), "memory.max", "memory.current")
    if "memory" in own:
        yield from _left(
            Path("/sys/fs/cgroup/memory"),
            own["memory"],
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        )


def _left(top: Path, own: str, limit: str, used: str) -> Iterator[int]:
    """Of a process's control group, and of the topmost that it sees: a container's own."""
    for group in {top / own.lstrip("/"), top}:
        try:
            most = (group / limit).read_text().strip()
            taken = int((group / used).read_text())
            rows = dict(row.split() for row in (group / "memory.stat").read_text().splitlines())
            if most != "max":
                yield int(most) - taken + int(rows["inactive_file"])  # that cache gives way
        except (OSError, ValueError, KeyError):
            continue


def _process_memory() -> Iterator[int]:
    status = Path("/proc/self/status")
    for limit, used in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY:
            yield from (max(0, most - own) for own in _kilobytes(status, used))


def _kilobytes(path: Path, field: str) -> Iterator[int]:
    """The value in bytes of a ``Field:   n kB`` line, if it is there."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return
    yield from (int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_freed_memory(keep: bool = True) -> None:
    """Let glibc reuse large freed blocks instead of giving them back to the system.

    A step on a CPU allocates the same activations again and again, and fetching their pages anew is
    slow. ``keep=False`` restores what glibc arrives at by itself. Elsewhere nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, (1 << 31) - 1 if keep else 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, -1 if keep else 64 << 20)  # -1: never
