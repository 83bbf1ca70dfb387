"""Metrics against independent oracles, and the cases that definitions are about."""

import re
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score
from torchmetrics.functional.detection import intersection_over_union
from torchvision.ops import box_iou

from mmqsa.config.tables import METRICS, pack, unpack
from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError
from mmqsa.evaluation.boxes import box_ious, boxes, slot_boxes
from mmqsa.evaluation.metrics import (
    PROTOCOLS,
    GroundTruth,
    adjusted_rand_index,
    image_metrics,
)

TRUTH = arrays(np.uint8, (8, 8), elements=st.sampled_from([0, 0, 1, 2, 5, VOID]))
PREDICTION = arrays(np.uint8, (8, 8), elements=st.integers(0, 4))


def boxes_of_slots(prediction, valid):
    areas = np.bincount(prediction[valid], minlength=int(prediction.max()) + 1)
    return slot_boxes(prediction, valid, areas)


def box_metrics(predicted, true):
    """{metric: value} of predicted boxes on annotated ones."""
    truth = GroundTruth(None, None, ("boxes", "single"), true)
    found = image_metrics(np.zeros((20, 20), np.uint8), truth, predicted)
    own = {name: value for (protocol, name), value in found.items() if protocol == "boxes"}
    # A method's own box is the same however one would be read out of slots.
    single = [value for (protocol, _), value in found.items() if protocol == "single"]
    np.testing.assert_array_equal(single, [own["corloc_one_box"]] * 4)
    return own


def test_every_metric_has_a_heading_and_the_reverse():
    assert {name for protocol in PROTOCOLS.values() for name in protocol} == set(METRICS)


def test_a_column_is_unpacked_as_it_was_packed():
    names = [(protocol, name) for protocol, own in PROTOCOLS.items() for name in own]
    columns = [pack(*name) for name in names]
    assert columns[0] == "paper/corloc"
    assert unpack(["image_id", *columns, "name"]) == dict(zip(columns, names, strict=True))


def iou(first, second, valid):
    first, second = first & valid, second & valid
    union = (first | second).sum()
    return (first & second).sum() / union if union else 0.0


@settings(max_examples=200)
@given(prediction=PREDICTION, truth=TRUTH)
def test_masks_against_plain_loops(prediction, truth):
    valid = truth != VOID
    found = image_metrics(prediction, GroundTruth(truth, truth))
    objects = [label for label in np.unique(truth[valid]) if label != 0]
    slots = [prediction == slot for slot in range(5)]
    best = [max(iou(truth == label, slot, valid) for slot in slots) for label in objects]
    expected = np.mean(best) if best else np.nan
    np.testing.assert_allclose(found["paper", "mbo_c"], expected)
    np.testing.assert_allclose(found["dinosaur", "mbo_i"], expected)
    for name, labels in (
        (("paper", "miou_with_background"), list(np.unique(truth[valid]))),
        (("dinosaur", "miou"), objects),
    ):
        table = np.array([[iou(truth == label, slot, valid) for slot in slots] for label in labels])
        if not len(labels):
            assert np.isnan(found[name])
            continue
        brute = max(
            sum(table[row, column] for row, column in enumerate(order))
            for order in permutations(range(5), len(labels))
        )
        np.testing.assert_allclose(found[name], brute / len(labels))


@settings(max_examples=200)
@given(prediction=PREDICTION, truth=TRUTH)
def test_fg_ari_against_scikit_learn(prediction, truth):
    inside = (truth != VOID) & (truth != 0)
    found = image_metrics(prediction, GroundTruth(None, truth))["dinosaur", "fg_ari"]
    if not inside.any():
        assert np.isnan(found)
    else:
        np.testing.assert_allclose(
            found, adjusted_rand_score(truth[inside], prediction[inside]), atol=1e-12
        )


@settings(max_examples=100)
@given(prediction=PREDICTION, truth=TRUTH)
def test_corloc_against_torchmetrics_boxes(prediction, truth):
    valid = truth != VOID

    def tight(labels, skip):
        rows = []
        for label in np.unique(labels[valid]):
            if label != skip:
                y, x = np.nonzero((labels == label) & valid)
                rows.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
        return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)

    own, ground = tight(prediction, None), tight(truth, 0)
    values = image_metrics(prediction, GroundTruth(truth, None))
    found = values["paper", "corloc"]
    if not len(ground):
        assert np.isnan(found) and np.isnan(values["paper", "corloc_one_box"])
        return
    overlap = intersection_over_union(own, ground, aggregate=False)
    assert found == float((overlap > 0.5).any())
    assert values["paper", "corloc_one_box"] <= found
    np.testing.assert_allclose(box_ious(own.numpy(), ground.numpy()), overlap, atol=1e-9)


def largest_part(inside):
    """The first of the largest parts that are connected by edges, by filling."""
    best, left = np.zeros_like(inside), inside.copy()
    for start in zip(*np.nonzero(inside), strict=True):
        part, queue = np.zeros_like(inside), [start]
        while queue:
            y, x = queue.pop()
            if 0 <= y < len(left) and 0 <= x < len(left) and left[y, x]:
                left[y, x], part[y, x] = False, True
                queue += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        best = part if part.sum() > best.sum() else best
    return best


@settings(max_examples=200)
@given(prediction=PREDICTION, truth=TRUTH)
def test_single_boxes_against_plain_loops(prediction, truth):
    found = image_metrics(prediction, GroundTruth(truth, None, ("paper", "single")))
    valid, edge = truth != VOID, np.ones(truth.shape, bool)
    edge[1:-1, 1:-1] = False
    slots = [slot for slot in range(8) if ((prediction == slot) & valid).any()]
    if not slots or not ((truth > 0) & valid).any():
        assert np.isnan(found["single", "corloc_innermost_box"]) or not slots
        return

    def touching(slot):
        return ((prediction == slot) & edge).sum()

    def size(slot):
        return ((prediction == slot) & valid).sum()

    innermost = min(slots, key=lambda slot: (touching(slot), -size(slot), slot))
    background = min(range(8), key=lambda slot: (-touching(slot), slot))
    inner = [slot for slot in slots if slot != background] or slots
    largest = min(inner, key=lambda slot: (-size(slot), slot))
    for slot, name in ((largest, "one"), (innermost, "innermost")):
        inside = (prediction == slot) & valid
        part = largest_part(inside)
        for pixels, suffix in ((inside, ""), (part, "_part")):
            y, x = np.nonzero(pixels)
            box = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], dtype=float)
            hit = (box_ious(box, boxes(np.where(valid, truth, 0))) > 0.5).any()
            assert found["single", f"corloc_{name}_box{suffix}"] == float(hit)
    assert found["single", "corloc_one_box"] == found["paper", "corloc_one_box"]


def test_stray_pixels_do_not_widen_the_box_of_a_part():
    truth = np.zeros((20, 20), np.uint8)
    truth[6:14, 6:14] = 3
    prediction = (truth == 3).astype(np.uint8)
    prediction[1, 18] = 1
    found = image_metrics(prediction, GroundTruth(truth, None, ("paper", "single")))
    assert found["single", "corloc_one_box"] == 0 and found["single", "corloc_one_box_part"] == 1
    prediction[:, 9:12] = 1  # a slot from edge to edge, larger than the object's
    prediction[16:18, 2:18] = 2
    found = image_metrics(prediction, GroundTruth(truth, None, ("paper", "single")))
    assert found["single", "corloc_innermost_box"] == 0  # the stripe at the bottom


def test_void_is_ignored_on_both_sides():
    truth = np.zeros((6, 6), np.uint8)
    truth[1:4, 1:4] = 3
    prediction = (truth == 3).astype(np.uint8)
    truth[4:, :] = VOID
    spilled = prediction.copy()
    spilled[4:, :] = 1  # only into void
    ignoring = GroundTruth(truth, None, ["paper"])
    assert image_metrics(spilled, ignoring) == image_metrics(prediction, ignoring)
    assert image_metrics(prediction, GroundTruth(truth, None))["paper", "mbo_c"] == 1.0


def test_an_image_without_objects_has_only_what_it_can_have():
    found = image_metrics(np.zeros((4, 4), np.uint8), GroundTruth(np.zeros((4, 4), np.uint8), None))
    assert found["paper", "miou_with_background"] == 1.0
    assert np.isnan(found["paper", "corloc"]) and np.isnan(found["paper", "mbo_c"])


def test_void_everywhere():
    nothing = np.full((4, 4), VOID, np.uint8)
    found = image_metrics(np.zeros((4, 4), np.uint8), GroundTruth(nothing, nothing))
    assert all(np.isnan(value) for value in found.values())


def test_box_overlap_of_exactly_half_is_no_hit():
    truth = np.zeros((4, 8), np.uint8)
    truth[:2, :4] = 1
    prediction = np.zeros((4, 8), np.uint8)
    prediction[:4, :4] = 1
    truth[2:, 4:] = VOID  # the other slot's box must not hit either
    values = image_metrics(prediction, GroundTruth(truth, None))
    assert values["paper", "corloc"] == 0.0
    own, ground = np.array([[0, 0, 4, 4.0]]), np.array([[0, 0, 4, 2.0]])
    found = box_metrics(own, ground)
    assert found["corloc"] == found["corloc_one_box"] == 0.0
    assert found["corloc_or_equal"] == found["corloc_one_box_or_equal"] == 1.0


def test_one_slot_and_one_object():
    assert adjusted_rand_index(np.array([[9]])) == 1.0
    assert adjusted_rand_index(np.array([[5, 4]])) == 0.0


@given(prediction=PREDICTION, truth=TRUTH)
def test_slots_that_are_empty_change_nothing(prediction, truth):
    """Fewer slots than K: as if the others were not there, whatever the numbers of those left."""
    spread = np.array([1, 3, 6, 9, 11], np.uint8)[prediction]
    one, other = (image_metrics(own, GroundTruth(truth, truth)) for own in (prediction, spread))
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name])


def test_more_segments_than_slots_count_as_not_found():
    truth = np.arange(4, dtype=np.uint8).repeat(4).reshape(4, 4)
    found = image_metrics(np.zeros((4, 4), np.uint8), GroundTruth(truth, None))
    assert found["paper", "miou_with_background"] == pytest.approx(0.25 / 4)


@settings(max_examples=100)
@given(prediction=PREDICTION, classes=TRUTH, instances=TRUTH)
def test_each_protocol_has_its_own_labels_and_void(prediction, classes, instances):
    both = image_metrics(prediction, GroundTruth(classes, instances))
    apart = {
        **image_metrics(prediction, GroundTruth(None, instances)),
        **image_metrics(prediction, GroundTruth(classes, None)),
    }
    assert set(both) == set(apart) | {("dinosaur", "mbo_c")}
    for name, value in apart.items():
        np.testing.assert_equal(both[name], value)


@settings(max_examples=100)
@given(prediction=arrays(np.uint8, (9, 7), elements=st.integers(0, 63)), truth=TRUTH)
def test_boxes_by_bits_equal_boxes_by_search(prediction, truth):
    valid = np.resize(truth, (9, 7)) != VOID
    expected = boxes(np.where(valid, prediction.astype(np.int32) + 1, 0))
    found = boxes_of_slots(prediction, valid)
    np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(expected, axis=0))
    assert {tuple(box) for box in found} == {tuple(box) for box in expected}


def test_the_one_box_is_that_of_the_largest_slot_off_the_border():
    prediction = np.zeros((8, 8), np.uint8)
    prediction[2:6, 2:5] = 2
    prediction[2:4, 6] = 1
    everywhere = np.ones((8, 8), bool)
    assert boxes_of_slots(prediction, everywhere)[0].tolist() == [2, 2, 5, 6]
    assert boxes_of_slots(np.zeros((8, 8), np.uint8), everywhere).tolist() == [[0, 0, 8, 8]]
    assert len(boxes_of_slots(prediction, ~everywhere)) == 0  # void alone: no box at all


def test_void_that_is_counted_is_no_object_but_costs_predictions():
    truth = np.zeros((4, 4), np.uint8)
    truth[:2, :2], truth[2:] = 5, VOID
    prediction = np.zeros((4, 4), np.uint8)
    prediction[:, :2] = 1  # the object, and as much void
    ignored = image_metrics(prediction, GroundTruth(truth, None))
    counted = image_metrics(prediction, GroundTruth(truth, None, ["released"]))
    assert ignored["paper", "mbo_c"] == 1.0 and counted["released", "mbo_c"] == 0.5
    assert ignored["paper", "corloc"] == 1.0 and counted["released", "corloc"] == 0.0
    assert counted["released", "miou_with_background"] == pytest.approx((4 / 8 + 4 / 8) / 2)


@settings(max_examples=100)
@given(prediction=PREDICTION, classes=TRUTH, instances=TRUTH)
def test_the_spot_protocol_is_spots(prediction, classes, instances):
    """There: true_mask[true_mask == 255] = 0 and an empty mask of ignored pixels."""
    found = image_metrics(prediction, GroundTruth(classes, instances))
    everywhere = np.ones((8, 8), bool)
    for labels, best, matched in ((classes, "mbo_c", None), (instances, "mbo_i", "miou")):
        true = np.where(labels == VOID, 0, labels)
        objects = [label for label in np.unique(true) if label]
        table = np.array(
            [[iou(true == o, prediction == s, everywhere) for s in range(5)] for o in objects]
        )
        if objects:
            assert found["spot", best] == pytest.approx(table.max(axis=1).mean())
        else:
            assert np.isnan(found["spot", best])
        if objects and matched:
            rows, columns = linear_sum_assignment(-table)
            assert found["spot", matched] == pytest.approx(
                table[rows, columns].sum() / len(objects)
            )
    if np.isfinite(found["dinosaur", "fg_ari"]):
        assert found["spot", "fg_ari"] == found["dinosaur", "fg_ari"]


@settings(max_examples=200)
@given(prediction=PREDICTION, classes=TRUTH)
def test_the_released_protocol_is_the_released_codes(prediction, classes):
    """There: one-hot masks without void, boxes from the first to the last pixel's index, any IoU
    > 0.5; and IoUs of all classes that are present, the background too."""
    found = image_metrics(prediction, GroundTruth(classes, None, ["released"]))

    def box(mask):
        y, x = np.nonzero(mask)
        return [x.min(), y.min(), x.max(), y.max()]

    present = [label for label in np.unique(classes) if label != VOID]
    true = torch.tensor([box(classes == label) for label in present if label]).reshape(-1, 4)
    own = torch.tensor([box(prediction == slot) for slot in np.unique(prediction)])
    if len(true):
        overlap = box_iou(own.float(), true.float())
        assert found["released", "corloc"] == float((overlap > 0.5).any())
    everywhere = np.ones((8, 8), bool)
    table = np.array(
        [[iou(classes == c, prediction == s, everywhere) for s in range(5)] for c in present]
    )
    if present:
        rows, columns = linear_sum_assignment(-table)
        mean = table[rows, columns].sum() / len(present)
        assert found["released", "miou_with_background"] == pytest.approx(mean)
    objects = table[[index for index, label in enumerate(present) if label]]
    if len(objects):
        assert found["released", "mbo_c"] == pytest.approx(objects.max(axis=1).mean())


@given(
    own=arrays(np.float64, (3, 4), elements=st.floats(0, 20)),
    truth=arrays(np.float64, (2, 4), elements=st.floats(0, 20)),
)
def test_box_metrics_against_plain_loops(own, truth):
    for boxes_ in (own, truth):
        boxes_[:, 2:] = boxes_[:, :2] + 1 + boxes_[:, 2:]
    overlap = intersection_over_union(
        torch.tensor(own), torch.tensor(truth), aggregate=False
    ).numpy()
    found = box_metrics(own, truth)
    near = np.abs(overlap - 0.5).min() < 1e-9
    if not near:
        assert found["corloc"] == found["corloc_or_equal"] == float((overlap > 0.5).any())
        assert found["corloc_one_box"] == float((overlap[0] > 0.5).any())
    assert all(np.isnan(value) for value in box_metrics(own, truth[:0]).values())
    assert set(box_metrics(own[:0], truth).values()) == {0.0}


@settings(max_examples=100)
@given(prediction=PREDICTION, classes=TRUTH, instances=TRUTH)
def test_objects_and_their_overlaps_against_plain_loops(prediction, classes, instances):
    truth = GroundTruth(classes, instances)
    counts = truth.counts(prediction)
    for labels, own in ((truth.classes, classes), (truth.instances, instances)):
        valid = own != VOID
        names = [label for label in np.unique(own[valid]) if label]
        shares = [(own == label).sum() / valid.sum() for label in names]
        best = [
            max(iou(own == label, prediction == slot, valid) for slot in range(5))
            for label in names
        ]
        found = truth.overlaps(labels, counts)[labels.first_object :].max(axis=1)
        np.testing.assert_allclose(found, best)
        np.testing.assert_allclose([share for _, share in truth.objects(labels)], shares)
    assert [label for label, _ in truth.objects(truth.classes)] == [
        label for label in np.unique(classes) if label not in (0, VOID)
    ]


def test_regions_and_their_counts():
    classes = np.array([[0, 2], [2, VOID]], np.uint8)
    instances = np.array([[0, 1], [2, VOID]], np.uint8)
    truth = GroundTruth(classes, instances)
    table = truth.counts(np.array([[0, 1], [0, 1]], np.uint8))
    assert table.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert (truth.classes.rows @ table).tolist() == [[1, 0], [1, 1]]
    assert (truth.instances.rows @ table).tolist() == [[1, 0], [0, 1], [1, 0]]
    assert boxes(np.array([[0, 0, 0], [0, 3, 3]])).tolist() == [[1, 1, 3, 2]]


@pytest.mark.parametrize("kind", ["i8", "i4", "u2", "?"])
def test_a_label_map_of_any_whole_numbers_has_the_same_scores(kind):
    labels = np.array([[0, 0, 3, 3, 255]] * 5, dtype=np.uint8)
    slots = np.array([[0, 0, 0, 1, 1]] * 5, dtype=np.uint8)
    truth = GroundTruth(labels, None)
    assert image_metrics(slots.astype(kind), truth) == image_metrics(slots, truth)


@pytest.mark.parametrize(
    "prediction, said",
    [
        (np.zeros((4, 5), int), "of shape (4, 5); its labels have (5, 5)"),
        (np.full((5, 5), -1), "a slot below 0"),
        (np.zeros((5, 5)), "float64; expected a slot's number"),
    ],
)
def test_what_is_no_label_map_is_refused(prediction, said):
    truth = GroundTruth(np.array([[0, 0, 3, 3, 255]] * 5, dtype=np.uint8), None)
    with pytest.raises(InputError, match=re.escape(said)):
        image_metrics(prediction, truth)
