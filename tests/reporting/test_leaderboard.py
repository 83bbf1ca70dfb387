"""The leaderboard: its intervals and tests against the plain ones, its marks, and its command."""

import json
import time
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from mmqsa.cli import application
from mmqsa.config.tables import Table
from mmqsa.errors import InputError
from mmqsa.reporting.forest import forest_figure
from mmqsa.reporting.found import image_sets
from mmqsa.reporting.leaderboard import board, leaderboard_table, printed_board
from mmqsa.reporting.statistics import bootstrap_interval, holm, paired

IDS = [f"i{index:02}" for index in range(60)]
TABLE = {"kind": "leaderboard", "references": "all", "mask_sources": ["attention"]}


def rows(values, ids=IDS):
    return [
        {"image_id": name, "paper/mbo_c": value, "paper/corloc": float(value > 0.5)}
        for name, value in zip(ids, values, strict=True)
    ]


@pytest.fixture
def values():
    """By label, the mBO^c of every image: two that are alike, one below, one that sees labels."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.4, 0.8, len(IDS))
    return {
        "full": base,
        "k-means": (base + rng.normal(0, 0.05, len(IDS))).round(3),
        "SPOT": base - 0.1,
        "probe": base + 0.2,
        "one slot": base / 3,
    }


@pytest.fixture
def scored(made, values):
    for seed, above in ((0, 0.01), (1, -0.01)):
        made.metrics(
            "full", seed, rows(values["full"] + above), kind="per_image", mask_source="attention"
        )
    made.method("spot", title="SPOT", colour="#1b7837", source="CVPR 2024")
    for method, name in {
        "kmeans": "k-means",
        "probe": "probe",
        "controls": "one slot",
        "spot": "SPOT",
    }.items():
        made.references(method, rows(values[name]), kind="per_image", name=name)
        made.references(method, made.scores(100 * values[name].mean(), "mbo_c"), name=name)
    return made


def test_rows_are_ordered_and_every_pair_is_compared_as_alone(scored, values):
    table, text = scored.table(**TABLE, settings=["full"])
    own = table[table["against"].isna() & (table["metric"] == "mbo_c")].set_index("label")
    assert own.index.tolist() == sorted(values, key=lambda name: -values[name].mean())
    assert own.loc["full", ["n_seeds", "sd"]].tolist() == pytest.approx([2, 2**0.5], abs=1e-4)
    for name, of_one in values.items():
        low, high = bootstrap_interval(100 * of_one)
        assert own.loc[name, ["mean", "low", "high"]].tolist() == pytest.approx(
            [100 * of_one.mean(), low, high], abs=1e-4
        )
    pairs = table[table["against"].notna()]
    assert len(pairs) == 2 * 10  # metrics x pairs
    of_metric = pairs[pairs["metric"] == "mbo_c"].set_index(["label", "against"])
    for one, other in combinations(own.index, 2):
        first, second = (pd.Series(100 * values[name], IDS) for name in (other, one))
        expected, found = paired(first, second), of_metric.loc[(one, other)]
        for key in ("difference", "low", "high", "p", "n_images"):
            assert found[key] == pytest.approx(expected[key], abs=1e-4), (one, other, key)
    exact = board(scored.results(**TABLE, settings=["full"])).table  # the csv has four decimals
    exact = exact[(exact["against"] != "") & (exact["metric"] == "mbo_c")]
    np.testing.assert_allclose(exact["p_holm"], holm(exact["p"]), rtol=1e-9)
    assert "over all 10 pairs" in text and "SPOT (CVPR 2024)" in text


def test_the_best_without_labels_is_bold_and_what_is_like_it_is_marked(scored):
    text = scored.table(**TABLE, settings=["full"])[1]
    lines = {line.split("|")[1].strip(): line.split("|")[5] for line in text.splitlines()[2:]}
    marks = {name: ("**" in cell, "≈" in cell) for name, cell in lines.items() if "[" in cell}
    best, other = sorted(("full", "k-means"), key=lambda name: not marks[name][0])
    assert marks == {
        **{best: (True, False), other: (False, True)},
        **dict.fromkeys(("probe", "SPOT", "one slot"), (False, False)),
    }
    kinds = {
        line.split("|")[1].strip(): line.split("|")[2].strip() for line in text.splitlines()[4:]
    }
    assert kinds == {
        **{"full": "attention masks", "SPOT": "of other code", "k-means": "without training"},
        **{"probe": "sees labels", "one slot": "looks at no image"},
    }


def test_nothing_is_bold_beside_a_better_row_that_is_left_out(scored):
    """SPOT is below the others, and above the one slot."""
    results = scored.results(**TABLE, settings=["full"])
    printed = printed_board(results, board(results, only=["SPOT", "one slot"]))
    assert not printed.bold.any(axis=None) and "Not bold, because something" in printed.caption
    best = board(results).means("mbo_c").query("best").index[0]
    with_it = board(results, only=[best, "SPOT"])
    assert printed_board(results, with_it).bold["mBO^c"].any() and "mbo_c" not in with_it.beaten
    unread = scored.table(**TABLE | {"settings": ["full"], "references": "none"})[1]
    assert "**" not in unread and "was not read: CorLoc, mBO^c" in unread


def test_means_that_are_printed_alike_are_bold_alike(scored, values):
    for method, name, change in (("lost", "LOST", 1e-5), ("kmeans", "k-means", -0.1)):
        images = rows(values["full"] + change)
        scored.references(method, images, kind="per_image", name=name)
        scored.references(method, scored.scores(60, "mbo_c", "corloc"), name=name)
    text = scored.table(**TABLE, settings=["full"])[1]
    cells = {line.split("|")[1].strip(): line.split("|")[5] for line in text.splitlines()[4:]}
    assert "**" in cells["LOST"] and "**" in cells["full"] and "**" not in cells["k-means"]


def test_another_metric_orders_the_rows_and_a_setting_without_runs_is_last(scored):
    results = scored.results(**TABLE)
    by_corloc = board(results, "corloc")
    means = by_corloc.means("corloc")["mean"].tolist()
    assert by_corloc.judge == "corloc" and means == sorted(means, reverse=True)
    assert by_corloc.entries[-1].label == "random" and "missing" in scored.table(**TABLE)[1]
    with pytest.raises(InputError, match="--metric miou: not scored on these images; expected cor"):
        board(results, "miou")


def test_rows_of_other_images_are_refused(scored, values):
    scored.references("spot", rows(values["SPOT"][1:], IDS[1:]), kind="per_image", name="SPOT")
    with pytest.raises(
        InputError, match=r"spot/voc2012-val-per_image.csv.gz: 59 images, which are not the"
    ):
        leaderboard_table(scored.results(**TABLE))


def test_a_method_that_is_called_like_a_setting_is_told_apart(scored, values):
    scored.method("mine", title="full")
    scored.references("mine", rows(values["SPOT"]), kind="per_image", name="full")
    scored.references("mine", scored.scores(1, "mbo_c"), name="full")
    found = board(scored.results(**TABLE, settings=["full"]))
    assert {"full", "full (mine)"} <= {entry.label for entry in found.entries}


def test_rows_that_are_named_are_compared_alone(scored):
    results = scored.results(**TABLE, settings=["full"])
    found = board(results, only=["k-means", "SPOT"])
    pairs = found.table[found.table["against"] != ""]
    assert len(pairs) == 2 and (pairs["p"] == pairs["p_holm"]).all()  # one for each metric
    with pytest.raises(InputError, match=r"--row spot: no such row; there is: full, one slot, k-m"):
        board(results, only=["spot"])


@pytest.mark.parametrize(
    "table, said",
    [
        ({"kind": "leaderboard", "images": {"a": ["val"], "b": ["train"]}}, "of one image set"),
        ({"figures": ["forest"]}, "forest is of a leaderboard"),
    ],
)
def test_a_leaderboard_has_one_image_set(table, said):
    with pytest.raises(ValueError, match=said):
        Table(caption="C", **table)


def test_the_figure_fills_what_is_not_told_apart(scored):
    figure = forest_figure(scored.results(**TABLE, settings=["full"]))
    axis = figure.axes[-1]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    drawn = {
        names[int(container.lines[0].get_ydata()[0])]: container.lines[0]
        for container in axis.containers
        if len(container.lines[0].get_ydata())
    }
    filled = {name for name, line in drawn.items() if line.get_markerfacecolor() != "white"}
    assert filled == {"full", "k-means"} and drawn["SPOT"].get_color() == "#1b7837"


def test_a_large_leaderboard_takes_seconds(made):
    rng = np.random.default_rng(0)
    metrics = ["corloc", "miou_with_background", "mbo_c"]
    columns = [f"{of}/{metric}" for of in ("paper", "dinosaur") for metric in metrics]
    names = [f"method {index}" for index in range(20)]
    table = pd.DataFrame(rng.uniform(size=(20 * 1449, 6)), columns=columns)
    table["image_id"] = np.tile([f"i{index:04}" for index in range(1449)], 20)
    table["name"] = np.repeat(names, 1449)
    made.references("controls", table.to_dict("records"), kind="per_image")
    means = [one | {"name": name} for name in names for one in made.scores(50.0, "mbo_c")]
    made.references("controls", means)
    results = made.results(kind="leaderboard", references="all")
    began = time.process_time()
    found = board(results)
    assert time.process_time() - began < 15
    assert len(found.table) == 6 * (20 + 190)


def run(*arguments):
    application.app([*map(str, arguments)], standalone_mode=False)


def test_the_command_finds_all_that_is_scored(scored, capsys):
    from mmqsa.cli import entry  # registers the commands

    assert entry
    folder = scored.paths.results
    assert list(image_sets(scored.paths)) == ["voc2012-val"]
    run("leaderboard", "--results", folder)
    text = capsys.readouterr().out
    assert all(f"| {name} " in text for name in ("full", "SPOT", "k-means", "probe", "one slot"))
    for path in (
        "tables/leaderboard-voc2012-val.tex",
        "figures/leaderboard-voc2012-val-forest.png",
    ):
        assert (folder / path).is_file()
    run("leaderboard", "--results", folder, "--json", "--metric", "corloc", "--setting", "full")
    found = json.loads(capsys.readouterr().out)
    assert found["image_set"] == "voc2012-val" and len(found["pairs"]) == 2 * len(found["rows"])
    assert {"label", "against", "difference", "p_holm"} <= set(found["pairs"][0])


def test_the_command_says_what_there_is_instead(scored, values):
    folder = scored.paths.results
    for arguments, said in (
        (("--image-set", "other"), "--image-set other: not scored here; expected one of voc2012-v"),
        (("--setting", "random"), "--setting random: not scored on voc2012-val; there is: full"),
        (("--protocol", "spot"), "--protocol spot: not scored; expected paper"),
    ):
        with pytest.raises(InputError, match=said):
            run("leaderboard", "--results", folder, *arguments)
    ours = rows(values["full"])
    scored.metrics("full", 0, ours, kind="per_image", images="coco-val", mask_source="attention")
    with pytest.raises(InputError, match="has coco-val, voc2012-val; name one with --image-set"):
        run("leaderboard", "--results", folder)
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="nothing is scored here image by image"):
        run("leaderboard", "--results", folder / "empty")
