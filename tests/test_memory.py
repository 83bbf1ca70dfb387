import os
import resource

import pytest
import torch

from mmqsa import memory
from mmqsa.memory import free_memory, keep_freed_memory

CPU = torch.device("cpu")


def test_free_memory_is_what_the_machine_has_at_most():
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < free_memory(CPU) <= installed
    keep_freed_memory()  # harmless anywhere


@pytest.mark.parametrize("limit, left", [("1000000", 700_000), ("max", None)])
def test_a_control_group_leaves_its_limit_less_what_is_used(tmp_path, limit, left):
    group = tmp_path / "job"
    group.mkdir()
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text("400000\n")
    (group / "memory.stat").write_text("anon 300000\ninactive_file 100000\n")
    found = list(memory._left(tmp_path, "/job", "memory.max", "memory.current"))
    assert found == ([left] if left else [])


def test_a_limit_of_the_process_counts(monkeypatch):
    used = next(memory._kilobytes(memory.Path("/proc/self/status"), "VmSize"))
    real = resource.getrlimit

    def limited(kind):
        return (used + (1 << 20), -1) if kind == resource.RLIMIT_AS else real(kind)

    monkeypatch.setattr(resource, "getrlimit", limited)
    assert free_memory(CPU) <= 1 << 20
