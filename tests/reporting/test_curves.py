import matplotlib.pyplot as plt
import pytest

from mmqsa.config.files import dump_yaml
from mmqsa.config.workflow import Config
from mmqsa.errors import InputError
from mmqsa.reporting.curves import (
    curve_figure,
    severity_figure,
    snapshots_figure,
    sweep_figure,
    time_figure,
)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def lines(axis):
    """Label -> the x and y of each line with error bars."""
    return {
        container.get_label(): container.lines[0].get_xydata().tolist()
        for container in axis.containers
    }


@pytest.fixture
def heads(made):
    made.config["settings"] = {
        **{f"heads{n}": {"slots": {"num_heads": n}} for n in (1, 2, 4)},
        "bare": {"masking": {"strategy": "none"}, "slots": {"num_heads": 8}},
    }
    made.config |= {"showcase": "heads1", "seeds": [0, 1, 2]}
    config = Config.model_validate(made.config)
    for setting, value in (("heads4", 60.0), ("heads1", 50.0), ("heads2", 55.0), ("bare", 20.0)):
        for seed in (0, 1, 2):
            made.metrics(setting, seed, made.scores(value + seed, "corloc", "mbo_c"))
            text = dump_yaml(config.setting(setting).dependencies())
            (made.paths.run(setting, seed) / "config.yaml").write_text(text)
    return made


def test_a_curve_is_drawn_against_the_recorded_knob(heads):
    heads.references("kmeans", heads.scores(40.0, "corloc"), name="k-means, K = 7", num_slots=7)
    curve = {"against": "slots.num_heads", "lines": {"a": ["heads4", "heads1", "heads2"]}}
    figure = curve_figure(heads.results(settings=["heads1", "heads2", "heads4"], curve=curve))
    first, second = figure.axes
    assert lines(first) == {"a": [[1, 51], [2, 56], [4, 61]]}
    (bars,) = first.containers[0].lines[2]  # Student's t of three seeds, one apart
    ends = bars.get_segments()[0][:, 1].tolist()
    half = 4.3027 / 3**0.5
    assert ends == pytest.approx([51 - half, 51 + half], abs=1e-3)
    assert figure.legends[0].get_title().get_text().startswith("bars: 95 % interval")
    assert first.get_xscale() == "log" and first.get_ylabel() == "decoder masks, %"
    assert first.get_xlabel() == "query heads" and second.get_title() == "mBO$^c$"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["a", "k-means, K = 7"]


def test_no_masking_hides_nothing_whatever_its_ratio(heads):
    figure = curve_figure(
        heads.results(settings=["heads1", "bare"], curve={"against": "masking.ratio"})
    )
    assert lines(figure.axes[0]) == {"mean over seeds": [[0, 21], [0.7, 51]]}


def test_every_line_of_a_panel_is_inside_it(heads):
    """Also a reference line just beyond what the settings reach."""
    heads.references("controls", heads.scores(17.0, "corloc"), name="centre square")
    curve = {"against": "slots.num_heads"}
    (axis, _) = curve_figure(heads.results(curve=curve)).axes
    low, high = axis.get_ylim()
    across = axis.get_lines()[-1].get_ydata()[0]
    assert across == 17 and low < 17 - 0.02 * (high - low)


def test_severity_starts_at_the_clean_images(made):
    for images, value in (("val", 60.0), ("val-fog3", 40.0), ("val-fog5", 20.0)):
        for seed in (0, 1):
            rows = made.scores(value + 2 * seed, "corloc", "mbo_c")
            made.metrics("full", seed, rows, images=f"voc2012-{images}")
    images = {"clean": ["val"], "fog": ["val-fog3", "val-fog5"]}
    figure = severity_figure(made.results(settings=["full"], images=images))
    assert lines(figure.axes[0]) == {"fog": [[0, 61], [3, 41], [5, 21]]}
    with pytest.raises(InputError, match="no metrics on corrupted images"):
        severity_figure(made.results(settings=["full"], images={"clean": ["val"]}))


def test_snapshots_are_drawn_against_images_with_the_loss_beside_them(made):
    for seed in (0, 1):
        rows = [
            row | {"step": step, "images_seen": 16 * step}
            for step in (0, 100)
            for row in made.scores(step / 10 + 2 * seed, "mbo_c")
        ]
        made.metrics("full", seed, rows, kind="snapshots")
        history = made.paths.run("full", seed) / "history.csv"
        made.write(history, {"step": [50, 100], "loss": [1.0, 0.5 + seed]})
    once = [row | {"step": 1, "images_seen": 16} for row in made.scores(58.0, "mbo_c")]
    made.metrics("random", 0, once, kind="snapshots")
    loss, metric = snapshots_figure(made.results(kind="snapshots")).axes
    course, _ = loss.get_lines()
    assert course.get_xydata().tolist() == [[800, 1.0], [1600, 1.0]]
    assert lines(metric) == {"full": [[0, 1.0], [1600, 11.0]]}
    across = metric.get_lines()[-1]
    assert loss.get_xscale() == "symlog" and loss.get_xticks().tolist() == [0]
    assert across.get_ydata() == [58.0, 58.0] and metric.get_title() == "mBO$^c$"


def test_time_is_a_snapshots_share_of_its_runs_seconds(made):
    for seed, seconds in ((0, 50.0), (1, 150.0)):
        rows = [
            row | {"step": step, "images_seen": 16 * step}
            for step in (0, 25, 100)
            for row in made.scores(step / 10 + 2 * seed, "mbo_c", "corloc")
        ]
        made.metrics("full", seed, rows, kind="snapshots")
        made.provenance("full", seed, seconds=seconds)
    once = [row | {"step": 1, "images_seen": 16} for row in made.scores(58.0, "mbo_c")]
    made.metrics("random", 0, once, kind="snapshots")
    with pytest.raises(InputError, match=r"random/seed0/provenance.json: missing; restore it"):
        time_figure(made.results(kind="snapshots"))
    made.provenance("random", 0, seconds=1.0)
    (axis,) = time_figure(made.results(kind="snapshots")).axes
    assert lines(axis) == {"full": [[25, 3.5], [100, 11.0]]}
    *_, seeds, across = axis.get_lines()
    assert seeds.get_xydata().tolist() == [[25, 2.5], [25, 4.5], [100, 10], [100, 12]]
    assert across.get_ydata() == [58.0, 58.0] and axis.get_xscale() == "log"


def test_a_sweep_is_drawn_at_the_trained_iterations(made):
    for seed in (0, 1):
        rows = [
            row | {"num_slots": num_slots, "iterations": iterations, "matching": matching}
            for matching, gain in (("hungarian", 0.0), ("joined", 5.0))
            for num_slots, iterations in ((2, 3), (4, 3), (3, 1))
            for row in made.scores(10.0 * num_slots + seed + gain, "mbo_c")
        ]
        made.metrics("full", seed, rows, kind="sweep")
        text = dump_yaml(Config.model_validate(made.config).setting("full").dependencies())
        (made.paths.run("full", seed) / "config.yaml").write_text(text)
    table = {"kind": "sweep", "settings": ["full"], "matchings": ["hungarian", "joined"]}
    (axis,) = sweep_figure(made.results(**table, labels={"joined": "chosen"})).axes
    assert lines(axis) == {"hungarian": [[2, 20.5], [4, 40.5]], "chosen": [[2, 25.5], [4, 45.5]]}
    with pytest.raises(InputError, match="no sweep of random to draw"):
        sweep_figure(made.results(**table | {"settings": ["random", "full"]}))
    frame, text = made.table(**table)
    assert len(frame) == 6 and "full, joined, K = 4, T = 3" in text
    frame, text = made.table(kind="sweep", settings=["full"])
    assert set(frame["matching"]) == {"hungarian"} and "full, K = 4, T = 3" in text


@pytest.mark.faults
def test_a_run_that_lost_its_config_is_named(heads):
    for seed in (0, 1, 2):
        (heads.paths.run("heads1", seed) / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"runs/heads1/seed0/config\.yaml: cannot be read"):
        curve_figure(heads.results(curve={"against": "slots.num_heads"}))


@pytest.mark.faults
def test_a_curve_of_no_line(heads):
    curve = {"against": "slots.num_heads", "lines": {"none of them": []}}
    assert not heads.results(curve=curve).spec.table.drawn
    curve["lines"]["all"] = ["heads1", "heads2"]
    figure = curve_figure(heads.results(curve=curve, references="none"))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all"]


@pytest.mark.faults
def test_snapshots_that_saw_no_images(made):
    rows = [
        row | {"step": step, "images_seen": 0}
        for step in (0, 9)
        for row in made.scores(1.0, "mbo_c")
    ]
    made.metrics("full", 0, rows, kind="snapshots")
    assert snapshots_figure(made.results(kind="snapshots")).axes
