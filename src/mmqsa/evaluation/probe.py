"""A linear probe: what a supervised classifier gets out of the same features."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache

STEPS, BATCH, LEARNING_RATE = 2000, 4096, 1e-2  # the loss no longer moves by then; see the tests
IMAGES = 3000  # to fit on, evenly from the whole: twice VOC's train split, 1 GB of DINO's keys


def patch_shares(labels: np.ndarray, grid: int) -> np.ndarray:
    """Label maps (num_images, S, S) -> share of each patch that has each label, 0..1.

    The result is (num_images, N, 256). Void is left out, so a patch of nothing but void has no
    share at all.
    """
    num_images, side, _ = labels.shape
    patch = side // grid
    tiles = labels.reshape(num_images, grid, patch, grid, patch).transpose(0, 1, 3, 2, 4)
    tiles = tiles.reshape(num_images * grid**2, patch**2)
    bins = 256 * np.arange(len(tiles))[:, None] + tiles
    counts = np.bincount(bins.ravel(), minlength=256 * len(tiles)).astype(np.float32)
    shares = (counts / patch**2).reshape(num_images, grid**2, 256)
    shares[..., VOID] = 0
    return shares


class LinearProbe:
    """Multinomial logistic regression from a patch's features to the classes of its pixels."""

    def __init__(self, weight: Tensor, bias: Tensor):
        self.weight, self.bias = weight, bias

    @classmethod
    def fitted(cls, train: FeatureCache, mean: Tensor, std: Tensor) -> "LinearProbe":
        """Fit to at most IMAGES labelled images, features standardised by ``mean`` (N, D).

        The target of a patch is the share of each class among its pixels. Deterministic. Raises
        InputError when the cache has no class labels.
        """
        if train.classes is None:
            raise InputError(f"{train.path}: has no class labels to train a probe on")
        labelled = [i for i in range(len(train.ids)) if (train.classes[i] != VOID).any()]
        features, targets = [], []
        for index in labelled[:: max(1, -(-len(labelled) // IMAGES))]:
            shares = patch_shares(train.classes[index][None], train.grid)[0]
            shares = shares[:, : train.attributes["num_classes"] + 1]
            valid = torch.from_numpy(shares.sum(axis=1) > 0.5)  # most of the patch is not void
            if valid.any():
                standardised = (torch.from_numpy(train.features[index]).float() - mean) / std
                features.append(standardised[valid])
                targets.append(torch.from_numpy(shares)[valid])
        if not features:
            raise InputError(f"{train.path}: no image has class labels to train a probe on")
        if not any(target[:, 1:].any() for target in targets):
            raise InputError(
                f"{train.path}: no object in any image (class label maps) to train a probe on; "
                "take a split with labelled objects"
            )
        return cls(*_regression(torch.cat(features), torch.cat(targets)))

    def masks(self, features: np.ndarray) -> np.ndarray:
        """Standardised features (N, D) -> probabilities (C, N) of all classes and background."""
        logits = torch.from_numpy(features) @ self.weight.T + self.bias
        return logits.softmax(dim=1).T.contiguous().numpy()


def _regression(features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Features (M, D), target shares (M, C) -> weight (C, D), bias (C,) of least cross-entropy."""
    generator = torch.Generator().manual_seed(0)
    targets = targets / targets.sum(dim=1, keepdim=True)
    weight = torch.zeros(targets.shape[1], features.shape[1], requires_grad=True)
    bias = torch.zeros(targets.shape[1], requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(features), (min(BATCH, len(features)),), generator=generator)
        loss = F.cross_entropy(features.index_select(0, rows) @ weight.T + bias, targets[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return weight.detach(), bias.detach()
