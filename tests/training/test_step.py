"""A step waits for no device, and its options compute what the plain step does."""

import copy
from typing import get_args

import pytest
import torch
from conftest import CPU, SMALL
from torch._subclasses.fake_tensor import FakeTensorMode

from mmqsa.config.evaluation import MaskSource, MatchingName
from mmqsa.config.workflow import Config
from mmqsa.model import matching
from mmqsa.model.inference import Discoverer
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.training.step import Step


def model_of(**sections) -> MaskedSlotModel:
    torch.manual_seed(0)
    return MaskedSlotModel(Config.model_validate({**SMALL, **sections}), 36, 8)


@pytest.fixture
def fresh_tables():
    """Tables of the assignment are kept; fake ones must not outlive their test."""
    matching._column_sets.cache_clear()
    yield
    matching._column_sets.cache_clear()


@pytest.mark.parametrize("strategy", ["none", "random", "background", "foreground"])
def test_no_value_is_read_back_in_a_step_or_a_merge(strategy, fresh_tables):
    """On fake tensors, which have no values, reading one back (``.item()``, ``if``) is an error."""
    generator = torch.Generator().manual_seed(0)
    with FakeTensorMode():
        model = model_of(masking={"strategy": strategy})
        config = Config.model_validate(SMALL).training
        step = Step(model, config, "bf16", CPU)
        keys = torch.randn(4, 36, 8).half()
        step(keys, [1], model.draw(4, generator), 1e-3)
        discoverer = Discoverer(model, projection=torch.eye(16))
        found = discoverer.run_heads(keys, generator)
        reference = torch.zeros(4, dtype=torch.int64)
        for name in get_args(MatchingName):
            masks = discoverer.discover(found, reference, name, get_args(MaskSource))
        assert masks["decoder"].shape == (4, 4, 36)
        with pytest.raises(Exception, match=r"item|data-dependent|_local_scalar_dense"):
            masks["decoder"].sum().item()  # the check itself can fail


def test_a_head_that_was_not_drawn_stays_as_it_was():
    """Also after it was drawn before: Adam's momentum must not move it."""
    model = model_of()
    step = Step(model, Config.model_validate(SMALL).training, "fp32", CPU)
    generator, keys = torch.Generator().manual_seed(0), torch.randn(4, 36, 8)
    for _ in range(3):
        step(keys, [0], model.draw(4, generator), 1e-2)
    before = copy.deepcopy(model.slot_attention.heads[0].state_dict())
    step(keys, [1], model.draw(4, generator), 1e-2)
    after = model.slot_attention.heads[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_all_heads_average_their_losses():
    model, keys = model_of(), torch.randn(4, 36, 8)
    draws = model.draw(4, torch.Generator().manual_seed(0), heads=3)
    each = [
        model.loss(keys, [head], type(draws)(draws.noise[head : head + 1], draws.uniform))
        for head in range(3)
    ]
    torch.testing.assert_close(model.loss(keys, range(3), draws), torch.stack(each).mean())
