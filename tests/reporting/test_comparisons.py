import numpy as np
import pytest


def test_differences_are_paired_by_image(made):
    values = np.random.default_rng(0).uniform(0.2, 0.8, 12)
    rows = [{"image_id": f"i{i}", "paper/mbo_c": value} for i, value in enumerate(values)]
    lower = [row | {"paper/mbo_c": row["paper/mbo_c"] - 0.1} for row in rows]
    for seed in (0, 1):
        made.metrics("full", seed, rows, kind="per_image")
        made.metrics("random", seed, lower[::-1], kind="per_image")  # by id, not by place
    made.references("controls", rows, kind="per_image", name="one slot")
    table, text = made.table(kind="comparisons", names={"full": "Ours"})
    table = table.set_index("label")
    assert table.loc["random", "difference"] == pytest.approx(-10)
    assert table.loc["random", "p"] == pytest.approx(2 / 2**12, abs=1e-4)  # all of one sign
    assert table.loc["random", "p_holm"] == pytest.approx(4 / 2**12, abs=1e-4)
    assert table.loc["one slot", "difference"] == 0 and table.loc["one slot", "p_holm"] == 1
    assert table.loc["one slot", "kind"] == "control"
    assert "-10.0 [-10.0, -10.0] *" in text and "Difference to Ours in points" in text


def test_a_setting_without_runs_is_missing(made):
    table, text = made.table(kind="comparisons")
    assert table["kind"].tolist() == ["missing"] * 2 and text.count("missing") == 2
