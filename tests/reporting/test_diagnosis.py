import re
from pathlib import Path

import pytest

from mmqsa.reporting.diagnosis import CHECKS

SEEDS = [0, 1, 2, 3]
VALUES = {"full": 60.0, "random": 40.0, "untrained": 60.0}  # ± 1.3 over seeds


@pytest.fixture
def signs(made):
    """``signs()``: sign -> yes, no or not measured, in the attention masks; and the Markdown."""
    made.config |= {"seeds": SEEDS, "settings": {name: {} for name in VALUES}}
    for setting, mean in VALUES.items():
        for seed in SEEDS:
            rows = made.scores(
                mean + seed - 1.5, "corloc", "corloc_one_box", "miou_with_background"
            )
            made.metrics(setting, seed, rows, mask_source="attention")
            steps = range(1, 21)
            rows = {"step": steps, "loss": [1 / (1 + step) for step in steps]}
            made.write(made.paths.run(setting, seed) / "history.csv", rows)
    control = [
        *made.scores(70.0, "corloc"),
        *made.scores(66.0, "corloc_one_box"),
        *made.scores(30.0, "miou_with_background"),
    ]
    made.references("controls", control, name="centre square")

    def make(source="attention"):
        table, text = made.table(kind="diagnosis", settings=list(VALUES), mask_sources=[source])
        return table.set_index("sign")["detected"].to_dict(), text

    return make


def test_signs_of_failure(signs):
    detected, text = signs()
    assert detected["good masks, loose boxes"] == "yes"  # 60 > 30, but 60 < 66
    assert detected["random masking as good as background masking"] == "no"
    assert detected["training no better than none"] == "yes"
    assert detected["below a control that looks at no image"] == "yes"  # CorLoc
    assert detected["loss still falling at the end"] == "yes"
    assert detected["seeds more than 2 points apart"] == "no"  # 1.3
    assert detected["slots collapsed"] == detected["heads that never match"] == "not measured"
    assert detected["below a training-free method on the same features"] == "not measured"
    assert "CorLoc 60.0, 70.0 (centre square)" in text and "**yes**" in text
    assert "decoder explains position, not the image" not in detected  # no such masks here


def test_seeds_that_differ_and_a_loss_that_is_flat(signs, made):
    rows = made.scores(50.0, "corloc", "corloc_one_box", "miou_with_background")
    made.metrics("full", 0, rows, mask_source="attention")
    for seed in SEEDS:
        rows = {"step": range(20), "loss": [1.0] * 20}
        made.write(made.paths.run("full", seed) / "history.csv", rows)
    detected, _ = signs()
    assert detected["seeds more than 2 points apart"] == "yes"
    assert detected["loss still falling at the end"] == "no"


@pytest.mark.parametrize("value, answer", [(31.9, "yes"), (32.1, "no")])  # the control has 30
def test_a_decoder_that_explains_position(signs, made, value, answer):
    rows = made.scores(value, "miou_with_background")
    for seed in SEEDS:
        made.metrics("full", seed, rows)
    assert signs("decoder")[0]["decoder explains position, not the image"] == answer


@pytest.mark.parametrize(
    "used, largest, answer", [(5.0, 0.81, "yes"), (1.9, 0.5, "yes"), (2.0, 0.8, "no")]
)
def test_collapsed_slots(signs, made, used, largest, answer):
    rows = [{"head": "merged", "slots_used": used, "largest_share": largest}]
    made.metrics("full", 0, rows, kind="slots", mask_source="attention")
    assert signs()[0]["slots collapsed"] == answer


@pytest.mark.parametrize("unlike, answer", [(1, "yes"), (3, "no")])
def test_heads_that_never_match(signs, made, unlike, answer):
    """Matching lifts the similarity of equal slots to 0.9, but not those of the head ``unlike``."""
    pairs = [
        {"head": head, "slot": slot, "other_head": other, "other_slot": other_slot, "before": 0.1}
        | {"after": 0.9 if slot == other_slot and unlike not in (head, other) else 0.1}
        for head in range(3)
        for slot in range(2)
        for other in range(3)
        for other_slot in range(2)
    ]
    made.metrics("full", 0, pairs, kind="agreement")
    detected, text = signs()
    assert detected["heads that never match"] == answer
    assert ("least gained by head 2" in text) == (answer == "yes")  # as figures count them


def test_without_a_run_nothing_is_diagnosed(signs, made):
    for path in made.paths.results.glob("runs/full/*/metrics/*.csv"):
        path.unlink()
    assert set(signs()[0].values()) == {"not measured"}


def test_the_page_says_what_to_try_for_every_sign():
    page = (Path(__file__).parents[2] / "docs/diagnosis.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", page, re.M)[1:]
    assert [sign for sign, *_ in rows] == list(CHECKS)


@pytest.mark.faults
@pytest.mark.parametrize("steps, loss", [(range(900, 920), 1.0), (range(20), 0.0)])
def test_a_loss_that_tells_nothing_is_not_measured(signs, made, steps, loss):
    for seed in SEEDS:
        rows = {"step": steps, "loss": [loss] * 20}
        made.write(made.paths.run("full", seed) / "history.csv", rows)
    assert signs()[0]["loss still falling at the end"] == "not measured"
