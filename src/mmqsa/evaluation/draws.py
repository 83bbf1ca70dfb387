"""The random numbers of an image at evaluation: its slot noise and its reference head."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from mmqsa.model.masked_slot_model import MaskedSlotModel


def image_draws(
    model: MaskedSlotModel, image_ids: Sequence[str], seed: int = 0, num_slots: int | None = None
) -> tuple[Tensor, Tensor]:
    """Standard normal slot noise (H, B, K, D_slot) and reference heads (B,), on the model's device.

    Both depend on the evaluation seed and the image's id alone, not on the images that share its
    batch, nor on the device. ``num_slots`` None is the training's K.
    """
    noise, heads = [], []
    for image_id in image_ids:
        digest = hashlib.sha256(f"{seed} {image_id}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
        heads.append(torch.randint(model.num_heads, (), generator=generator))
        noise.append(model.noise(1, generator, num_slots=num_slots))
    device = model.feature_mean.device
    return torch.cat(noise, dim=1).to(device), torch.stack(heads).to(device)
