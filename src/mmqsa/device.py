"""The device that a stage computes on, the precision of its arithmetic, and memory errors."""

import fcntl
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mmqsa.config.files import quoted
from mmqsa.errors import InputError, MachineError


def choose_device(name: str, require_gpu: bool = False) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` (a GPU that no other job holds) or ``cuda:N``.

    Raises InputError when it is absent; with ``require_gpu``, also when ``auto`` finds no GPU.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        if require_gpu and not available:
            raise InputError(
                "require_gpu: a GPU is required, but torch sees none (is it a CPU build, or is "
                "CUDA_VISIBLE_DEVICES empty?); fix that, or set require_gpu to false"
            )
        name = "cuda" if available else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d{1,2})?", name):
        raise InputError(
            f"--device: unknown device {quoted(name)}; expected auto, cpu, cuda or cuda:N"
        )
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not available:
        raise InputError(
            f"--device: {name} was asked for, but torch sees no GPU "
            "(is a CPU build of torch installed?)"
        )
    if device.index is None:
        device = _free_gpu()
    elif device.index >= torch.cuda.device_count():
        raise InputError(f"--device: {name}, but there are {torch.cuda.device_count()} GPUs")
    torch.cuda.set_device(device)
    return device


def _free_gpu() -> torch.device:
    """The first GPU that no other job of this user holds; the first of all when none is free.

    Snakemake counts GPUs but assigns none: a lock per GPU does, and a killed job releases it.
    """
    for index in range(torch.cuda.device_count()):
        identity = torch.cuda.get_device_properties(index).uuid
        path = Path(tempfile.gettempdir(), f"mmqsa-{os.getuid()}-{identity}.lock")
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Never closed: the lock is held for as long as this process lives.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return torch.device("cuda", index)
        except BlockingIOError:
            os.close(lock)
    return torch.device("cuda", 0)


@contextmanager
def naming_when_memory_ends(key: str) -> Iterator[None]:
    """Turns running out of memory into a MachineError that names the config's ``key``."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise MachineError(
            f"{key}: not enough memory for it ({' '.join(str(error).split())[:120]}); lower it"
        ) from None


def out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or the machine, which torch reports otherwise, ran out of memory."""
    known = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, known) or "can't allocate memory" in str(error)


def choose_precision(name: str, device: torch.device) -> str:
    """``auto`` is bf16 where the hardware is faster at it than at fp32, else fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # AMX, or AMD's AVX-512: Intel's bf16 without AMX takes twice the time of its fp32.
    flags = _processor_field("flags").split()
    amd = _processor_field("vendor_id") == "AuthenticAMD"
    return "bf16" if "amx_bf16" in flags or ("avx512_bf16" in flags and amd) else "fp32"


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Matrix products in ``fp32``, ``tf32`` (on a GPU; fp32 on a CPU), ``bf16`` or ``fp16``.

    Softmax, norms, losses and sums stay in fp32.
    """
    tf32 = precision == "tf32" and device.type == "cuda"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None):
        yield


def describe(device: torch.device) -> str:
    """The name of the GPU or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor_field("model name") or platform.processor() or "CPU"


def _processor_field(name: str) -> str:
    """A field of /proc/cpuinfo; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in fields if key.strip() == name), "")
