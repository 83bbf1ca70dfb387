"""A method of other code in tables and figures: results, inputs, metrics_table, points, join."""

import pytest
from matplotlib import pyplot as plt

from mmqsa.config.methods import read_methods
from mmqsa.config.workflow import Config
from mmqsa.errors import InputError
from mmqsa.reporting.figures import controls_figure
from mmqsa.reporting.inputs import table_inputs
from mmqsa.reporting.join import joined_figure, joined_table
from mmqsa.reporting.strata import strata_table

CREDIT = "Of other code: SPOT (CVPR 2024)."


@pytest.fixture
def scored(made):
    """Two settings of three seeds, k-means, a control, and a method of three seeds."""
    made.config["seeds"] = [0, 1, 2]
    for seed in (0, 1, 2):
        for setting, value in (("full", 60.0), ("random", 50.0)):
            made.metrics(setting, seed, made.scores(value + seed, "mbo_c"))
    made.references("kmeans", made.scores(55.0, "mbo_c"), name="k-means, K = 3")
    made.references("controls", made.scores(20.0, "mbo_c"), name="one slot")
    made.method("spot", title="SPOT", source="CVPR 2024", colour="#1b7837")
    write(made, 40.0)
    return made


def write(made, value, seeds=(0, 1, 2), **common):
    rows = [
        one | {"eval_seed": seed} for seed in seeds for one in made.scores(value + seed, "mbo_c")
    ]
    made.references("spot", rows, name="as it was called", **common)


@pytest.mark.parametrize("references", ["all", "best", "few"])
def test_it_is_listed_with_its_seeds_and_its_source(scored, references):
    table, text = scored.table(references=references)
    row = table[table["label"] == "SPOT"].iloc[0]
    assert row[["kind", "n_seeds", "mean", "sd"]].tolist() == ["method", 3, 41.0, 1.0]
    assert row["ci_high"] == pytest.approx(41 + 4.3027 / 3**0.5, abs=1e-3)
    assert CREDIT in text and "| SPOT " in text and "41.0 ± 1.0" in text
    assert "one slot" in text and "k-means, K = 3" in text
    assert ("k-means, K = 3 (best without training) |" in text) == (references == "few")
    assert "SPOT" not in scored.table(references="none")[1]


@pytest.mark.parametrize("references", ["all", "best", "few"])
def test_it_takes_no_ones_place_and_is_bold_from_three_seeds_on(scored, references):
    write(scored, 70.0)
    text = scored.table(references=references)[1]
    assert "**71.0 ± 1.0**" in text and "k-means, K = 3" in text
    write(scored, 70.0, seeds=(0, 1))
    assert "**" not in scored.table(references=references)[1]  # as with a setting of two seeds
    scored.method("spot", title="SPOT", kind="supervised")
    write(scored, 70.0)
    assert "**61.0 ± 1.0**" in scored.table(references=references)[1]  # what sees labels is apart


def test_a_record_without_scores_of_these_images_is_not_listed(scored):
    scored.method("other", title="Other")
    assert "Other" not in scored.table()[1]
    assert "SPOT" not in scored.table(images={"": ["train"]})[1]


def test_a_title_that_others_have_is_followed_by_the_name(scored):
    """Of a baseline or a setting; two methods of other code of one title are refused."""
    scored.method("spot", title="k-means, K = 3")
    text = scored.table(references="all")[1]
    assert "| k-means, K = 3 (spot) " in text and "| k-means, K = 3  " in text
    scored.method("spot", title="full")
    assert "| full (spot) " in scored.table(references="all")[1]
    scored.method("spot", title="k-means, K = 3")
    scored.method("again", title="k-means, K = 3")
    with pytest.raises(InputError, match=r"spot.yaml: title: .* is another's; rename one"):
        read_methods(scored.paths)


def test_tables_declare_the_records_and_scores_that_are_there(scored):
    config = Config.model_validate(
        scored.config
        | {"tables": {"t": {"caption": "C"}, "none": {"caption": "C", "references": "none"}}}
    )
    record = scored.paths.methods / "spot.yaml"
    own = {record, scored.paths.method("voc2012-val", "spot")}
    assert own <= set(table_inputs(config, "t", scored.paths))
    assert not own & set(table_inputs(config, "none", scored.paths))
    scored.paths.method("voc2012-val", "spot").unlink()
    assert not own & set(table_inputs(config, "t", scored.paths))


def test_comparisons_strata_and_diagnosis(scored):
    for kind, value in (("per_image", {"paper/mbo_c": 0.6}), ("per_object", {})):
        objects = {"share": 0.5, "class": 1, "iou": 0.6, "labels": "class"}
        rows = [{"image_id": "a"} | (value or objects)]
        scored.references("spot", rows, kind=kind, name="as it was called")
        scored.metrics("full", 0, rows, kind=kind)
    table, text = scored.table(kind="comparisons", settings=["full"])
    assert table["label"].tolist() == ["SPOT"] and CREDIT in text
    table, printed = strata_table(scored.results(kind="strata", settings=["full"]))
    assert "SPOT" in set(table["label"]) and CREDIT in printed.caption
    write(scored, 90.0)
    signs, _ = scored.table(kind="diagnosis", mask_sources=["decoder"])
    sign = signs.set_index("sign").loc["below a training-free method on the same features"]
    assert "SPOT" not in sign["evidence"]


def test_figures_have_its_colour(scored):
    figure = controls_figure(scored.results(settings=["full"], references="few"))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["full", "SPOT", "k-means, K = 3", "one slot"]
    drawn = {one.get_label(): one.lines[0] for one in figure.axes[0].containers}
    assert drawn["of other code"].get_color() == "#1b7837"
    assert drawn["of other code"].get_xdata().tolist() == [41.0]
    results = scored.results(settings=["full"], references="few")
    tidy, printed = joined_table([results])
    assert printed.caption.endswith(CREDIT) and printed.caption.count(CREDIT) == 1
    joined = joined_figure(tidy, [results])
    colours = {one.get_label(): one.lines[0].get_color() for one in joined.axes[0].containers}
    assert colours["of other code"] == "#1b7837"
    plt.close("all")
