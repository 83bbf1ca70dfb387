"""Which slot of one head is which slot of another, and the merge of all heads into one set."""

import numpy as np
import scipy  # imports `optimize`, which takes a second, where that is used
import torch
import torch.nn.functional as F
from torch import Tensor

from mmqsa.config.choices import MatchingName, one_of

__all__ = ["align", "cosine", "match", "merge", "overlap", "reorder"]


def match(values: Tensor, reference: Tensor, matching: MatchingName) -> Tensor:
    """Match slots to a reference's: (M, K, X) and (M, K, X) -> (M, K) int64.

    Entry k is the index of the slot that goes with the reference's slot k: by the one-to-one
    assignment of greatest total cosine similarity (``hungarian``, the paper; ``learned``, of
    projected slots), of greatest total overlap, where the values are masks (``mask``), by taking
    the most similar remaining pair K times (``greedy``), or by order (``unaligned``, a control).

    >>> slots = torch.eye(3)[None]
    >>> match(slots[:, [2, 0, 1]], slots, "hungarian")
    tensor([[1, 2, 0]])
    """
    one_of("matching", matching, MatchingName)
    pairs, num_slots = values.shape[:2]
    if matching == "unaligned":
        return torch.arange(num_slots, device=values.device).expand(pairs, num_slots)
    with torch.autocast(values.device.type, enabled=False):  # ranks are decided in fp32
        compare = overlap if matching == "mask" else cosine
        similarity = compare(reference.float(), values.float())
    return (_greedy if matching == "greedy" else _best)(similarity)


def align(values: Tensor, reference: Tensor, matching: MatchingName) -> Tensor:
    """Match all heads to a reference head: (B, H, K, X), its index (B,) -> order (B, H, K) int64.

    ``order[b, h, k]`` is the slot of head h that goes with slot k of image b's reference head.

    >>> head = torch.eye(3)
    >>> heads = torch.stack([head, head[[2, 0, 1]]])[None]  # the second has the same slots, moved
    >>> align(heads, reference=torch.tensor([0]), matching="hungarian")
    tensor([[[0, 1, 2],
             [1, 2, 0]]])
    """
    rows = torch.arange(len(values), device=values.device)
    references = values[rows, reference][:, None].expand_as(values)
    order = match(values.flatten(0, 1), references.flatten(0, 1), matching)
    return order.view(values.shape[:3])


def reorder(values: Tensor, order: Tensor) -> Tensor:
    """Slots or masks (B, H, K, X) and their order (B, H, K) -> (B, H, K, X), matched over heads.

    >>> heads = torch.tensor([[[[1.0], [5.0]], [[6.0], [2.0]]]])  # B = 1, H = 2, K = 2, X = 1
    >>> reorder(heads, torch.tensor([[[0, 1], [1, 0]]])).flatten()
    tensor([1., 5., 2., 6.])
    """
    return values.gather(2, order[..., None].expand_as(values))


def merge(values: Tensor, order: Tensor) -> Tensor:
    """Slots or masks (B, H, K, X) and their order (B, H, K) -> mean over heads (B, K, X).

    >>> heads = torch.tensor([[[[1.0], [5.0]], [[6.0], [2.0]]]])  # B = 1, H = 2, K = 2, X = 1
    >>> merge(heads, torch.tensor([[[0, 1], [1, 0]]])).flatten()
    tensor([1.5000, 5.5000])
    """
    return reorder(values, order).mean(dim=1)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Vectors (..., K, X) and (..., K, X) -> cosine similarity (..., K, K).

    >>> cosine(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]))
    tensor([[ 1.,  0., -1.]])
    """
    return F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).mT


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Soft masks (..., K, N) in 0..1 -> IoU (..., K, K); a patch is shared by the product.

    >>> overlap(torch.tensor([[1.0, 1, 0, 0]]), torch.tensor([[1.0, 1, 1, 1], [0, 0, 1, 1]]))
    tensor([[0.5000, 0.0000]])
    """
    shared = first @ second.mT
    union = first.sum(-1)[..., None] + second.sum(-1)[..., None, :] - shared
    return shared / union.clamp_min(1e-12)  # two empty masks do not overlap


def _best(similarity: Tensor) -> Tensor:
    """Similarity (M, K, K), reference slots in rows -> (M, K) of greatest total."""
    pairs = similarity.detach().cpu().numpy()
    orders = [scipy.optimize.linear_sum_assignment(pair, maximize=True)[1] for pair in pairs]
    return torch.from_numpy(np.stack(orders)).to(similarity.device)


def _greedy(similarity: Tensor) -> Tensor:
    """Similarity (M, K, K), reference slots in rows -> (M, K), the most similar pair first."""
    pairs, num_slots, _ = similarity.shape
    remaining = similarity.clone()
    order = torch.empty(pairs, num_slots, dtype=torch.int64, device=similarity.device)
    every = torch.arange(pairs, device=similarity.device)
    for _ in range(num_slots):
        best = remaining.flatten(1).argmax(dim=1)
        row, column = best // num_slots, best % num_slots
        order[every, row] = column
        remaining[every, row] = -torch.inf
        remaining[every, :, column] = -torch.inf
    return order
