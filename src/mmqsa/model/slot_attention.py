"""Slot attention (Locatello et al., 2020) with several query heads over shared keys and values.

Names: B batch, P patches, D feature width, H heads, K slots, W slot width.
"""

import torch
from torch import Tensor, nn

EPSILON = 1e-8  # keeps the weighted mean of an empty slot finite


class SlotHead(nn.Module):
    """One head: its own slot initialisation, query projection, norms, GRU and MLP."""

    def __init__(self, width: int, mlp_dim: int, learned_initialisation: bool):
        super().__init__()
        mean = torch.randn(width) * width**-0.5
        log_std = torch.zeros(width)
        if learned_initialisation:
            self.mean, self.log_std = nn.Parameter(mean), nn.Parameter(log_std)
        else:  # the released code: buffers, so heads differ by their weights only
            self.register_buffer("mean", torch.randn(width))
            self.register_buffer("log_std", log_std)
        self.norm_slots = nn.LayerNorm(width)
        self.to_query = nn.Linear(width, width, bias=False)
        self.gru = nn.GRUCell(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_dim), nn.ReLU(), nn.Linear(mlp_dim, width))

    @torch.no_grad()
    def start_as_clustering(self) -> None:
        """Weights that make the slots a weighted mean of what they attend to: soft k-means.

        Queries are the slots, the GRU passes its input on (tanh of it), the MLP adds nothing.
        Heads keep a tenth of their own random query weights, so that they are not one head.
        """
        width = len(self.mean)
        self.to_query.weight.mul_(0.1).add_(torch.eye(width))
        self.gru.weight_ih[2 * width :] = torch.eye(width)  # rows: reset, update, candidate
        self.gru.weight_hh[2 * width :] = 0
        self.gru.bias_ih[width : 2 * width] = -2.0  # an update gate that forgets the previous slot
        nn.init.zeros_(self.mlp[-1].weight)
        nn.init.zeros_(self.mlp[-1].bias)

    def initial_slots(self, noise: Tensor) -> Tensor:
        """Standard normal noise (B, K, D_slot) -> slots (B, K, D_slot)."""
        return self.mean + self.log_std.exp() * noise

    def update(self, state: Tensor, updates: Tensor) -> Tensor:
        """The GRU's previous state and attended values, both (B, K, D_slot) -> new slots (B, K, D_slot)."""
        flat = self.gru(updates.flatten(0, 1), state.flatten(0, 1)).view_as(state)
        return flat + self.mlp(self.norm_mlp(flat))


class MultiQuerySlotAttention(nn.Module):
    """H heads; the input norm and the key and value projections are shared (paper, section III).

    Plainly, with x the normed inputs and a the softmax over slots of the logits:

        logits_kp = q_k . (W_key x_p) / sqrt(W),    update_k = sum_p a_kp (W_value x_p) / sum_p a_kp

    Both projections are linear, so they are applied to K slots instead of to P patches: the same
    numbers up to rounding, for less work.

    The GRU's previous state is the slots, or with ``normed_state`` their layer norm: an aliasing
    slip of the released multi-head code, which makes h = 1 differ from its single-head class.
    """

    def __init__(
        self,
        feature_dim: int,
        width: int,
        mlp_dim: int,
        heads: int,
        iterations: int,
        learned_initialisation: bool = True,
        normed_state: bool = False,
    ):
        super().__init__()
        self.iterations = iterations
        self.normed_state = normed_state
        self.width = width
        self.norm_input = nn.LayerNorm(feature_dim)
        self.to_key = nn.Linear(feature_dim, width, bias=False)
        self.to_value = nn.Linear(feature_dim, width, bias=False)
        # Separate modules: the gradient of a head that was not drawn is None, and Adam leaves the
        # head alone. With stacked parameters it would be zero, and momentum would still move it.
        self.heads = nn.ModuleList(
            SlotHead(width, mlp_dim, learned_initialisation) for _ in range(heads)
        )

    @torch.no_grad()
    def start_as_clustering(self) -> None:
        """Keys and values are the normed inputs; every head starts as soft k-means on them."""
        nn.init.eye_(self.to_key.weight)
        nn.init.eye_(self.to_value.weight)
        for head in self.heads:
            head.start_as_clustering()

    def forward(
        self, features: Tensor, noise: Tensor, head: int, multiplicity: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features (B, N, D) and noise (B, K, D_slot) -> slots (B, K, D_slot), attention (B, K, N).

        The attention is the last iteration's softmax over slots: at each patch it sums to 1.
        ``multiplicity`` (N,) says for how many equal patches each one stands; None: one each.
        """
        own = self.heads[head]
        inputs = self.norm_input(features)
        slots = own.initial_slots(noise)
        for _ in range(self.iterations):
            normed = own.norm_slots(slots)
            queries = own.to_query(normed) * self.width**-0.5
            logits = (queries @ self.to_key.weight) @ inputs.mT  # (B, K, N)
            attention, weights = attend(logits, multiplicity)
            state = normed if self.normed_state else slots
            slots = own.update(state, self.to_value(weights.to(inputs.dtype) @ inputs))
        return slots, attention


def attend(logits: Tensor, multiplicity: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Logits (..., K, N) -> attention, which sums to 1 over K, and weights, which do over P."""
    attention = logits.float().softmax(dim=-2)
    weights = attention + EPSILON
    if multiplicity is not None:
        weights = weights * multiplicity
    return attention, weights / weights.sum(dim=-1, keepdim=True)
