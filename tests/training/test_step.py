"""A step waits for no device, and its options compute what the plain step does."""

import copy

import pytest
import torch
from conftest import CPU, SMALL
from torch._subclasses.fake_tensor import FakeTensorMode

from mmqsa.config.workflow import Config
from mmqsa.model.masked_slot_model import Draws, MaskedSlotModel
from mmqsa.training.step import Step, make_step


def model_of(**sections) -> MaskedSlotModel:
    torch.manual_seed(0)
    return MaskedSlotModel(Config.model_validate({**SMALL, **sections}).model, 36, 8)


@pytest.mark.parametrize("strategy", ["none", "random", "background", "foreground"])
def test_no_value_is_read_back_in_a_step(strategy):
    """On fake tensors, which have no values, reading one back (``.item()``, ``if``) is an error."""
    generator = torch.Generator().manual_seed(0)
    with FakeTensorMode():
        model = model_of(masking={"strategy": strategy})
        step = Step(model, Config.model_validate(SMALL).training, "bf16", CPU)
        features = torch.randn(4, 36, 8).half()
        loss = step(features, [1], model.draw(4, generator), 1e-3)
        with pytest.raises(Exception, match=r"item|data-dependent|_local_scalar_dense"):
            loss.item()  # the check itself can fail


def test_a_head_that_was_not_drawn_stays_as_it_was():
    """Also after it was drawn before: Adam's momentum must not move it."""
    model = model_of()
    step = Step(model, Config.model_validate(SMALL).training, "fp32", CPU)
    generator, features = torch.Generator().manual_seed(0), torch.randn(4, 36, 8)
    for _ in range(3):
        step(features, [0], model.draw(4, generator), 1e-2)
    before = copy.deepcopy(model.slot_attention.heads[0].state_dict())
    step(features, [1], model.draw(4, generator), 1e-2)
    after = model.slot_attention.heads[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_all_heads_average_their_losses():
    model, features = model_of(), torch.randn(4, 36, 8)
    draws = model.draw(4, torch.Generator().manual_seed(0), num_heads=3)
    each = [
        model(features, [head], Draws(draws.noise[head : head + 1], draws.uniform)).loss
        for head in range(3)
    ]
    together = model(features, range(3), draws).loss
    torch.testing.assert_close(together, torch.stack(each).mean())


@pytest.mark.parametrize("heads", ["drawn", "all", "merged"])
def test_a_cpu_has_no_use_for_compiling_and_graphs(heads):
    """So that the defaults of a GPU train on a CPU as well, and every head at a time."""
    options = {"compile": True, "cuda_graphs": True, "heads_per_step": heads}
    config = Config.model_validate({**SMALL, "training": {**SMALL["training"], **options}})
    model = model_of()
    assert type(make_step(model, config.training, "fp32", CPU)) is Step
    assert model.decoder._compiled_call_impl is None
