import json

import pytest
from made import RECORD

from mmqsa.errors import InputError


@pytest.fixture
def runs(made):
    for seed, seconds in ((0, 60.0), (1, 120.0)):
        folder = made.paths.run("full", seed)
        folder.mkdir(parents=True)
        (folder / "provenance.json").write_text(json.dumps(RECORD | {"seconds": seconds}))
    return made


def test_cost_of_the_trainings(runs):
    table, text = runs.table(kind="compute")
    assert table["updates_per_head"].tolist() == [15, 15] and table["num_images"].tolist() == [7, 7]
    assert " 2.00 |" in text and " 90.0 ± 42.4 |" in text
    assert "mean ± sd over n training seeds. In all, 2 runs took 3 minutes" in text
    assert text.count("missing") == 5  # of random


@pytest.mark.parametrize(
    "seconds, heading, cell, total",
    [
        ([20.0], "s per run", "20.0", "1 run took 20 s"),
        ([300.0, 420.0], "minutes per run", "6.0 ± 1.4", "2 runs took 12 minutes"),
        ([7380.0, 7380.0], "hours per run", "2.0 ± 0.0", "2 runs took 4.1 hours"),
    ],
)
def test_times_have_sensible_units(made, seconds, heading, cell, total):
    for seed, of_run in enumerate(seconds):
        made.provenance("full", seed, seconds=of_run)
    _, text = made.table(kind="compute")
    assert f" {heading} |" in text and f" {cell} |" in text and f"In all, {total}, on" in text
    assert ("mean ± sd" in text) == (len(seconds) > 1)


def test_nothing_that_was_trained_took_no_time(made):
    assert "Nothing was trained yet." in made.table(kind="compute")[1]


def test_provenance_of_every_run(runs):
    table, text = runs.table(kind="provenance")
    assert len(table) == 2 and table["torch"].astype(str).tolist() == ["2", "2"]
    assert "abcdefabcdef " in text and text.count("missing") == 1


@pytest.mark.faults
@pytest.mark.parametrize(
    "key, value",
    [
        ("packages", {}),
        ("packages", {"torch": 2}),
        ("python", None),
        ("seconds", "90"),
        ("seconds", 1e300),
        ("seed", True),
        ("num_parameters", 10**30),
        ("updates_per_head", []),
        ("updates_per_head", ["1"]),
        ("device", "x" * 5000),
    ],
)
def test_a_damaged_record_is_named(runs, key, value):
    path = runs.paths.run("full", 1) / "provenance.json"
    path.write_text(json.dumps(RECORD | {key: value}))
    for kind in ("compute", "provenance"):
        with pytest.raises(InputError, match=rf"{path}: {key}"):
            runs.table(kind=kind)
