"""Slot attention (Locatello et al., NeurIPS 2020) with several query heads."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mmqsa.config.model import Initialisation
from mmqsa.errors import InputError

EPSILON = 1e-8  # keeps the weighted mean of an empty slot finite


class SlotHead(nn.Module):
    """One head: its own slot initialisation, query projection, norms, GRU and MLP."""

    mean: Tensor
    log_std: Tensor | None

    def __init__(
        self,
        slot_dim: int,
        mlp_dim: int,
        initialisation: Initialisation,
        num_slots: int | None,
        num_heads: int,
    ):
        super().__init__()
        if initialisation == "learned":
            self.mean = nn.Parameter(torch.randn(slot_dim) * slot_dim**-0.5)
            self.log_std = nn.Parameter(torch.zeros(slot_dim))
        elif initialisation == "fixed":
            # Xavier's bound for one tensor of all heads, (H, 1, 1, D_slot), as it is there.
            bound = (6 / ((num_heads + 1) * slot_dim)) ** 0.5
            self.register_buffer("mean", torch.empty(slot_dim).uniform_(-bound, bound))
            self.register_buffer("log_std", torch.empty(slot_dim).uniform_(-bound, bound))
        else:
            assert num_slots is not None, "queries need a number of slots"
            self.mean = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_slots, slot_dim)))
            self.log_std = None
        self.norm_slots = nn.LayerNorm(slot_dim)
        self.to_query = nn.Linear(slot_dim, slot_dim, bias=False)
        self.gru = nn.GRUCell(slot_dim, slot_dim)
        self.norm_mlp = nn.LayerNorm(slot_dim)
        self.mlp = nn.Sequential(
            nn.Linear(slot_dim, mlp_dim), nn.ReLU(), nn.Linear(mlp_dim, slot_dim)
        )

    @torch.no_grad()
    def start_as_clustering(self) -> None:
        """Set weights that make each slot a weighted mean of what it attends to: soft k-means.

        Queries are the slots, the GRU passes its input on (tanh of it), the MLP adds nothing.
        Heads keep a tenth of their own random query weights, so that they differ.
        """
        dim = self.mean.shape[-1]
        self.to_query.weight.mul_(0.1).add_(torch.eye(dim))
        self.gru.weight_ih[2 * dim :] = torch.eye(dim)  # rows: reset, update, candidate
        self.gru.weight_hh[2 * dim :] = 0
        self.gru.bias_ih[dim : 2 * dim] = -2.0  # an update gate that forgets the previous slot
        last = self.mlp[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def initial_slots(self, noise: Tensor) -> Tensor:
        """Standard normal noise (B, K, D_slot) -> slots (B, K, D_slot).

        Learned queries take from the noise its shape alone. Raises InputError when that has
        another K than the queries.
        """
        if self.log_std is not None:
            return self.mean + self.log_std.exp() * noise
        if len(self.mean) != noise.shape[1]:
            raise InputError(
                f"slots.num_slots: {noise.shape[1]}, but this run's learned queries are "
                f"{len(self.mean)} slots; their number cannot change after training"
            )
        return self.mean.expand_as(noise)

    def update(self, state: Tensor, updates: Tensor) -> Tensor:
        """The GRU's previous state and its input, both (B, K, D_slot) -> slots (B, K, D_slot)."""
        slots: Tensor = self.gru(updates.flatten(0, 1), state.flatten(0, 1)).view_as(state)
        change: Tensor = self.mlp(self.norm_mlp(slots))
        return slots + change


class SlotAttention(nn.Module):
    """Slot attention with H query heads, each a full set of slots of its own.

    The input norm and the key and value projections are shared by all heads (paper, section III).
    The GRU's previous state is the slots, or with ``normed_state`` their layer norm: an aliasing
    slip of the released multi-head code, which makes H = 1 differ from its single-head class.

    ``initialisation`` of each head's slots:

    learned  a Gaussian with a learned mean and std, shared by all slots (Locatello et al.)
    fixed    a Gaussian that is drawn once and never trained (the paper's released code)
    queries  ``num_slots`` learned vectors (BO-QSA, Jia et al., ICLR 2023; without its noise):
             only the last iteration has a gradient, which reaches the queries straight through

    >>> _ = torch.manual_seed(0)
    >>> attention = SlotAttention(feature_dim=8, slot_dim=16, mlp_dim=32, num_heads=2)
    >>> readout = torch.nn.Linear(16, 8)
    >>> optimiser = torch.optim.Adam([*attention.parameters(), *readout.parameters()], 1e-2)
    >>> features, noise, losses = torch.randn(4, 25, 8), torch.randn(2, 4, 3, 16), []
    >>> for step in range(30):
    ...     slots, masks = attention(features, noise)  # (4, 2, 3, 16) and (4, 2, 3, 25)
    ...     reconstruction = masks.mT @ readout(slots)  # (4, 2, 25, 8)
    ...     loss = (reconstruction - features[:, None]).square().mean()
    ...     optimiser.zero_grad()
    ...     loss.backward()
    ...     optimiser.step()
    ...     losses.append(loss.item())
    >>> losses[-1] < 0.9 * losses[0]
    True
    """

    def __init__(
        self,
        feature_dim: int,
        slot_dim: int,
        mlp_dim: int,
        num_heads: int = 1,
        iterations: int = 3,
        initialisation: Initialisation = "learned",
        normed_state: bool = False,
        num_slots: int | None = None,
    ):
        super().__init__()
        self.initialisation = initialisation
        self.iterations = iterations
        self.normed_state = normed_state
        self.slot_dim = slot_dim
        self.norm_input = nn.LayerNorm(feature_dim)
        self.to_key = nn.Linear(feature_dim, slot_dim, bias=False)
        self.to_value = nn.Linear(feature_dim, slot_dim, bias=False)
        # Separate modules: the gradient of a head that was not drawn is None, and Adam leaves the
        # head alone. With stacked parameters it would be zero, and momentum would still move it.
        self.heads = nn.ModuleList(
            SlotHead(slot_dim, mlp_dim, initialisation, num_slots, num_heads)
            for _ in range(num_heads)
        )

    @torch.no_grad()
    def start_as_clustering(self) -> None:
        """Set keys and values to the normed inputs, and every head to soft k-means on them.

        Raises InputError when slots and features differ in dim.
        """
        if self.slot_dim != self.to_key.in_features:
            raise InputError(
                f"slots.slot_dim: slots.start: clustering needs {self.to_key.in_features}, the "
                f"feature dim, not {self.slot_dim}"
            )
        nn.init.eye_(self.to_key.weight)
        nn.init.eye_(self.to_value.weight)
        for head in self._selected(None):
            head.start_as_clustering()

    def _selected(self, heads: Sequence[int] | None) -> Iterator[SlotHead]:
        for index in range(len(self.heads)) if heads is None else heads:
            head = self.heads[index]
            assert isinstance(head, SlotHead)
            yield head

    def forward(
        self,
        features: Tensor,
        noise: Tensor,
        heads: Sequence[int] | None = None,
        iterations: int | None = None,
        copies: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Features (B, N, D), standard normal noise (H, B, K, D_slot) -> slots and attention.

        Slots are (B, H, K, D_slot). Attention (B, H, K, N) is the last iteration's softmax over
        slots: at each patch it sums to 1. ``heads`` are the indices of the heads that the noise
        belongs to; None: all. ``iterations`` replaces the number set at construction. The last
        patch stands for as many as ``copies``, if that is not 0.
        """
        selected = list(self._selected(heads))
        inputs = self.norm_input(features).to(features.dtype)  # autocast on a GPU norms in fp32
        initial = [head.initial_slots(drawn) for head, drawn in zip(selected, noise, strict=True)]
        slots, last = initial, (iterations or self.iterations) - 1
        for iteration in range(last + 1):
            if self.initialisation == "queries" and iteration == last:
                slots = [
                    old.detach() + query - query.detach()
                    for old, query in zip(slots, initial, strict=True)
                ]
            normed = [head.norm_slots(old) for head, old in zip(selected, slots, strict=True)]
            # The heads' slots lie side by side, so that all of them attend in one product.
            queries = torch.cat(
                [head.to_query(old) for head, old in zip(selected, normed, strict=True)], dim=1
            )
            # Keys and values are linear in the inputs: (q Wk) x = q (Wk x), and the weighted mean
            # of Wv x is Wv times that of x. So the few slots are projected, not all patches.
            queries = (queries * self.slot_dim**-0.5) @ self.to_key.weight
            logits = queries @ inputs.mT
            attention = logits.float().unflatten(1, (len(selected), -1)).softmax(dim=2)
            weights = attention + EPSILON
            if copies:
                weights = torch.cat([weights[..., :-1], copies * weights[..., -1:]], dim=-1)
            weights = weights / weights.sum(dim=-1, keepdim=True)
            updates = self.to_value(weights.flatten(1, 2).to(inputs.dtype) @ inputs)
            updates = updates.unflatten(1, (len(selected), -1))
            states = normed if self.normed_state else slots
            slots = [
                head.update(state, update)
                for head, state, update in zip(selected, states, updates.unbind(1), strict=True)
            ]
        return torch.stack(slots, dim=1), attention
