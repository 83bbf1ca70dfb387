"""Which images make up each step's batch."""

import torch
from torch import Tensor


class Batches:
    """Every image once per epoch, in an order drawn anew; an epoch's end runs into the next one."""

    def __init__(
        self, images: int, size: int, draws: torch.Generator, device: torch.device, left: list[int]
    ):
        """``left`` are the images left of an epoch that was begun; batches lie on ``device``."""
        self.images, self.size, self.draws, self.device = images, size, draws, device
        self._order = torch.tensor(left, dtype=torch.int64, device=device)

    def next(self) -> Tensor:
        """The next (B,) indices: a view of the epoch's order, so nothing is copied in a step."""
        while len(self._order) < self.size:
            # Drawn on the CPU, for the same order on every device.
            epoch = torch.randperm(self.images, generator=self.draws).to(self.device)
            self._order = torch.cat([self._order, epoch])
        batch, self._order = self._order[: self.size], self._order[self.size :]
        return batch

    @property
    def left(self) -> list[int]:
        return self._order.tolist()
