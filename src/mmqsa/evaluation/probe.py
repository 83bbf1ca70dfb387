"""A linear probe: what a supervised reader gets out of the same keys."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache

STEPS, BATCH, LEARNING_RATE = 2000, 4096, 1e-2  # the loss moves no more by then; see the tests
IMAGES = 3000  # to fit on, evenly from the whole: twice VOC's train split, 1 GB of DINO keys


def patch_shares(labels: np.ndarray, grid: int) -> np.ndarray:
    """Label maps (num_images, S, S) -> share of each patch that has each label, (num_images, N, 256) in 0..1.

    Void is left out, and so a patch of nothing but void has no share at all.
    """
    images, side, _ = labels.shape
    patch = side // grid
    tiles = labels.reshape(images, grid, patch, grid, patch).transpose(0, 1, 3, 2, 4)
    tiles = tiles.reshape(images * grid**2, patch**2).astype(np.int64)
    counts = np.zeros((len(tiles), 256), dtype=np.float32)
    rows = np.arange(len(tiles))
    for column in range(patch**2):
        np.add.at(counts, (rows, tiles[:, column]), 1)
    counts[:, VOID] = 0
    return (counts / patch**2).reshape(images, grid**2, 256)


def _labelled(train: FeatureCache) -> np.ndarray:
    """Indices of at most IMAGES images that have labels."""
    found = [i for i in range(len(train.ids)) if (train.classes[i] != VOID).any()]
    return np.array(found, dtype=int)[:: max(1, -(-len(found) // IMAGES))]


class LinearProbe:
    """Multinomial logistic regression from a patch's key to the classes of its pixels."""

    def __init__(self, weight: Tensor, bias: Tensor):
        self.weight, self.bias = weight, bias

    @classmethod
    def fitted(cls, train: FeatureCache, mean: Tensor, std: Tensor) -> "LinearProbe":
        """Fit to the labelled images of a training cache, keys standardised by ``mean`` (N, D).

        The target of a patch is the share of each class among its pixels. Deterministic. Raises
        InputError when the cache has no class labels.
        """
        if train.classes is None:
            raise InputError(f"{train.path}: has no class labels to train a probe on")
        keys, targets = [], []
        classes = train.attributes["num_classes"]
        for index in _labelled(train):
            shares = patch_shares(train.classes[index][None], train.grid)[0, :, : classes + 1]
            labelled = shares.sum(axis=1) > 0.5  # more than half of the patch is not void
            if labelled.any():
                own = (torch.from_numpy(train.read(index)).float() - mean) / std
                keys.append(own[torch.from_numpy(labelled)])
                targets.append(torch.from_numpy(shares[labelled]))
        if not keys:
            raise InputError(f"{train.path}: no image has class labels to train a probe on")
        return cls(*_regression(torch.cat(keys), torch.cat(targets)))

    def masks(self, keys: np.ndarray) -> np.ndarray:
        """Standardised keys (N, D) -> probabilities of all classes (21, N)."""
        logits = torch.from_numpy(keys) @ self.weight.T + self.bias
        return logits.softmax(dim=1).T.contiguous().numpy()


def _regression(keys: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Keys (N, D), target shares (N, C) -> weight (C, D), bias (C,) of least cross-entropy."""
    generator = torch.Generator().manual_seed(0)
    targets = targets / targets.sum(dim=1, keepdim=True)
    weight = torch.zeros(targets.shape[1], keys.shape[1], requires_grad=True)
    bias = torch.zeros(targets.shape[1], requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(keys), (min(BATCH, len(keys)),), generator=generator)
        loss = F.cross_entropy(keys[rows] @ weight.T + bias, targets[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return weight.detach(), bias.detach()
