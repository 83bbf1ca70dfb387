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
    figure = controls_figure(runs.results(settings=["full"], labels={"full": "Ours"}))
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert names == ["Ours, decoder masks", "k-means, K = 2", "k-means, K = 7", "one slot"]


def test_strata_leave_out_what_has_no_objects(made):
    objects = [{"image_id": "a", "share": 0.5, "class": 1, "iou": 0.5, "labels": "class"}]
    made.metrics("full", 0, objects, kind="per_object")
    figure = strata_figure(made.results(kind="strata", labels={"full": "Ours"}))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Ours"]
    (by_size, _) = figure.axes
    heights = by_size.containers[0].lines[0].get_ydata().astype(float)
    assert np.isnan(heights[:4]).all() and heights[4] == 50  # more than 30 % of the image


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
