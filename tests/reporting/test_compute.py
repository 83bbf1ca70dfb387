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
    assert " 2.00 |" in text and " 1.5 ± 0.7 |" in text
    assert "2 runs took 3.0 minutes in total" in text
    assert text.count("missing") == 5  # of random


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
