"""Which slot of one head is which slot of another, and the merge of all heads into one set."""

from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmqsa.config.evaluation import MatchingName

MOST_COLUMNS = 12


def match(values: Tensor, reference: Tensor, strategy: MatchingName) -> Tensor:
    """Slots (M, K, X), or their masks, and a reference's, of one shape -> (M, K) int64.

    Entry k is the index of the slot that goes with the reference's slot k: by the one-to-one
    assignment of greatest total cosine similarity (``hungarian``, the paper; ``learned``, on
    projected slots), of greatest total overlap of masks (``mask``), by taking the most similar
    remaining pair K times (``greedy``), or by order (``unaligned``, a control).
    """
    pairs, number = values.shape[:2]
    if strategy == "unaligned":
        return torch.arange(number, device=values.device).expand(pairs, number)
    with torch.autocast(values.device.type, enabled=False):  # ranks are decided in fp32
        similarity = (overlap if strategy == "mask" else cosine)(reference.float(), values.float())
    return _greedy(similarity) if strategy == "greedy" else best_assignment(similarity)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Vectors (..., K, W) and (..., K, W) -> cosine similarity (..., K, K)."""
    return F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).mT


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Soft masks (..., K, N) in 0..1 -> IoU (..., K, K); a patch is shared by the product."""
    shared = first @ second.mT
    return shared / (first.sum(-1)[..., None] + second.sum(-1)[..., None, :] - shared)


def best_assignment(value: Tensor) -> Tensor:
    """Values (M, R, C), R <= C -> (M, R) int64: each row's column in the best one-to-one choice.

    Exact, and for C <= 12 on the values' own device with nothing copied or waited for: dynamic
    programming over sets of columns. With t(S) the best total of the first |S| rows on the columns
    of S,

        t(S) = max over c in S of t(S without c) + value[|S| - 1, c]

    so that each row is one gather and one maximum over all sets of its size. Beyond 12 columns, and
    so 4,096 sets, SciPy's solver on the CPU takes over.
    """
    if value.shape[2] > MOST_COLUMNS:
        return _assignment_by_scipy(value)
    levels = _column_sets(value.shape[2], value.shape[1], value.device)
    total, choices = value.new_zeros(len(value), 1), []
    for row, level in enumerate(levels):
        candidates = total[:, level.without] + value[:, row, level.columns]  # (M, sets, row + 1)
        total, choice = candidates.max(dim=2)
        choices.append(choice)
    chosen = total.argmax(dim=1, keepdim=True)  # the best set of the last size
    order = []
    for level, choice in zip(reversed(levels), reversed(choices), strict=True):
        column = choice.gather(1, chosen)
        flat = chosen * level.columns.shape[1] + column
        order.append(level.columns.flatten()[flat])
        chosen = level.without.flatten()[flat]
    return torch.cat(order[::-1], dim=1)


def _assignment_by_scipy(value: Tensor) -> Tensor:
    order = np.empty(value.shape[:2], dtype=np.int64)
    for index, matrix in enumerate(value.cpu().numpy()):
        order[index] = linear_sum_assignment(matrix, maximize=True)[1]
    return torch.from_numpy(order).to(value.device)


@dataclass
class ColumnSets:
    """All sets of one size n: their ``columns`` (sets, n), and the set ``without`` each of them,
    as its index among those of size n - 1."""

    columns: Tensor
    without: Tensor


@cache
def _column_sets(columns: int, rows: int, device: torch.device) -> list[ColumnSets]:
    levels, smaller = [], {(): 0}
    for size in range(1, rows + 1):
        sets = list(combinations(range(columns), size))
        without = [[smaller[own[:i] + own[i + 1 :]] for i in range(size)] for own in sets]
        levels.append(
            ColumnSets(torch.tensor(sets, device=device), torch.tensor(without, device=device))
        )
        smaller = {own: index for index, own in enumerate(sets)}
    return levels


def _greedy(similarity: Tensor) -> Tensor:
    """Similarity (M, K, K), reference slots in rows -> (M, K)."""
    pairs, number, _ = similarity.shape
    remaining = similarity.clone()
    chosen = torch.empty(pairs, number, dtype=torch.int64, device=similarity.device)
    every = torch.arange(pairs, device=similarity.device)
    for _ in range(number):
        best = remaining.flatten(1).argmax(dim=1)
        row, column = best // number, best % number
        chosen[every, row] = column
        remaining[every, row] = -torch.inf
        remaining[every, :, column] = -torch.inf
    return chosen


def align(values: Tensor, reference: Tensor, strategy: MatchingName) -> Tensor:
    """Slots or masks of all heads (B, H, K, X), reference head (B,) -> order (B, H, K) int64.

    ``order[b, h, k]`` is the slot of head h that goes with slot k of the image's reference head.
    """
    batch, heads, number, _ = values.shape
    chosen = values[torch.arange(batch, device=values.device), reference]
    references = chosen[:, None].expand_as(values)
    order = match(values.flatten(0, 1), references.flatten(0, 1), strategy)
    return order.view(batch, heads, number)


def merge(values: Tensor, order: Tensor) -> Tensor:
    """Slots or masks (B, H, K, X) and their order (B, H, K) -> mean over heads (B, K, X)."""
    return values.gather(2, order[..., None].expand_as(values)).mean(dim=1)
