"""Ways to merge heads, each against its formula written out plainly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmqsa.model.matching import align
from mmqsa.model.merging import (
    HeadMerge,
    Merging,
    agreement_weights,
    consensus,
    join_alike,
    slots_of_segments,
    spectral_gap,
)
from mmqsa.model.slot_fusion import SlotFusion


@pytest.fixture
def slots():
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def masks():
    """Every head's masks (2, 3, 4, 16), 1 in sum over slots."""
    return torch.randn(2, 3, 4, 16, generator=torch.Generator().manual_seed(1)).softmax(dim=2)


def merge_of(slots, masks, matching, **extras):
    return HeadMerge(slots, masks, matching, torch.tensor([2, 0]), Merging(**extras))


def test_weights_are_the_mean_cosines_with_the_other_heads(slots, masks):
    order = align(slots, torch.tensor([2, 0]), "hungarian")
    weights = agreement_weights(slots, order)
    merged = merge_of(slots, masks, "weighted")
    for image in range(2):
        for place in range(4):
            own = [slots[image, head, order[image, head, place]] for head in range(3)]
            agreed = []
            for head in range(3):
                cosines = [F.cosine_similarity(own[head], other, dim=0) for other in own]
                del cosines[head]
                agreed.append(sum(max(float(cosine), 0.0) for cosine in cosines))
            total = sum(agreed)
            expected = [value / total if total else 1 / 3 for value in agreed]
            torch.testing.assert_close(weights[image, :, place], torch.tensor(expected))
            slot = sum(weight * one for weight, one in zip(expected, own, strict=True))
            torch.testing.assert_close(merged.of_slots()[image, place], slot)
    of_masks = merged.of_masks(masks)
    torch.testing.assert_close(of_masks.sum(dim=1), torch.ones(2, 16))
    first = sum(weights[0, head, 1] * masks[0, head, order[0, head, 1]] for head in range(3))
    every = sum(
        weights[0, head, place] * masks[0, head, order[0, head, place]]
        for head in range(3)
        for place in range(4)
    )
    torch.testing.assert_close(of_masks[0, 1], first / every)


def test_a_head_that_differs_from_all_others_is_left_out():
    same = torch.randn(1, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    slots = torch.cat([same, same, -same], dim=1)
    order = torch.arange(4).expand(1, 3, 4)
    weights = agreement_weights(slots, order)
    torch.testing.assert_close(weights[0, :, 0], torch.tensor([0.5, 0.5, 0.0]))


def test_a_fusion_reads_the_matched_slots_of_all_heads(slots, masks):
    torch.manual_seed(0)
    fusion = SlotFusion(3, 5, 7)
    torch.nn.init.normal_(fusion.last.weight)
    order = align(slots, torch.tensor([2, 0]), "hungarian")
    matched = [slots[1, head, order[1, head, 3]] for head in range(3)]
    hidden = F.gelu(fusion.first.weight @ torch.cat(matched) + fusion.first.bias)
    expected = sum(matched) / 3 + fusion.last.weight @ hidden + fusion.last.bias
    fused = merge_of(slots, masks, "fusion", fusion=fusion).of_slots()
    torch.testing.assert_close(fused[1, 3], expected)


def test_heads_that_agree_on_a_cut_are_that_cut():
    """Whatever the order of their slots; and a head that differs is outvoted."""
    cut = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 0])
    heads = [F.one_hot(torch.tensor(order)[cut], 3).T for order in ([0, 1, 2], [2, 0, 1])]
    odd = F.one_hot(torch.tensor([0, 1, 2] * 3), 3).T
    masks = torch.stack([*heads, heads[0], odd]).float()[None]
    found = consensus(masks, 3)[0]
    together = found.T @ found
    torch.testing.assert_close(together, (cut[:, None] == cut).float())
    chosen = consensus(F.pad(masks, (0, 0, 0, 2)), None)[0]  # of five slots, three are used
    torch.testing.assert_close(chosen.T @ chosen, together)
    assert chosen.shape == (5, 9) and (chosen.sum(dim=1) > 0).sum() == 3


def test_the_gap_is_that_of_the_normalised_laplacian():
    generator = np.random.default_rng(0)
    for _ in range(20):
        half = generator.random((12, 12)) ** 4
        affinity = half + half.T
        degree = affinity.sum(axis=1)
        laplacian = np.eye(12) - affinity / np.sqrt(degree[:, None] * degree)
        values = np.sort(np.linalg.eigvalsh(laplacian))
        gaps = [values[count] - values[count - 1] for count in range(2, 6)]
        assert spectral_gap(affinity, 5) == 2 + int(np.argmax(gaps))


def test_a_segments_slot_is_the_mean_of_those_that_attend_to_it(slots, masks):
    segments = torch.zeros(2, 2, 16)
    segments[:, 0, :5], segments[:, 1, 5:] = 1, 1
    found = slots_of_segments(slots, masks, segments)
    inside = masks[1, :, :, 5:].sum(dim=-1)
    expected = (inside[..., None] * slots[1]).sum(dim=(0, 1)) / inside.sum()
    torch.testing.assert_close(found[1, 1], expected)


def test_alike_masks_are_joined_one_pair_after_the_other():
    """Compared with the same on one image at a time, on sets of patches."""
    generator = torch.Generator().manual_seed(0)
    masks = (3 * torch.randn(6, 5, 20, generator=generator)).softmax(dim=1)
    masks[0, 3] = 0  # wins nothing
    features = torch.randn(6, 20, 3, generator=generator)
    counts = set()
    for alike in (-1.0, 0.0, 0.5, 0.9, 1.0):
        found = join_alike(masks, features, alike)
        torch.testing.assert_close(found.sum(dim=1), torch.ones(6, 20))
        for image in range(6):
            winners = masks[image].argmax(dim=0)
            groups = {slot: winners == slot for slot in range(5) if (winners == slot).any()}
            joined = {slot: masks[image, slot] for slot in range(5)}
            while len(groups) > 2:
                means = {slot: features[image][won].mean(dim=0) for slot, won in groups.items()}
                cosine, first, second = max(
                    (float(F.cosine_similarity(means[a], means[b], dim=0)), -a, -b)
                    for a in groups
                    for b in groups
                    if a < b
                )
                if cosine <= alike:
                    break
                groups[-first] = groups[-first] | groups.pop(-second)
                joined[-first] = torch.maximum(joined[-first], joined.pop(-second))
            for slot, won in groups.items():
                assert torch.equal(found[image].argmax(dim=0) == slot, won)
                expected = joined[slot] / sum(joined[other] for other in groups)
                torch.testing.assert_close(found[image, slot], expected)
            assert (found[image].sum(dim=1) > 0).sum() == len(groups)
            counts.add(len(groups))
    assert {2, 5} < counts  # from all alike to none
