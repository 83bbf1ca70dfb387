import io

import pytest

from mmqsa.cli import application
from mmqsa.errors import InputError
from mmqsa.reporting.plan import read_plan

DRY_RUN = """
images: voc/val 84 (counted in /data/voc)
rule train:
    output: a
    resources: tmpdir=/tmp, gpu=1, runtime=90, expected_seconds=1800, mem_mb=4000, mem=4 GB
rule train:
    output: b
    resources: tmpdir=/tmp, gpu=1, runtime=120, expected_seconds=3600, mem_mb=<TBD>
Group job report:
    rule table:
        output: c
        threads: 2
        resources: mem_mb=2000, runtime=30, expected_seconds=360
localrule all:
    resources: tmpdir=/tmp
"""


def test_a_plan_is_summed_up():
    table = read_plan(DRY_RUN).table().set_index("rule")
    assert list(table.index) == ["train", "table", "all", "total"]
    assert table.loc["train"].to_dict() == {
        **{"jobs": 2, "GPU-hours": 1.5, "CPU-hours": 0.0},
        **{"time limit (h)": 2.0, "memory (GB)": 4.0},
    }
    assert table.loc["table", "CPU-hours"] == pytest.approx(0.2)  # 0.1 on two cores
    assert table.loc["total", ["jobs", "GPU-hours"]].tolist() == [4, 1.5]


def test_the_time_by_the_clock_is_bounded_by_the_longest_job_and_by_what_is_there():
    plan = read_plan(DRY_RUN)
    assert plan.hours(cores=8, gpus=1) == plan.hours(cores=8, gpus=0) == 1.5
    assert plan.hours(cores=8, gpus=4) == 1.0  # the longest training
    assert plan.hours(cores=1, gpus=4) == pytest.approx(1.6)
    said = plan.words(cores=8, gpus=4)
    assert said.startswith("Images: voc/val 84 (counted in /data/voc).\n")
    assert "By the clock: at least 1.0 hours on 8 cores and 4 GPUs" in said
    table = DRY_RUN[DRY_RUN.index("    rule table") :]
    assert "at least 6 minutes on 2 cores" in read_plan(table).words(2, 0)


def test_where_no_gpu_is_there_are_no_gpu_hours():
    plan = read_plan(f"computes on: CPU\n{DRY_RUN}")
    table = plan.table().set_index("rule")
    assert "GPU-hours" not in table and table.loc["train", "CPU-hours"] == 1.5
    said = plan.words(cores=8, gpus=0)
    assert "at least 1.5 hours on 8 cores (" in said
    assert "one at a time; `--config device=cpu` lets them run side by side" in said
    free = read_plan(f"computes on: CPU\n{DRY_RUN.replace('gpu=1', 'gpu=0')}")
    assert free.hours(cores=8, gpus=0) == 1.0 and "one at a time" not in free.words(8, 0)
    assert "run `snakemake -n` where the GPUs are" in plan.words(8, 2)
    assert plan.words(8, 2).count("1.5 hours on 8 cores (") == 1


def test_a_plan_of_nothing_and_no_plan():
    nothing = read_plan("Nothing to be done")
    assert nothing.table().loc[0, "jobs"] == 0 and nothing.hours(1, 1) == 0
    refused = 'WorkflowError in file "common.smk", line 85:\nconfig: masking.ratio: too large\n'
    with pytest.raises(InputError, match=r"no plan, but WorkflowError .* masking.ratio: too large"):
        read_plan(refused)
    with pytest.raises(InputError, match="no plan in it"):
        read_plan("snakemake: command not found")


@pytest.mark.faults
@pytest.mark.parametrize("amount", ["1.2.3", "9" * 400, ".", "..", "1e9", "-4"])
def test_amounts_that_are_no_numbers_are_not_known(amount):
    text = f"rule a:\n    resources: mem_mb={amount}, runtime=60\n"
    table = read_plan(text).table().set_index("rule")
    assert table.loc["a", "memory (GB)"] == 0 and table.loc["a", "time limit (h)"] == 1


@pytest.mark.faults
@pytest.mark.parametrize("content", [b"\xff\xfe\0", b"y\n" * 1000, b""])
def test_what_is_no_plan(content, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    monkeypatch.setattr("mmqsa.reporting.plan.MAX_BYTES", 1000)
    with pytest.raises(InputError, match="standard input: "):
        application.app(["plan"], standalone_mode=False)
