"""Which images make up each step's batch."""

import torch
from torch import Tensor


class Batches:
    """Every image once per epoch, in an order drawn anew; an epoch's end runs into the next one."""

    def __init__(
        self, num_images: int, batch_size: int, generator: torch.Generator, device: torch.device
    ):
        """Batches lie on ``device``; the generator is the CPU's, for one order on every device."""
        self.num_images, self.batch_size = num_images, batch_size
        self.generator, self.device = generator, device
        self.left = torch.empty(0, dtype=torch.int64, device=device)
        """the images left of the epoch, in their order"""

    def next(self) -> Tensor:
        """The next (B,) indices: a view of the epoch's order, so nothing is copied in a step."""
        while len(self.left) < self.batch_size:
            epoch = torch.randperm(self.num_images, generator=self.generator).to(self.device)
            self.left = torch.cat([self.left, epoch])
        batch, self.left = self.left[: self.batch_size], self.left[self.batch_size :]
        return batch
