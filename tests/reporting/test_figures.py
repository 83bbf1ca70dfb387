import numpy as np
import pytest
from matplotlib import pyplot as plt

from mmqsa.errors import InputError
from mmqsa.reporting.figures import FIGURES, controls_figure, draw, similarity_figure, strata_figure
from mmqsa.reporting.inputs import FIGURES as INPUTS


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def runs(made):
    for seed in (0, 1):
        made.metrics("full", seed, made.scores(50.0 + seed, "corloc", "mbo_c"))
        made.write(made.paths.run("full", seed) / "history.csv", {"step": [1, 2], "loss": [1, 0.5]})
    made.references("controls", made.scores(33.0, "corloc", "mbo_c"), name="one slot")
    rows = [
        row | {"name": f"k-means, K = {k}", "num_slots": k}
        for k in (2, 3, 7)
        for row in made.scores(40.0 + k, "corloc", "mbo_c")
    ]
    made.references("kmeans", rows)
    return made


def test_every_kind_of_figure_declares_its_inputs():
    assert set(FIGURES) == set(INPUTS)


def test_figures_are_the_same_bytes_again(runs):
    results = runs.results(figures=["controls", "training"])
    for kind in results.spec.table.drawn:
        paths = draw(kind, results)
        first = [path.read_bytes() for path in paths]
        assert [path.name for path in paths] == [f"made-{kind}.pdf", f"made-{kind}.png"]
        assert all(map(len, first))
        assert first == [path.read_bytes() for path in draw(kind, results)]


@pytest.mark.parametrize("kind", FIGURES)
def test_a_figure_of_nothing_is_an_error(made, kind):
    with pytest.raises(InputError):
        draw(kind, made.results(curve={"against": "slots.num_heads"}))
    assert not plt.get_fignums()


def test_controls_stand_beside_settings_by_mask_source(runs):
    figure = controls_figure(runs.results(settings=["full"], names={"full": "Ours"}))
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert names == ["Ours", "k-means, K = 2", "k-means, K = 7", "one slot"]
    kinds = [text.get_text() for text in figure.legends[0].get_texts()]
    assert kinds == ["decoder masks", "without training", "looks at no image"]
    note = figure.legends[0].get_title().get_text()
    assert note == "means over n = 2 training seeds; small points: single seeds"


def test_a_table_of_few_references_has_these_in_its_figure(runs):
    runs.references("kmeans", runs.scores(50.0, "mbo_c"), name="k-means, K = 2")
    runs.references("lost", runs.scores(40.0, "mbo_c"), name="LOST")
    figure = controls_figure(runs.results(settings=["full"], references="few"))
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert names == ["full", "k-means, K = 2", "one slot"]


def test_markers_at_the_ends_of_the_scale_are_whole(runs):
    runs.references(
        "controls", runs.scores(0.0, "corloc") + runs.scores(100.0, "mbo_c"), name="one"
    )
    figure = controls_figure(runs.results())
    figure.canvas.draw()
    for axis in figure.axes:
        for line in (container.lines[0] for container in axis.containers):
            for x, _ in axis.transData.transform(line.get_xydata()):
                radius = line.get_markersize() * figure.dpi / 72 / 2
                assert axis.bbox.x0 < x - radius and x + radius < axis.bbox.x1


def test_a_control_on_two_rows_of_images_is_drawn_on_both(runs):
    for seed in (0, 1):
        runs.metrics("full", seed, runs.scores(20.0, "mbo_c"), images="voc2012-val-fog1")
    images = {"": ["val"], "fog": ["val-fog1"]}
    figure = controls_figure(runs.results(settings=["full"], images=images, references="none"))
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert names == ["full", "full, fog"]


def test_strata_leave_out_what_has_no_objects(made):
    objects = [{"image_id": "a", "share": 0.5, "class": 1, "iou": 0.5, "labels": "class"}]
    made.metrics("full", 0, objects, kind="per_object")
    figure = strata_figure(made.results(kind="strata", names={"full": "Ours"}))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Ours"]
    by_size, by_number = figure.axes
    assert by_size.containers[0].lines[0].get_xydata().tolist() == [[0, 50]]
    assert [tick.get_text() for tick in by_size.get_xticklabels()] == ["> 30 %"]
    assert [tick.get_text() for tick in by_number.get_xticklabels()] == ["1 object"]


def test_similarity_is_ordered_by_head_and_slot(made):
    pairs = [
        {"head": a, "slot": b, "other_head": c, "other_slot": d}
        | {"before": 0.1, "after": (8 * a + 4 * b + 2 * c + d) / 20}
        for a in (1, 0)
        for b in (1, 0)
        for c in (0, 1)
        for d in (0, 1)
    ]
    made.metrics("full", 0, pairs, kind="agreement")
    figure = similarity_figure(made.results(kind="diagnosis"))
    drawn = np.asarray(figure.axes[1].images[0].get_array())
    np.testing.assert_allclose(drawn, np.arange(16).reshape(4, 4) / 20)
    assert figure.axes[1].get_title() == "after matching"
