from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mmqsa.model.matching import align, match, merge, overlap, reorder


def total(similarity, order):
    return sum(float(similarity[row, column]) for row, column in enumerate(order))


@given(seed=st.integers(0, 10_000), num_slots=st.integers(2, 5))
def test_hungarian_is_the_best_of_all_permutations(seed, num_slots):
    generator = torch.Generator().manual_seed(seed)
    slots, reference = torch.randn(2, 1, num_slots, 3, generator=generator)
    similarity = F.normalize(reference[0], dim=-1) @ F.normalize(slots[0], dim=-1).T
    best = max(total(similarity, order) for order in permutations(range(num_slots)))
    order = match(slots, reference, "hungarian")[0].tolist()
    assert sorted(order) == list(range(num_slots))
    assert total(similarity, order) == pytest.approx(best, abs=1e-5)
    greedy = match(slots, reference, "greedy")[0].tolist()
    assert sorted(greedy) == list(range(num_slots))
    assert total(similarity, greedy) <= best + 1e-5


def test_greedy_takes_the_most_similar_pair_first():
    """Where taking the best pair first costs more than it gains, the two differ."""
    angles = torch.tensor([0.0, 0.5])  # reference slots
    others = torch.tensor([0.45, -1.2])

    def circle(values):
        return torch.stack([values.cos(), values.sin()], dim=-1)[None]

    assert match(circle(others), circle(angles), "greedy").tolist() == [[1, 0]]
    assert match(circle(others), circle(angles), "unaligned").tolist() == [[0, 1]]


def test_permuted_heads_merge_to_the_reference_itself():
    torch.manual_seed(0)
    slots = torch.randn(3, 1, 5, 8)
    orders = torch.stack([torch.randperm(5) for _ in range(4)])
    heads = torch.cat([slots[:, :, order] for order in orders], dim=1)
    reference = torch.tensor([0, 2, 3])
    for strategy in ("hungarian", "greedy"):
        merged = merge(heads, align(heads, reference, strategy))
        torch.testing.assert_close(merged, heads[torch.arange(3), reference])


def test_overlap_of_soft_masks_by_hand():
    first = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.5]])
    second = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]])
    expected = torch.tensor([[0.0, 1.0], [1.5 / 2.0, 0.0]])
    torch.testing.assert_close(overlap(first, second), expected)
    assert (overlap(torch.zeros(2, 4), torch.zeros(2, 4)) == 0).all()


def test_matching_by_masks_looks_at_masks_alone():
    masks = torch.eye(4).repeat(2, 1, 1, 1)  # (2, 1, 4, 4)
    order = torch.tensor([3, 1, 0, 2])
    heads = torch.cat([masks, masks[:, :, order]], dim=1)
    matched = align(heads, torch.zeros(2, dtype=int), "mask")
    assert matched[:, 0].tolist() == [[0, 1, 2, 3]] * 2
    assert torch.equal(reorder(heads, matched)[:, 1], masks[:, 0])
    torch.testing.assert_close(merge(heads, matched), masks[:, 0])
