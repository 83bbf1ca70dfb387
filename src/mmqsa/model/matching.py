"""Which slot of one head is which slot of another, and the merge of all heads into one set."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

Matching = Literal["hungarian", "greedy", "unaligned", "none"]


def match(slots: Tensor, reference: Tensor, strategy: Matching) -> Tensor:
    """Slots (M, K, W), reference slots (M, K, W) -> (M, K) int64.

    Entry k is the index of the slot that goes with the reference's slot k: by the one-to-one
    assignment of greatest total cosine similarity (``hungarian``, the paper), by taking the most
    similar remaining pair K times (``greedy``), or by order (``unaligned``, a control).
    """
    pairs, number = slots.shape[:2]
    if strategy == "unaligned":
        return torch.arange(number, device=slots.device).expand(pairs, number)
    similarity = F.normalize(reference.float(), dim=-1) @ F.normalize(slots.float(), dim=-1).mT
    if strategy == "greedy":
        return _greedy(similarity)
    order = np.empty((pairs, number), dtype=np.int64)
    for index, matrix in enumerate(similarity.cpu().numpy()):
        order[index] = linear_sum_assignment(matrix, maximize=True)[1]
    return torch.from_numpy(order).to(slots.device)


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


def align(slots: Tensor, reference: Tensor, strategy: Matching) -> Tensor:
    """Slots of all heads (B, H, K, W), reference head (B,) -> order (B, H, K) int64.

    ``order[b, h, k]`` is the slot of head h that goes with slot k of the image's reference head.
    """
    batch, heads, number, _ = slots.shape
    chosen = slots[torch.arange(batch, device=slots.device), reference]
    references = chosen[:, None].expand_as(slots)
    order = match(slots.flatten(0, 1), references.flatten(0, 1), strategy)
    return order.view(batch, heads, number)


def merge(values: Tensor, order: Tensor) -> Tensor:
    """Slots or masks (B, H, K, X) and their order (B, H, K) -> mean over heads (B, K, X)."""
    return values.gather(2, order[..., None].expand_as(values)).mean(dim=1)
