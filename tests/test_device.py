import os
from types import SimpleNamespace

import pytest
import torch

from mmqsa.device import (
    choose_device,
    choose_precision,
    computing_in,
    describe,
    naming_when_memory_ends,
)
from mmqsa.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """A machine with two GPUs, as far as choosing one goes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"{index:x}")
    )
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(os.listdir("/proc/self/fd"))
    yield
    for descriptor in set(os.listdir("/proc/self/fd")) - before:
        try:
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(tmp_path)):
                os.close(int(descriptor))
        except FileNotFoundError:
            pass


def test_each_job_takes_a_gpu_that_is_free(gpus):
    taken = [choose_device("auto"), choose_device("cuda")]
    assert [device.index for device in taken] == [0, 1]
    assert choose_device("auto").index == 0  # none is free: shared


def test_a_job_that_ended_frees_its_gpu(gpus):
    if os.fork() == 0:
        choose_device("auto")
        os._exit(0)
    os.wait()
    assert choose_device("auto").index == 0


def test_a_gpu_that_is_named_is_taken(gpus):
    assert choose_device("cuda:1").index == 1
    with pytest.raises(InputError, match="cuda:7, but there are 2 GPUs"):
        choose_device("cuda:7")


@pytest.mark.faults
def test_a_required_gpu_that_is_absent(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    with pytest.raises(InputError, match="require_gpu: a GPU is required, but torch sees none"):
        choose_device("auto", require_gpu=True)
    with pytest.raises(InputError, match="torch sees no GPU"):
        choose_device("cuda")


@pytest.mark.parametrize(
    "cpuinfo, expected",
    [
        ("vendor_id\t: GenuineIntel\nflags\t\t: avx2 avx512f\n", "fp32"),
        ("vendor_id\t: GenuineIntel\nflags\t\t: avx512f avx512_bf16\n", "fp32"),
        ("vendor_id\t: GenuineIntel\nflags\t\t: avx512_bf16 amx_bf16 amx_tile\n", "bf16"),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: avx512_bf16\n", "bf16"),
        ("", "fp32"),
    ],
)
def test_bf16_where_it_is_faster(monkeypatch, cpuinfo, expected):
    monkeypatch.setattr("mmqsa.device._processor_field", lambda name: field(cpuinfo, name))
    assert choose_precision("auto", CPU) == expected
    assert choose_precision("tf32", CPU) == "tf32"


def field(cpuinfo, name):
    rows = (line.split(":") for line in cpuinfo.splitlines())
    return next((value.strip() for key, value in rows if key.strip() == name), "")


@pytest.mark.parametrize(
    "precision, dtype",
    [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)],
)
def test_products_have_the_precision_asked_for(precision, dtype):
    with computing_in(precision, CPU):
        assert (torch.ones(4, 4) @ torch.ones(4, 4)).dtype == dtype
        assert torch.ones(4, 4).softmax(dim=0).dtype == torch.float32
    assert (torch.ones(4, 4) @ torch.ones(4, 4)).dtype == torch.float32


def test_a_device_is_described_by_its_own_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert describe(torch.device("cuda", 1)) == "GPU 1"
    cpuinfo = "model name\t: Fast 9000\n"
    monkeypatch.setattr("mmqsa.device._processor_field", lambda name: field(cpuinfo, name))
    assert describe(CPU) == "Fast 9000"
    monkeypatch.setattr("mmqsa.device._processor_field", lambda name: "")
    assert describe(CPU)  # what Python calls it, or CPU


def test_running_out_of_memory_names_the_key():
    with (
        pytest.raises(InputError, match=r"a.b: not enough memory for it \(Tried 2 GiB\); lower it"),
        naming_when_memory_ends("a.b"),
    ):
        raise torch.OutOfMemoryError("Tried\n2 GiB")
    with pytest.raises(RuntimeError, match="shapes"), naming_when_memory_ends("a.b"):
        raise RuntimeError("shapes")


@pytest.mark.parametrize("name", ["gpu", "meta", "mps", "cpu:1", "cuda:-1", "cuda:9999999999", ""])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(InputError, match=f"unknown device '{name}'; expected auto, cpu, cuda or"):
        choose_device(name)
