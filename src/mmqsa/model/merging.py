"""All heads of an image into one set of slots or masks, by every way that a config can name."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import TypeGuard

import numpy as np
import scipy  # imports its parts where they are used
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor

from mmqsa.config.choices import ALIKE, MatchingName
from mmqsa.errors import InputError
from mmqsa.model.matching import align, merge, reorder
from mmqsa.model.slot_fusion import SlotFusion


class HeadMerge:
    """One way to merge the heads of a batch, of slots and of masks alike.

    hungarian, greedy, learned, mask, unaligned   the mean of matched slots; see ``match``
    joined            as hungarian; the model then joins what is alike (``join_alike``)
    weighted          as hungarian, but each head weighs as ``agreement_weights`` says
    fusion            as hungarian, but slots are merged by a trained MLP
    consensus         what heads put together is cut into K segments; no slot is matched
    consensus-chosen  the same, with the number of segments chosen for each image
    none              the reference head alone
    """

    def __init__(
        self,
        slots: Tensor,
        attention: Tensor,
        matching: MatchingName,
        reference: Tensor,
        merging: "Merging",
    ):
        """Of slots (B, H, K, D_slot), attention (B, H, K, N) and reference heads (B,).

        Raises InputError when the learned similarity is not finite on these slots.
        """
        self.slots, self.attention, self.matching = slots, attention, matching
        self.reference, self.fusion = reference, merging.fusion
        if matching == "none" or matching.startswith("consensus"):
            return
        one_to_one = matching in ("joined", "weighted", "fusion")
        compared = attention if matching == "mask" else slots
        if matching == "learned":
            assert merging.projection is not None, "the matching 'learned' needs a projection"
            compared = slots @ merging.projection.T
            if not bool(compared.isfinite().all()):
                raise InputError(
                    "the learned similarity is not finite on these slots; run `mmqsa "
                    "similarity --overwrite`"
                )
        self.order = align(compared, reference, "hungarian" if one_to_one else matching)

    def of_slots(self) -> Tensor:
        """The merged slots (B, K, D_slot)."""
        if self.matching.startswith("consensus"):
            return slots_of_segments(self.slots, self.attention, self._segments)
        if self.matching == "fusion":
            assert self.fusion is not None, "the matching 'fusion' needs a trained one"
            fused: Tensor = self.fusion(self.slots, self.order)
            if not bool(fused.isfinite().all()):
                raise InputError(
                    "the learned fusion is not finite on these slots; run `mmqsa fusion "
                    "--overwrite`"
                )
            return fused
        return self._merged(self.slots)

    def of_masks(self, masks: Tensor) -> Tensor:
        """Every head's masks (B, H, K, N) -> merged masks (B, K, N)."""
        if self.matching.startswith("consensus"):
            return self._segments if masks is self.attention else self._cut(masks)
        merged = self._merged(masks)
        return normalised(merged) if self.matching == "weighted" else merged

    def of_decoded(self, masks: Tensor) -> Tensor:
        """The masks (B, K, N) of the decoded merged slots, without those of no segment."""
        if self.matching == "consensus-chosen":
            return normalised(masks * self._segments.any(dim=-1, keepdim=True))
        return masks

    @cached_property
    def _segments(self) -> Tensor:
        return self._cut(self.attention)

    def _cut(self, masks: Tensor) -> Tensor:
        return consensus(masks, None if self.matching == "consensus-chosen" else masks.shape[2])

    def _merged(self, values: Tensor) -> Tensor:
        if self.matching == "none":
            return values[torch.arange(len(values), device=values.device), self.reference]
        if self.matching == "weighted":
            weights = agreement_weights(self.slots, self.order)
            return weighted_merge(values, self.order, weights.to(values.dtype))
        return merge(values, self.order)


@dataclass(frozen=True)
class Merging:
    """What some ways to merge heads need beside the heads; None: it is not there.

    >>> Merging(alike=0.3).alike, Merging().projection is None
    (0.3, True)
    """

    projection: Tensor | None = None
    """(D_slot, D_slot) of the learned similarity, for ``learned``"""
    fusion: SlotFusion | None = None
    """for ``fusion``"""
    alike: float = ALIKE
    """cosine above which two slots are one object, for ``joined``"""

    def to(self, device: torch.device) -> "Merging":
        """The same on a device."""
        projection = None if self.projection is None else self.projection.to(device)
        fusion = None if self.fusion is None else self.fusion.to(device)
        return Merging(projection, fusion, self.alike)


PLAIN = Merging()


def in_full_precision(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function without autocast, on float32: what it decides must not hang on rounding."""

    @wraps(function)
    def run(first: Tensor, *others: object, **options: object) -> Tensor:
        with torch.autocast(first.device.type, enabled=False):
            full = [one.float() if _is_half(one) else one for one in (first, *others)]
            return function(*full, **options)

    return run


def _is_half(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)


@in_full_precision
def agreement_weights(slots: Tensor, order: Tensor) -> Tensor:
    """Slots (B, H, K, X) and their order (B, H, K) -> weights (B, H, K), 1 in sum over heads.

    A head's slot weighs as much as it resembles what the other heads have in its place: the mean
    of its cosines with them, negative ones as 0; all weigh alike where none is positive.

    >>> slots = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])[None, :, None]
    >>> agreement_weights(slots, torch.zeros(1, 3, 1, dtype=torch.int64)).flatten()
    tensor([0.5000, 0.5000, 0.0000])
    """
    unit = F.normalize(reorder(slots, order), dim=-1)
    cosines = torch.einsum("bhkx,bgkx->bhgk", unit, unit).clamp_min(0)
    same_head = torch.eye(unit.shape[1], device=unit.device)[None, :, :, None]
    weights = (cosines * (1 - same_head)).sum(dim=2)
    total = weights.sum(dim=1, keepdim=True)
    return torch.where(total > 0, weights / total.clamp_min(1e-12), 1 / unit.shape[1])


def weighted_merge(values: Tensor, order: Tensor, weights: Tensor) -> Tensor:
    """Slots or masks (B, H, K, X), their order and weights (B, H, K) -> (B, K, X)."""
    return (weights[..., None] * reorder(values, order)).sum(dim=1)


def normalised(masks: Tensor) -> Tensor:
    """Masks (B, K, N) >= 0 -> the same, 1 in sum over K at each patch."""
    return masks / masks.sum(dim=1, keepdim=True).clamp_min(1e-12)


@in_full_precision
def consensus(masks: Tensor, num_slots: int | None = None) -> Tensor:
    """Every head's masks (B, H, K, N) -> the segments that they agree on (B, K, N), of 0 and 1.

    Two patches belong together as often as heads put them together,

        A_mn = mean_h sum_k masks_hkm masks_hkn,

    and the graph A is cut into ``num_slots`` segments by the eigenvectors of its normalised
    Laplacian. None chooses the number of each image by the largest gap between successive
    eigenvalues, of the first K + 1: from 2 to K segments, the others empty. No slot is matched to
    another, so heads may even differ in their number of slots.

    >>> head = torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]])
    >>> heads = torch.stack([head, head[[1, 2, 0]]])[None]  # two heads agree but for the order
    >>> segments = consensus(heads, num_slots=3)
    >>> segments.shape, segments.sum(dim=2)  # patches of each
    (torch.Size([1, 3, 6]), tensor([[2., 2., 2.]]))
    """
    together = torch.einsum("bhkm,bhkn->bmn", masks, masks) / masks.shape[1]
    most, segments = masks.shape[2], []
    with threadpool_limits(1):  # matrices of a few hundred rows
        for affinity in together.detach().cpu().numpy().astype(np.float64):
            count = num_slots or min(spectral_gap(affinity, most), most)
            segments.append(np.eye(most)[graph_cut(affinity, count)].T)
    return torch.from_numpy(np.stack(segments)).to(masks)


def graph_cut(affinity: np.ndarray, segments: int) -> np.ndarray:
    """Affinity (N, N) -> segment of each patch (N,): a normalised cut (Shi and Malik, 2000).

    Negative affinities count as almost none, so that the graph stays in one piece.
    """
    from sklearn.cluster import spectral_clustering  # takes seconds, and only two matchings need it

    with warnings.catch_warnings(action="ignore"):  # of another solver for few patches
        labels: np.ndarray = spectral_clustering(
            affinity.clip(1e-6), n_clusters=segments, assign_labels="cluster_qr", random_state=0
        )
    return labels


def spectral_gap(affinity: np.ndarray, most: int) -> int:
    """Affinity (N, N) -> the number of segments, 2 .. ``most``, before the largest eigengap.

    >>> spectral_gap(np.kron(np.eye(3), np.ones((4, 4))) + 0.01, most=6)
    3
    """
    scale = 1 / np.sqrt(affinity.sum(axis=1).clip(1e-12))
    cut = scale[:, None] * affinity * scale
    size = len(cut)
    values = scipy.linalg.eigh(
        cut, eigvals_only=True, subset_by_index=(max(size - most - 1, 0), size - 1)
    )
    gaps = -np.diff(values[::-1])  # of the Laplacian 1 - cut, whose eigenvalues ascend
    return int(2 + gaps[1:].argmax()) if len(gaps) > 1 else 2


@in_full_precision
def slots_of_segments(slots: Tensor, attention: Tensor, segments: Tensor) -> Tensor:
    """All heads' slots and attention, segments (B, K, N) -> a slot per segment (B, K, D_slot).

    The mean of all heads' slots, each as much as its attention lies in the segment.
    """
    shared = segments @ attention.flatten(1, 2).mT  # (B, K, H K)
    weights = shared / shared.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    return weights @ slots.flatten(1, 2)


@in_full_precision
def join_alike(masks: Tensor, features: Tensor, alike: float) -> Tensor:
    """Join the masks (B, K, N) of an image that show one object; the ones given up are zero.

    A mask's feature is the mean of ``features`` (B, N, D) over the patches that it wins: those
    where it is the largest. The two masks whose features have the largest cosine become one, again
    and again while that is above ``alike`` and more than two masks win any patch. At each patch
    that one has the larger of the two values, so that it wins what they won and no more. At the end
    masks that win nothing are zero as well, and values are divided by their sum. The features are
    standardised, so that a cosine of 0 is that of unrelated patches.

    >>> masks = torch.tensor([[[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]])
    >>> features = torch.tensor([[[1.0, 0], [1, 0.1], [-1, 1], [-1, 1]]])
    >>> join_alike(masks, features, 0.5)
    tensor([[[1., 1., 0., 0.],
             [0., 0., 0., 0.],
             [0., 0., 1., 1.]]])
    """
    masks, rows = masks.clone(), torch.arange(len(masks), device=masks.device)
    num_slots = masks.shape[1]
    for _ in range(num_slots - 2):
        largest = F.one_hot(masks.argmax(dim=1), num_slots).mT.float()  # (B, K, N)
        means = F.normalize(largest @ features, dim=-1)
        present = largest.any(dim=-1)
        pair = (present[:, :, None] & present[:, None, :]).triu(diagonal=1)
        pair &= (present.sum(dim=1) > 2)[:, None, None]
        cosine = (means @ means.mT).masked_fill(~pair, -torch.inf)
        best, index = cosine.flatten(1).max(dim=1)
        into, out = index // num_slots, index % num_slots
        joined = (best > alike)[:, None]
        kept, given = masks[rows, into], masks[rows, out]
        masks[rows, out] = torch.where(joined, torch.zeros_like(given), given)
        masks[rows, into] = torch.where(joined, torch.maximum(kept, given), kept)
    wins = F.one_hot(masks.argmax(dim=1), num_slots).any(dim=1)
    return normalised(masks * wins[..., None])
