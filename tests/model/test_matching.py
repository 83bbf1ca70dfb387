from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from mmqsa.model.matching import align, best_assignment, match, merge


def total(similarity, order):
    return sum(float(similarity[row, column]) for row, column in enumerate(order))


@given(seed=st.integers(0, 10_000), number=st.integers(2, 5))
def test_hungarian_is_the_best_of_all_permutations(seed, number):
    generator = torch.Generator().manual_seed(seed)
    slots, reference = torch.randn(2, 1, number, 3, generator=generator)
    similarity = F.normalize(reference[0], dim=-1) @ F.normalize(slots[0], dim=-1).T
    best = max(total(similarity, order) for order in permutations(range(number)))
    found = match(slots, reference, "hungarian")[0]
    assert sorted(found.tolist()) == list(range(number))
    assert total(similarity, found.tolist()) == pytest.approx(best, abs=1e-5)
    greedy = match(slots, reference, "greedy")[0].tolist()
    assert sorted(greedy) == list(range(number))
    assert total(similarity, greedy) <= best + 1e-5


@pytest.mark.parametrize("rows, columns", [(1, 1), (2, 5), (7, 7), (3, 12), (12, 12), (13, 13)])
def test_assignment_equals_scipys(rows, columns):
    """13 columns go to SciPy itself, and prove that the way there is right."""
    value = torch.randn(6, rows, columns, generator=torch.Generator().manual_seed(rows))
    for matrix, order in zip(value, best_assignment(value), strict=True):
        expected = linear_sum_assignment(matrix.numpy(), maximize=True)[1]
        assert order.tolist() == expected.tolist()


def test_equal_values_still_give_one_column_to_each_row():
    order = best_assignment(torch.zeros(2, 4, 6))
    assert all(len(set(own.tolist())) == 4 for own in order)


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
