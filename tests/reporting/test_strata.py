import pytest

from mmqsa.reporting.strata import printed_labels, strata_table

OBJECTS = [  # image0 has two objects, one of them small
    {"image_id": "image0", "share": 0.005, "class": 3, "iou": 0.2},
    {"image_id": "image0", "share": 0.5, "class": 5, "iou": 0.8},
    {"image_id": "image1", "share": 0.01, "class": 3, "iou": 0.4},
]


@pytest.fixture
def runs(made):
    for seed in (0, 1):
        rows = [row | {"labels": "class", "iou": row["iou"] + 0.1 * seed} for row in OBJECTS]
        made.metrics("full", seed, rows, kind="per_object", mask_source="attention")
    rows = [row | {"labels": "class", "name": "one slot"} for row in OBJECTS]
    made.references("controls", rows, kind="per_object")
    return made


def test_strata_by_size_number_and_class(runs):
    table, text = runs.table(kind="strata")
    rows = table[table["setting"] == "full"].set_index(["by", "stratum"])
    small = rows.loc[("size", "≤ 1 %")]
    assert small["n_objects"] == 2 and small["mean"] == pytest.approx(35)  # 1 % belongs to it
    assert small["sd"] == pytest.approx(10 / 2**0.5, abs=1e-3) and small["n_seeds"] == 2
    assert rows.loc[("number", "2 objects"), "mean"] == pytest.approx(55)
    assert rows.loc[("number", "1 object"), "n_objects"] == 1
    assert rows.loc[("class", "3"), "mean"] == pytest.approx(35)
    assert ("size", "3–10 %") not in rows.index and "3–10 %" not in text  # no objects
    assert "35.0 ± 7.1" in text and "missing" in text and "one slot" in text
    assert "all pixels of a class" in text and "≤ 1 % (2)" in text


def test_the_best_row_is_bold(made):
    made.config["seeds"] = [0, 1, 2]
    for seed in (0, 1, 2):
        rows = [row | {"labels": "class"} for row in OBJECTS]
        made.metrics("full", seed, rows, kind="per_object")
        worse = [row | {"iou": row["iou"] / 2} for row in rows]
        made.metrics("random", seed, worse, kind="per_object")
    assert "**80.0 ± 0.0**" in made.table(kind="strata")[1]
    rows = [row | {"labels": "class", "name": "one slot", "iou": 0.9} for row in OBJECTS]
    made.references("controls", rows, kind="per_object")
    text = made.table(kind="strata")[1]
    assert "**90.0**" in text and "**80.0" not in text
    rows = [row | {"name": "probe", "iou": 1.0} for row in rows]
    made.references("probe", rows, kind="per_object")
    assert made.table(kind="strata")[1].count("**90.0**") == text.count("**90.0**")


def test_instances_are_printed_where_there_are_any(runs):
    rows = [row | {"labels": labels} for row in OBJECTS for labels in ("class", "instance")]
    for seed in (0, 1):
        runs.metrics("full", seed, rows, kind="per_object", mask_source="attention")
    tidy, printed = strata_table(runs.results(kind="strata"))
    assert printed_labels(tidy) == "instance" and "An object is an instance" in printed.caption


def test_three_or_more_objects_are_one_stratum(made):
    rows = [
        {"image_id": image, "share": 0.2, "class": 1, "iou": 0.5, "labels": "class"}
        for image, count in (("a", 3), ("b", 5), ("c", 2))
        for _ in range(count)
    ]
    made.metrics("full", 0, rows, kind="per_object")
    table = made.table(kind="strata")[0].query("by == 'number'").set_index("stratum")
    assert table["n_objects"].to_dict() == {"2 objects": 2, "3 or more": 8}
