"""What no table could print is refused where the config enters, and its advice is taken."""

import pytest

from mmqsa.config.base import merged
from mmqsa.config.workflow import Config
from mmqsa.errors import InputError

ONE = {"heads1": {"slots": {"num_heads": 1}}}


def table(**values):
    return {"tables": {"t": {"caption": "C", "settings": ["full"], **values}}}


OWN_SIZE = {"images": {"": ["val-native"]}}
CASES = [
    (
        {"dataset": {"kind": "scenes", "train_split": "trainaug"}},
        r"dataset.train_split: trainaug: a data set of kind scenes has train, ",
        {"dataset": {"train_split": "train"}},
    ),
    (
        {"dataset": {"kind": "coco20k"}},
        r"dataset.eval_split: val: a data set of kind coco20k has train, all-but-val; name one",
        {"dataset": {"eval_split": "train"}},
    ),
    (
        {"dataset": {"kind": "coco"}, **table(images={"": ["detection-val-squash"]})},
        r"tables.t.images: voc2012-detection-val-squash: .* has train, val, all-but-val; name one",
        table(images={"": ["val-squash"]}),
    ),
    (
        {"evaluation": {"kmeans_clusters": [64]}, "backbone": {"image_size": 96}},
        r"evaluation.kmeans_clusters: 64, but an image has 36 patches",
        {"evaluation": {"kmeans_clusters": [36]}},
    ),
    (
        {"evaluation": {"cut_segments": [64]}, "backbone": {"image_size": 96}},
        r"evaluation.cut_segments: 64, but an image has 36 patches",
        {"evaluation": {"baselines": ["kmeans"]}},
    ),
    (
        {"evaluation": {"mask_sources": ["attention"]}, **table(mask_sources=["decoder"])},
        r"tables.t.mask_sources: decoder is not scored; add it to evaluation.mask_sources",
        {"evaluation": {"mask_sources": ["attention", "decoder"]}},
    ),
    (
        table(mask_sources=["decoder"], **OWN_SIZE),
        r"tables.t.mask_sources: a decoder has positions .*; add attention",
        table(mask_sources=["attention"], **OWN_SIZE),
    ),
    (
        {"features": {"standardise": "position"}, **table(**OWN_SIZE)},
        r"features.standardise: position has a mean for each patch .*; choose feature or none",
        {"features": {"standardise": "none"}},
    ),
    (
        {"settings": {"full": {"features": {"standardise": "position"}}}, **table(**OWN_SIZE)},
        r"settings.full.features.standardise: position",
        {"settings": {"full": {"features": {"standardise": "feature"}}}},
    ),
    (
        {
            "settings": {"full": {}, **ONE},
            **table(settings=["full", "heads1"], matchings=["fusion"]),
        },
        r"tables.t: fusion is learned from several heads, .* has one; .* or add hungarian to its",
        table(settings=["full", "heads1"], matchings=["fusion", "hungarian"]),
    ),
    (
        {
            "settings": {"full": {}, **ONE},
            "evaluation": {"sweep": {"strategies": ["hungarian", "learned"]}},
            **table(settings=["heads1"], kind="sweep"),
        },
        r"tables.t: learned is learned from several heads",
        {"evaluation": {"sweep": {"strategies": ["hungarian"]}}},
    ),
    (
        {"matching": {"strategies": ["learned", "hungarian"]}, **table(kind="snapshots")},
        r"matching.strategies: snapshots \(tables.t\) are scored by the first, .* as hungarian",
        {"matching": {"strategies": ["hungarian", "learned"]}},
    ),
    ({"grid": []}, r"grid: names no setting; name one, or null for all", {"grid": None}),
    (
        {"settings": {"full": {}, **ONE}, "grid": ["heads1"]},
        r"showcase: full is not run; name one of heads1, or add it to grid",
        {"showcase": "heads1"},
    ),
]


@pytest.mark.parametrize("changes, said, advice", CASES, ids=[said[:40] for _, said, _ in CASES])
def test_what_nothing_could_score_is_refused(changes, said, advice):
    with pytest.raises(InputError, match=f"config: {said}"):
        Config.parse(changes)
    Config.parse(merged(changes, advice))


def test_a_table_that_is_not_made_may_be_impossible():
    boxes = table(images={"": ["detection-val-squash"]}, settings=["heads1"])
    config = {"dataset": {"kind": "coco"}, "settings": {"full": {}, **ONE}, "grid": ["full"]}
    assert Config.parse(config | boxes).names == ["full"]
