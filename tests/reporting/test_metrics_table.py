from itertools import product

import numpy as np
import pytest

from mmqsa.reporting.statistics import bootstrap_interval

METRICS = ("corloc", "miou_with_background", "mbo_c")
TABLE = {"settings": ["heads1", "full", "random"], "names": {"full": "8 heads"}}


@pytest.fixture
def runs(made):
    """Three runs out of six, two evaluation seeds that differ by one point, and one control."""
    made.config["settings"] = {"full": {}, "heads1": {"slots": {"num_heads": 1}}, "random": {}}
    for setting, seed, value in (("heads1", 0, 50.0), ("heads1", 1, 54.0), ("full", 0, 60.0)):
        rows = [
            row | {"mask_source": source, "eval_seed": eval_seed}
            for source in ("decoder", "attention")
            for eval_seed in (0, 1)
            for row in made.scores(value + eval_seed - 0.5, *METRICS)
        ]
        made.metrics(setting, seed, rows)
    made.references("controls", made.scores(33.0, "corloc"), name="one slot")
    return made


def test_mean_spread_and_missing_runs(runs):
    table, text = runs.table(**TABLE)
    rows = table[(table["metric"] == "corloc") & (table["mask_source"] == "decoder")]
    rows = rows.set_index("setting")
    assert rows.loc["heads1", ["n_seeds", "mean"]].tolist() == [2, 52.0]
    assert rows.loc["heads1", "sd"] == pytest.approx(8**0.5, abs=1e-3)
    assert np.isnan(rows.loc["heads1", "ci_high"])  # of two seeds it would be 52 ± 25
    assert rows.loc["heads1", "eval_sd"] == pytest.approx(0.5**0.5, abs=1e-3)
    assert rows.loc["full", "n_seeds"] == 1 and np.isnan(rows.loc["full", "sd"])
    assert rows.loc["random", "n_seeds"] == 0 and np.isnan(rows.loc["random", "mean"])
    control = table[table["kind"] == "control"]
    assert control[["label", "mean"]].to_numpy().tolist() == [["one slot", 33.0]]
    assert "52.0 ± 2.8" in text and "missing" in text and "| one slot" in text
    assert "| decoder masks" in text and "| attention masks" in text
    assert "**" not in text  # no setting has three seeds


def test_the_papers_own_value_and_the_difference_to_it(runs):
    table, text = runs.table(**TABLE, published=["paper"])
    full = table[(table["setting"] == "full") & (table["metric"] == "corloc")].iloc[0]
    assert full["published"] == 68.99 and full["difference"] == pytest.approx(60 - 68.99)
    assert "MMQSA (DINO ViT-S/16)" in text and "[-9.0]" in text
    assert "orientation" not in text
    runs.config["backbone"] = {"name": "vit_tiny_patch16_224"}
    table, text = runs.table(**TABLE, published=["paper"])
    assert table["difference"].isna().all() and "for orientation only" in text


def test_a_caption_claims_nothing_that_the_table_does_not_show(runs):
    runs.config["backbone"] = {"name": "vit_tiny_patch16_224"}
    assert "ublished" not in runs.table(**TABLE)[1]
    runs.published = runs.published[runs.published["metric"] == "fg_ari"]  # scored by no run
    assert "ublished" not in runs.table(**TABLE, published=["dinosaur"])[1]
    assert "Hungarian matching of the heads" in runs.table(**TABLE)[1]
    assert "In percent, mean ± sd over n training seeds." in runs.table(**TABLE)[1]
    one = runs.table(**TABLE | {"settings": ["full", "random"]})[1]
    assert "In percent, of one training seed each." in one and "±" not in one
    assert "In percent. Hungarian" in runs.table(**TABLE | {"settings": ["random"]})[1]
    assert "nterval" not in runs.table(**TABLE, intervals=True)[1]  # fewer than three seeds
    assert "matching of" not in runs.table(**TABLE, matchings=["hungarian", "greedy"])[1]


@pytest.fixture
def three(made):
    """Three seeds of two settings: full is better, and better than the control."""
    made.config["seeds"] = [0, 1, 2]
    for setting, above in (("full", 5.0), ("random", 0.0)):
        for seed in (0, 1, 2):
            rows = [
                row | {"mask_source": source}
                for source, value in (("decoder", 60.0), ("attention", 80.0))
                for row in made.scores(value + above + seed, "mbo_c")
            ]
            made.metrics(setting, seed, rows)
    made.references("controls", made.scores(33.0, "mbo_c"), name="one slot")
    return made


def bold(text):
    return [line.split("|")[1].strip() for line in text.splitlines() if "**" in line]


def test_bold_is_the_best_of_all_rows_and_mask_sources(three):
    text = three.table()[1]
    assert bold(text) == ["full"] and "**86.0 ± 1.0**" in text and "**66.0" not in text
    assert "± 1.0**" not in three.table(published=["paper"])[1].replace("86.0 ± 1.0**", "")


@pytest.mark.parametrize("method", ["controls", "kmeans"])
def test_a_better_method_or_control_is_bold_in_its_place(three, method):
    three.references(method, three.scores(86.1, "mbo_c"), name="better")
    for references in ("all", "few", "best"):
        (name,) = bold(three.table(references=references)[1])
        assert name.startswith("better")
    three.references(method, three.scores(85.9, "mbo_c"), name="worse")
    assert bold(three.table(references="all")[1]) == ["full"]


def test_what_sees_labels_is_not_compared(three):
    three.references("probe", three.scores(99.0, "mbo_c"), name="probe")
    assert bold(three.table(references="all")[1]) == ["full"]


def test_published_values_are_compared_where_they_are_comparable(three):
    three.published = three.published.assign(value=99.0)
    assert not bold(three.table(published=["paper"])[1])
    whole, encoder = three.published, three.published["encoder"].copy()
    for other in ("DINO ViT-S/8", float("nan")):  # on other features, or nobody knows
        three.published = whole.assign(encoder=encoder.where(encoder != "DINO ViT-S/16", other))
        text = three.table(published=["paper"])[1]
        assert bold(text) == ["full"] and "do not name our encoder" in text
    three.published = whole
    three.config["dataset"] = {"name": "voc2012", "eval_split": "val"}
    three.config["backbone"] = {"name": "vit_tiny_patch16_224"}  # not the paper's
    assert bold(three.table(published=["paper"])[1]) == ["full"]


def test_nothing_is_bold_beside_a_better_setting_of_two_seeds(three):
    three.paths.metrics("full", 2, "voc2012-val").unlink()
    assert not bold(three.table()[1])


def test_rows_on_other_images_are_not_compared(three):
    for seed in (0, 1, 2):
        for setting, value in (("full", 10.0), ("random", 20.0)):
            rows = three.scores(value, "mbo_c")
            three.metrics(setting, seed, rows, images="voc2012-val-fog1")
    text = three.table(images={"": ["val"], "fog": ["val-fog1"]})[1]
    assert bold(text) == ["random, fog", "full"]


def test_nothing_is_bold_where_baselines_and_controls_are_not_read(three):
    three.references("kmeans", three.scores(99.0, "mbo_c"), name="better")
    assert not bold(three.table(references="none")[1])


def test_printed_intervals_stay_on_the_scale(three):
    for seed, value in enumerate((60.0, 90.0, 96.0)):
        three.metrics("random", seed, three.scores(value, "mbo_c"))
    table, text = three.table(intervals=True, mask_sources=["decoder"])
    # Student's t, 2 degrees of freedom: 66 ± 4.3027 / sqrt(3), and 82 ± 47.9
    assert "[63.5, 68.5]" in text and "[34.1, 100.0]" in text
    assert table["ci_high"].max() > 129  # in the csv it is whole
    assert "Intervals are Student's, of the mean over seeds, where n ≥ 3, cut where" in text
    only = three.table(intervals=True, mask_sources=["decoder"], settings=["full"])[1]
    assert "where n ≥ 3. " in only


def test_a_row_is_the_mean_of_its_image_sets(made):
    for name, value in (("val", 60.0), ("val-fog1", 50.0), ("val-fog2", 30.0)):
        for seed in (0, 1):
            rows = made.scores(value, "corloc")
            made.metrics("full", seed, rows, images=f"voc2012-{name}")
    images = {"clean": ["val"], "fog": ["val-fog1", "val-fog2"]}
    table, text = made.table(settings=["full"], images=images, references="none")
    assert table.set_index("row")["mean"].to_dict() == {"clean": 60.0, "fog": 40.0}
    assert "full, fog" in text and "control" not in set(table["kind"])


def test_the_interval_over_images_is_of_the_means_over_seeds(made):
    values = np.random.default_rng(0).uniform(size=(2, 12)).round(3)
    for seed in (0, 1):
        made.metrics("full", seed, made.scores(50.0, "mbo_c"))
        rows = [{"image_id": f"i{i}", "paper/mbo_c": value} for i, value in enumerate(values[seed])]
        made.metrics("full", seed, rows, kind="per_image")
    row = made.table(settings=["full"])[0].iloc[0]
    low, high = bootstrap_interval(100 * values.mean(axis=0))
    assert row[["images_low", "images_high"]].tolist() == pytest.approx([low, high], abs=1e-3)


def test_updates_per_head_come_from_the_provenance(made):
    made.metrics("full", 0, made.scores(50.0, "corloc"))
    made.provenance("full", 0, updates_per_head=[1000, 2000])
    table, text = made.table(settings=["full"], updates=True)
    assert table["updates_per_head"].tolist() == [1500] and " 1,500 |" in text


@pytest.mark.parametrize("references", ["few", "best", "all"])
def test_the_best_of_every_metric_is_listed_and_bold(three, references):
    """A method that leads in one metric alone, far behind in that which chooses variants."""
    for seed in (0, 1, 2):
        three.metrics("full", seed, three.scores(86.0, "mbo_c", "corloc"))
    by_metric = {"cut, K = 2": (80.0, 70.0), "cut, K = 7": (50.0, 93.0), "cut, K = 3": (60.0, 60.0)}
    rows = [
        row | {"name": name}
        for name, (mbo, corloc) in by_metric.items()
        for row in three.scores(mbo, "mbo_c") + three.scores(corloc, "corloc")
    ]
    three.references("normalised-cut", rows)
    text = three.table(references=references, mask_sources=["decoder"])[1]
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    (best,) = (line for name, line in lines.items() if name.startswith("cut, K = 7"))
    assert "**93.0**" in best and text.count("**") == 4
    assert "**86.0 ± 0.0**" in lines["full"]
    assert "cut, K = 3" not in text or references == "all"


def test_nothing_is_bold_in_a_sweep(three):
    """Labels would choose its best row, and what is scored as usual stands in other tables."""
    for seed in (0, 1, 2):
        rows = [
            row | {"num_slots": slots, "iterations": 3}
            for slots in (2, 9)
            for row in three.scores(80.0 + slots, "mbo_c")
        ]
        three.metrics("full", seed, rows, kind="sweep")
    three.references("kmeans", three.scores(70.0, "mbo_c"), name="k-means")
    assert not bold(three.table(kind="sweep", settings=["full"])[1])


def test_a_table_along_a_knob_has_a_column_of_it(made):
    made.config["settings"] = {"full": {}, "heads2": {"slots": {"num_heads": 2}}}
    for setting in ("full", "heads2"):
        made.metrics(setting, 0, made.scores(50.0, "corloc"))
    text = made.table(settings=["heads2", "full"], curve={"against": "slots.num_heads"})[1]
    heading, _, *rows = (line.replace(" ", "").split("|") for line in text.splitlines()[2:])
    heads = {row[1]: row[heading.index("queryheads")] for row in rows}
    assert heads["heads2"] == "2" and heads["full"] == "8"


def test_a_single_head_has_no_row_of_a_matching_that_it_does_not_need(made):
    made.config["matching"] = {"strategies": ["hungarian", "none"]}
    for setting, heads in (("full", [10, 10]), ("random", [20])):
        made.metrics(setting, 0, made.scores(50.0, "mbo_c"))
        made.provenance(setting, 0, updates_per_head=heads)
    table, _ = made.table(
        settings=["full", "random"], matchings=["hungarian", "none"], mask_sources=["decoder"]
    )
    assert table["label"].tolist() == [
        *("full, hungarian", "full, none", "random, hungarian"),
    ]


def test_a_metric_that_says_the_same_is_printed_once(made):
    made.metrics("full", 0, made.scores(50.0, "corloc", "corloc_or_equal"))
    assert "CorLoc (≥)" not in made.table(settings=["full"])[1]
    made.metrics("full", 1, made.scores(50.0, "corloc") + made.scores(51.0, "corloc_or_equal"))
    assert "CorLoc (≥)" in made.table(settings=["full"])[1]


def test_a_sweep_has_a_row_for_every_pair(made):
    for seed in (0, 1):
        rows = [
            row | {"num_slots": num_slots, "iterations": 3}
            for num_slots in (2, 9)
            for row in made.scores(num_slots + 2 * seed, "corloc")
        ]
        made.metrics("full", seed, rows, kind="sweep")
    table, text = made.table(kind="sweep", settings=["full"])
    assert table.set_index("num_slots")["mean"].to_dict() == {2: 3.0, 9: 10.0}
    assert "full, K = 9, T = 3" in text


def test_snapshots_have_a_row_for_every_step_of_a_setting(made):
    made.config["settings"]["random"] = {"seeds": [5]}
    for setting, seed in (("full", 0), ("full", 1), ("random", 5)):
        rows = [
            row | {"step": step, "images_seen": 64 * step}
            for step in (0, 3000)
            for row in made.scores(step / 100 + seed, "corloc")
        ]
        made.metrics(setting, seed, rows, kind="snapshots")
    table, text = made.table(kind="snapshots")
    means = table.set_index(["setting", "images_seen"])["mean"].to_dict()
    assert means == {
        **{("full", 0): 0.5, ("full", 192_000): 30.5},
        **{("random", 0): 5.0, ("random", 192_000): 35.0},
    }
    assert "random, 192,000 images" in text
    assert "**" not in text and "Training:" not in text  # settings differ in their budget


def test_a_method_that_had_nothing_to_go_by_says_so(made):
    rows = [{"protocol": "paper", "metric": "mbo_c", "value": 20.0, "n_images": 12}]
    made.metrics("full", 0, made.scores(50, "mbo_c"))
    made.references("lost", rows, name="LOST, raw features", void=25)
    made.references("kmeans", rows, name="k-means, K = 3")
    _, text = made.table(settings=["full"], references="all")
    assert "LOST, raw features (void in 25 % of images)" in text
    assert "k-means, K = 3 |" in text or "k-means, K = 3  " in text


@pytest.fixture
def two_sources(made):
    """Decoder masks are better in CorLoc, attention masks in mBO^c; a third source beats both."""
    values = {"decoder": (60.0, 30.0), "attention": (50.0, 40.0), "decoder-masks": (90.0, 90.0)}
    made.config["seeds"] = [0, 1, 2]
    for (setting, above), seed in product((("full", 0), ("random", 1)), (0, 1, 2)):
        rows = [
            row | {"mask_source": source}
            for source, (corloc, mbo) in values.items()
            for metric, value in (("corloc", corloc), ("mbo_c", mbo))
            for row in made.scores(value + above + seed, metric)
        ]
        made.metrics(setting, seed, rows)
    made.config["settings"]["absent"] = {}
    return made


SOURCES = ["decoder", "attention", "decoder-masks"]
CLAIM = {"says": "S", "source": "T", "order": ["random", "full"]}


def test_the_maximum_is_taken_metric_by_metric_of_decoder_and_attention(two_sources):
    table, _ = two_sources.table(maximum=True, mask_sources=SOURCES, published=["paper"])
    rows = table[table["mask_source"] == "maximum"]
    means = rows.set_index(["setting", "metric"])["mean"].to_dict()
    assert means == {
        **{("full", "corloc"): 61.0, ("full", "mbo_c"): 41.0},
        **{("random", "corloc"): 62.0, ("random", "mbo_c"): 42.0},
    }
    assert (rows["n_seeds"] == 3).all() and rows["sd"].tolist() == [1] * 4
    # Nothing that would compare what labels chose.
    compared = ["ci_low", "ci_high", "images_low", "images_high", "published", "difference"]
    assert rows[compared].isna().all(axis=None)
    before = table[(table["kind"] == "setting") & (table["mask_source"] != "maximum")]
    assert before.index.max() < rows.index.min()


def test_the_maximum_is_marked_and_never_bold(two_sources):
    table = {"maximum": True, "mask_sources": ["decoder", "attention"], "intervals": True}
    text = two_sources.table(**table)[1]
    caption, *lines = text.splitlines()
    marked = [line for line in lines if "best of both †" in line]
    assert len(marked) == 2 and not any("**" in line for line in marked)
    assert "**62.0" in text and "† For each metric the larger" in caption
    assert lines[lines.index(marked[0]) + 1] == marked[1]  # no interval below it
    tex = two_sources.paths.table("made", "tex").read_text()
    assert r"best of both $\dagger$" in tex and "†" not in tex
    assert "best of both †" in two_sources.paths.table("made", "html").read_text()


@pytest.mark.parametrize(
    "table",
    [
        {"mask_sources": ["decoder", "attention"]},
        {"maximum": True, "mask_sources": ["attention"]},
        {"maximum": True, "mask_sources": ["decoder-masks", "attention"]},
        {"maximum": True, "kind": "comparisons"},
        {"maximum": True, "kind": "claims", "claims": [CLAIM]},
    ],
)
def test_the_maximum_is_only_where_a_table_of_metrics_asks_for_it(two_sources, table):
    frame, text = two_sources.table(**table)
    assert "maximum" not in set(frame["mask_source"]) and "†" not in text
