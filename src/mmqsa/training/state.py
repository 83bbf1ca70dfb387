"""The state of an unfinished training: everything that its next steps and its history depend on."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from mmqsa.training.batches import Batches

Whole = Annotated[int, Field(ge=0)]
Row = Annotated[list[float], Field(min_length=4, max_length=4)]


class _Plain(BaseModel):
    """What a state holds besides tensors; a damaged one would fail much later."""

    model_config = ConfigDict(strict=True)

    step: Whole
    seconds: Annotated[float, Field(ge=0)]
    epoch: list[Whole]
    history: list[Row]
    updates_per_head: list[Whole]
    resumed_at_steps: list[Whole]
    losses: list[float]


class TrainState:
    """Model, optimiser, generators, batches and history of one training, saved as one."""

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        batches: Batches,
        noise: torch.Generator,
        num_heads: int,
        log_every: int,
    ):
        self.model, self.optimiser, self.batches, self.noise = model, optimiser, batches, noise
        self.step = 0
        """steps done"""
        self.seconds = 0.0
        """spent on them, over all attempts"""
        self.history: list[list[float]] = []
        """rows of history.csv"""
        self.updates_per_head = [0] * num_heads
        self.resumed_at_steps: list[int] = []
        self.snapshots: dict[int, dict[str, Tensor]] = {}
        """weights of the model, on the CPU, by the step that they were kept at"""
        # Losses since the last row of the history: on the device, so that no step waits for it.
        self._losses = torch.zeros(log_every, device=noise.device)

    def add(self, loss: Tensor, heads: Sequence[int]) -> None:
        """Count a step that updated ``heads``."""
        self._losses[self.step - self.logged_step] = loss
        self.step += 1
        for head in heads:
            self.updates_per_head[head] += 1

    def keep_snapshot(self) -> None:
        """Keep the weights of this step."""
        self.snapshots[self.step] = {
            name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()
        }

    @property
    def logged_step(self) -> int:
        """Steps done at the last row of the history."""
        return int(self.history[-1][0]) if self.history else 0

    @property
    def losses(self) -> Tensor:
        """Of the steps since the last row of the history."""
        return self._losses[: self.step - self.logged_step]

    def log(self, learning_rate: float, images_per_second: float) -> None:
        """Append a row to the history, with the mean loss since the last one."""
        mean = self.losses.double().mean().item()
        self.history.append([self.step, mean, learning_rate, images_per_second])

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generators": [self.batches.generator.get_state(), self.noise.get_state()],
            "epoch": self.batches.left.tolist(),
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "updates_per_head": self.updates_per_head,
            "resumed_at_steps": self.resumed_at_steps,
            "snapshots": self.snapshots,
            "losses": self.losses.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, which notes the step as one where the training was resumed.

        Raises ValueError, among others, when it is not one of this training.
        """
        self._check(state)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        for generator, saved in zip(
            (self.batches.generator, self.noise), state["generators"], strict=True
        ):
            generator.set_state(saved)
        left, device = state["epoch"], self.batches.device
        self.batches.left = torch.tensor(left, dtype=torch.int64, device=device)
        self.step, self.seconds = state["step"], state["seconds"]
        self.history, self.updates_per_head = state["history"], state["updates_per_head"]
        self.snapshots = state["snapshots"]
        self.resumed_at_steps = [*state["resumed_at_steps"], self.step]
        self._losses[: len(state["losses"])] = torch.tensor(state["losses"])

    def _check(self, state: dict[str, Any]) -> None:
        plain = _Plain.model_validate(state)
        logged = plain.history[-1][0] if plain.history else 0
        weights = [list(kept) for kept in state["snapshots"].values()]
        if not (
            plain.step - logged == len(plain.losses) <= len(self._losses)
            and len(plain.updates_per_head) == len(self.updates_per_head)
            and max(plain.epoch, default=0) < self.batches.num_images
            and all(names == list(self.model.state_dict()) for names in weights)
        ):
            raise ValueError("its parts do not fit together")
