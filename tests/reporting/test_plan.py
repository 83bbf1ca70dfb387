import io

import pytest

from mmqsa.cli import application
from mmqsa.errors import InputError
from mmqsa.reporting.plan import summarise

DRY_RUN = """
rule train:
    output: a
    resources: tmpdir=/tmp, gpu=1, runtime=90, expected_seconds=1800, mem_mb=4000, mem=4 GB
rule train:
    output: b
    resources: tmpdir=/tmp, gpu=1, runtime=120, expected_seconds=3600, mem_mb=<TBD>
Group job report:
    rule table:
        output: c
        resources: mem_mb=2000, runtime=30, expected_seconds=360
localrule all:
    resources: tmpdir=/tmp
"""


def test_a_plan_is_summed_up():
    table = summarise(DRY_RUN).set_index("rule")
    assert list(table.index) == ["train", "table", "all", "total"]
    assert table.loc["train"].to_dict() == {
        **{"jobs": 2, "GPU-hours": 1.5, "hours without GPU": 0.0},
        **{"time limit (h)": 2.0, "memory (GB)": 4.0},
    }
    assert table.loc["table", "hours without GPU"] == pytest.approx(0.1)
    assert table.loc["total", ["jobs", "GPU-hours"]].tolist() == [4, 1.5]


def test_a_plan_of_nothing_and_no_plan():
    assert summarise("Nothing to be done").loc[0, "jobs"] == 0
    with pytest.raises(InputError, match="no plan in it"):
        summarise("snakemake: command not found")


@pytest.mark.faults
@pytest.mark.parametrize("amount", ["1.2.3", "9" * 400, ".", "..", "1e9", "-4"])
def test_amounts_that_are_no_numbers_are_not_known(amount):
    text = f"rule a:\n    resources: mem_mb={amount}, runtime=60\n"
    table = summarise(text).set_index("rule")
    assert table.loc["a", "memory (GB)"] == 0 and table.loc["a", "time limit (h)"] == 1


@pytest.mark.faults
@pytest.mark.parametrize("content", [b"\xff\xfe\0", b"y\n" * 1000, b""])
def test_what_is_no_plan(content, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    monkeypatch.setattr("mmqsa.reporting.plan.MAX_BYTES", 1000)
    with pytest.raises(InputError, match="standard input: "):
        application.app(["plan"], standalone_mode=False)
