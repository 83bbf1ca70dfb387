"""The keys of a cache where a training reaches them fastest."""

import numpy as np
import torch
from torch import Tensor

from mmqsa.features.cache import FeatureCache
from mmqsa.memory import free_memory

SHARE = 0.5  # of the free memory: the rest is for model, activations and whoever else is there
_BLOCK = 256  # images copied at a time


class ResidentFeatures:
    """Random batches of keys (num_images, N, D): in the device's memory, else the machine's, else mapped.

    The choice changes speed alone, never a batch. ``where`` is "device", "memory" or "file".
    Batches come out on the device; nothing waits for it. Raises InputError on keys that are not
    finite.
    """

    def __init__(self, cache: FeatureCache, device: torch.device):
        self.device = device
        stored = cache.features
        self.shape = tuple(stored.shape)
        size = stored.dtype.itemsize * stored.size
        places = [("device", device), ("memory", torch.device("cpu"))]
        self.where = next(
            (name for name, place in places if size < SHARE * free_memory(place)), "file"
        )
        if self.where == "file":
            # The dataset is contiguous, so the file itself is the array.
            self._keys = np.memmap(
                cache.path, stored.dtype, "r", offset=stored.id.get_offset(), shape=self.shape
            )
            for start in range(0, len(stored), _BLOCK):
                rows = np.arange(start, min(start + _BLOCK, len(stored)))
                cache.check_finite(self._keys[start : start + _BLOCK], rows)
            return
        self._keys = torch.empty(self.shape, dtype=torch.float16, device=dict(places)[self.where])
        for start in range(0, len(stored), _BLOCK):
            block = torch.from_numpy(cache.read(slice(start, start + _BLOCK)))
            self._keys[start : start + len(block)] = block

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def array(self) -> Tensor | np.ndarray:
        """All of them (num_images, N, D) float16, where they are."""
        return self._keys

    @property
    def index_device(self) -> torch.device:
        """Where indices are wanted."""
        return self.device if self.where == "device" else torch.device("cpu")

    def take(self, indices: Tensor) -> Tensor:
        """Indices (B,) on ``index_device`` -> keys (B, N, D) float16 on the device."""
        if self.where == "device":
            return self._keys[indices]
        if self.where == "file":
            batch = torch.from_numpy(self._keys[indices.numpy()])
        else:
            batch = self._keys[indices]
        if self.device.type == "cuda":  # from pinned memory the copy runs beside the last step
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=True)
