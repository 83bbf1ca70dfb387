"""One optimiser step, eager or replayed from a CUDA graph.

Nothing in a step waits for the device: losses stay there until someone asks for them.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from mmqsa.config.training import TrainingConfig
from mmqsa.device import computing_in
from mmqsa.model.masked_slot_model import Draws, MaskedSlotModel

WARM_UP = 3  # eager steps of a head before its graph: optimiser state and libraries settle


class Step:
    """Adam on the model's loss, with clipped gradients."""

    graphed = False

    def __init__(
        self, model: MaskedSlotModel, config: TrainingConfig, precision: str, device: torch.device
    ):
        self.model, self.config, self.precision, self.device = model, config, precision, device
        # A graph reads the rate from memory, where the next step's can be put.
        self._rate = torch.tensor(config.learning_rate, device=device) if self.graphed else None
        self.optimiser = torch.optim.Adam(
            model.parameters(),
            lr=config.learning_rate if self._rate is None else self._rate,
            fused=True,
            capturable=self.graphed,
        )
        if config.compile and device.type == "cuda":
            model.decoder.compile()

    def __call__(self, features: Tensor, heads: Sequence[int], draws: Draws, rate: float) -> Tensor:
        """Features (B, N, D) -> the loss before the step, on the device."""
        self._set_rate(rate)
        return self._run(features, heads, draws)

    def _set_rate(self, rate: float) -> None:
        if self._rate is not None:
            self._rate.fill_(rate)
        for group in self.optimiser.param_groups:
            group["lr"] = rate if self._rate is None else self._rate

    def _run(self, features: Tensor, heads: Sequence[int], draws: Draws) -> Tensor:
        with computing_in(self.precision, self.device):
            merged = self.config.heads_per_step == "merged"
            loss = self.model(features, heads, draws, merged).loss
        self.optimiser.zero_grad(set_to_none=True)  # None, so that Adam skips heads not drawn
        loss.backward()
        if self.config.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.optimiser.step()
        return loss.detach()


class GraphedStep(Step):
    """The step recorded once per head and then replayed: one launch for its hundreds of kernels.

    Inputs are copied to fixed places in memory, where the graphs read them. All graphs share one
    pool: they run one after the other, and nothing but the loss is read between them.
    """

    graphed = True

    def __init__(
        self, model: MaskedSlotModel, config: TrainingConfig, precision: str, device: torch.device
    ):
        super().__init__(model, config, precision, device)
        self._warmed_up: Counter[int] = Counter()
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._inputs: tuple[Tensor, Draws] | None = None

    def __call__(self, features: Tensor, heads: Sequence[int], draws: Draws, rate: float) -> Tensor:
        (head,) = heads
        self._set_rate(rate)
        if self._inputs is None:
            self._inputs = features, draws
        else:
            for fixed, new in zip(_tensors(*self._inputs), _tensors(features, draws), strict=True):
                fixed.copy_(new)
        fixed_features, fixed_draws = self._inputs
        if head not in self._graphs:
            self._warmed_up[head] += 1
            if self._warmed_up[head] <= WARM_UP:
                # On the stream of the later recording, as PyTorch asks for.
                self._stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(self._stream):
                    loss = self._run(fixed_features, heads, fixed_draws)
                torch.cuda.current_stream().wait_stream(self._stream)
                return loss
            self.optimiser.zero_grad(set_to_none=True)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                loss = self._run(fixed_features, heads, fixed_draws)
            self._graphs[head] = graph, loss
        graph, loss = self._graphs[head]
        graph.replay()
        return loss.clone()  # the graph's own place is written again by its next replay


def _tensors(features: Tensor, draws: Draws) -> list[Tensor]:
    """The tensors among a step's inputs."""
    inputs = [features, draws.noise, draws.uniform, draws.decoding]
    return [tensor for tensor in inputs if tensor is not None]


def make_step(
    model: MaskedSlotModel, config: TrainingConfig, precision: str, device: torch.device
) -> Step:
    """The kind of step that the config asks for: graphs are a GPU's, and of one head each."""
    graphed = config.cuda_graphs and device.type == "cuda" and config.heads_per_step == "drawn"
    return (GraphedStep if graphed else Step)(model, config, precision, device)
