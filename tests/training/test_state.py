import torch
from conftest import CPU
from torch import nn

from mmqsa.training.batches import Batches
from mmqsa.training.state import TrainState


def state() -> TrainState:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    batches = Batches(10, 4, torch.Generator().manual_seed(0), CPU)
    optimiser = torch.optim.Adam(model.parameters())
    return TrainState(model, optimiser, batches, torch.Generator(), num_heads=3, log_every=5)


def advance(state: TrainState, steps: int) -> None:
    for _ in range(steps):
        rows = state.batches.next()
        noise = torch.randn(4, 3, generator=state.noise)
        loss = (state.model(noise + rows[:, None])).square().mean()
        state.optimiser.zero_grad()
        loss.backward()
        state.optimiser.step()
        state.add(loss.detach(), [int(rows[0]) % 3])
        if state.step % 5 == 0:
            state.log(1e-3, 10.0)


def test_a_loaded_state_goes_on_to_the_same_bits():
    whole, first, second = state(), state(), state()
    for one in (whole, first):
        advance(one, 7)
        one.keep_snapshot()
    advance(whole, 5)
    second.load_state_dict(first.state_dict())
    assert second.resumed_at_steps == [7] and len(second.losses) == 2
    advance(second, 5)
    expected, resumed = whole.state_dict(), second.state_dict()
    assert resumed.pop("resumed_at_steps") == [7] and not expected.pop("resumed_at_steps")
    assert torch.equal(expected.pop("model")["weight"], resumed.pop("model")["weight"])
    kept, kept_too = expected.pop("snapshots"), resumed.pop("snapshots")
    assert list(kept) == list(kept_too) == [7]
    assert torch.equal(kept[7]["weight"], kept_too[7]["weight"])
    assert not torch.equal(kept[7]["weight"], whole.model.weight)
    for one, two in zip(expected.pop("generators"), resumed.pop("generators"), strict=True):
        assert torch.equal(one, two)
    moments = [values.pop("optimiser")["state"][0]["exp_avg"] for values in (expected, resumed)]
    assert torch.equal(*moments)
    assert expected == resumed
    assert set(resumed) == {"epoch", "step", "seconds", "history", "updates_per_head", "losses"}
