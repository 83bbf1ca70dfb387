"""The features of a cache where a training reaches them fastest: GPU, memory or mapped file."""

import numpy as np
import torch
from torch import Tensor

from mmqsa.features.cache import FeatureCache
from mmqsa.memory import free_memory

SHARE = 0.5  # of the free memory: the rest is for model, activations and other processes
_BLOCK = 256  # images read at a time


class ResidentFeatures:
    """Random batches of features (num_images, N, D), in the fastest memory that they fit.

    ``where`` is "device", "memory" (the machine's) or "file" (mapped); it changes speed alone,
    never a batch. Batches are on the device, and copies to it are asynchronous. Raises InputError
    on features that are not finite.
    """

    def __init__(self, cache: FeatureCache, device: torch.device):
        self.device = device
        stored = cache.features
        self.shape = tuple(stored.shape)
        size = stored.dataset.nbytes
        places = [("device", device), ("memory", torch.device("cpu"))]
        self.where = next(
            (name for name, place in places if size < SHARE * free_memory(place)), "file"
        )
        if self.where == "file":
            # The dataset is contiguous, so the file itself is the array.
            self.array: Tensor | np.ndarray = np.memmap(
                cache.path,
                stored.dtype,
                "r",
                offset=stored.dataset.id.get_offset(),
                shape=self.shape,
            )
            """All of them (num_images, N, D) float16, where they are."""
        else:
            place = dict(places)[self.where]
            self.array = torch.empty(self.shape, dtype=torch.float16, device=place)
        for start in range(0, len(stored), _BLOCK):
            block = cache.features[start : start + _BLOCK]  # checked, in a file as well
            if isinstance(self.array, Tensor):
                self.array[start : start + len(block)] = torch.from_numpy(block)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def index_device(self) -> torch.device:
        """The device that ``take`` expects indices on."""
        return self.device if self.where == "device" else torch.device("cpu")

    def take(self, indices: Tensor) -> Tensor:
        """Indices (B,) on ``index_device`` -> features (B, N, D) float16 on the device."""
        if isinstance(self.array, Tensor):
            batch = self.array[indices]
        else:
            batch = torch.from_numpy(self.array[indices.numpy()])
        if self.where == "device":
            return batch
        if self.device.type == "cuda":  # from pinned memory the copy overlaps the previous step
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=True)
