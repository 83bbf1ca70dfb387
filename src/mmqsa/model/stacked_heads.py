"""All heads of slot attention at once, for inference.

Names: B batch, P patches, D feature width, H heads, K slots, W slot width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmqsa.model.slot_attention import MultiQuerySlotAttention, attend


class StackedHeads:
    """The heads of a ``MultiQuerySlotAttention`` with their weights stacked and folded once.

    Equal, up to rounding, to calling it head by head. What is linear and adjacent is one product:
    the norms' scales and shifts with the layers behind them, queries with the shared key
    projection, the shared value projection with the GRU's input weights. A copy: made of weights
    that do not change any more.
    """

    @torch.no_grad()
    def __init__(self, attention: MultiQuerySlotAttention):
        self.iterations, self.norm_input = attention.iterations, attention.norm_input
        self.normed_state = attention.normed_state
        heads = list(attention.heads)

        def stacked(one):
            return torch.stack([one(head).detach() for head in heads])

        self.mean = stacked(lambda head: head.mean)[:, None, None]  # (H, 1, 1, W)
        self.std = stacked(lambda head: head.log_std.exp())[:, None, None]
        self.norm_slots = (  # (H, 1, W), for a normed state alone
            stacked(lambda head: head.norm_slots.weight)[:, None],
            stacked(lambda head: head.norm_slots.bias)[:, None],
        )
        scale = attention.width**-0.5
        self.query = _behind_norm(  # (H, W, D): from slots to what the normed inputs are held to
            stacked(lambda head: head.norm_slots.weight),
            stacked(lambda head: head.norm_slots.bias),
            stacked(lambda head: head.to_query.weight.T @ attention.to_key.weight * scale),
        )
        self.gru_input = (
            stacked(lambda head: (head.gru.weight_ih @ attention.to_value.weight).T),
            stacked(lambda head: head.gru.bias_ih)[:, None],
        )
        self.gru_slots = (
            stacked(lambda head: head.gru.weight_hh.T),
            stacked(lambda head: head.gru.bias_hh)[:, None],
        )
        self.mlp_first = _behind_norm(
            stacked(lambda head: head.norm_mlp.weight),
            stacked(lambda head: head.norm_mlp.bias),
            stacked(lambda head: head.mlp[0].weight.T),
            stacked(lambda head: head.mlp[0].bias)[:, None],
        )
        self.mlp_last = (
            stacked(lambda head: head.mlp[2].weight.T),
            stacked(lambda head: head.mlp[2].bias)[:, None],
        )

    def __call__(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, N, D), noise (H, B, K, D_slot) -> slots (B, H, K, D_slot), attention (B, H, K, N)."""
        heads, batch, number, _ = noise.shape
        inputs = self.norm_input(features)
        # Slots are (H, B * K, W) for the heads' own weights, (B, H * K, D) for the shared inputs.
        slots = (self.mean + self.std * noise).flatten(1, 2)
        for _ in range(self.iterations):
            normed = _normed(slots)
            queries = _linear(normed, *self.query)
            queries = queries.unflatten(1, (batch, number)).transpose(0, 1).flatten(1, 2)
            logits = (queries @ inputs.mT).unflatten(1, (heads, number))
            attention, weights = attend(logits)
            updates = weights.flatten(1, 2).to(inputs.dtype) @ inputs
            updates = updates.unflatten(1, (heads, number)).transpose(0, 1).flatten(1, 2)
            if self.normed_state:
                scale, shift = self.norm_slots
                slots = shift + scale * normed
            slots = self._gru(updates, slots)
            hidden = F.relu(_linear(_normed(slots), *self.mlp_first), inplace=True)
            slots = slots + _linear(hidden, *self.mlp_last)
        return slots.unflatten(1, (batch, number)).transpose(0, 1), attention

    def _gru(self, updates: Tensor, slots: Tensor) -> Tensor:
        """``nn.GRUCell`` of every head, on (H, B * K, D) and (H, B * K, W)."""
        reset, update, new = _linear(updates, *self.gru_input).chunk(3, dim=-1)
        reset_slots, update_slots, new_slots = _linear(slots, *self.gru_slots).chunk(3, dim=-1)
        candidate = torch.tanh(new + torch.sigmoid(reset + reset_slots) * new_slots)
        gate = torch.sigmoid(update + update_slots)
        return torch.lerp(candidate.to(slots.dtype), slots, gate.to(slots.dtype))


def _linear(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Rows (H, R, X) through each head's weight (H, X, Y) and bias (H, 1, Y)."""
    return torch.baddbmm(bias, rows, weight)


def _normed(slots: Tensor) -> Tensor:
    return F.layer_norm(slots, slots.shape[-1:])


def _behind_norm(
    scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """A norm's scale and shift (H, W) moved into the weight (H, W, Y) behind it, and its bias."""
    return scale[..., None] * weight, shift[:, None] @ weight + bias
