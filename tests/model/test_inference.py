"""All heads at once, and their merge, against one head after the other."""

import pytest
import torch

from mmqsa.config.workflow import Config
from mmqsa.model.inference import Discoverer
from mmqsa.model.masked_slot_model import MaskedSlotModel


@pytest.fixture
def model() -> MaskedSlotModel:
    torch.manual_seed(0)
    slots = {"num_slots": 4, "num_heads": 3, "slot_dim": 8, "mlp_dim": 8, "encoder_dim": 8}
    settings = Config.model_validate({"slots": slots, "decoder": {"hidden_dim": 8, "layers": 2}})
    model = MaskedSlotModel(settings.model, patches=25, feature_dim=6)
    for parameter in model.slot_attention.parameters():  # norms too must differ between heads
        torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.fixture
def found(model):
    discoverer = Discoverer(model)
    return discoverer.run_heads(torch.randn(5, 25, 6), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("normed_state", [False, True])
def test_stacked_heads_equal_one_head_after_the_other(model, normed_state):
    model.slot_attention.normed_state = normed_state
    features, noise = torch.randn(5, 25, 6), torch.randn(3, 5, 4, 8)
    with torch.inference_mode():
        slots, attention = Discoverer(model).heads(features, noise)
        for head in range(3):
            own_slots, own_attention = model.slot_attention(features, noise[head], head)
            torch.testing.assert_close(slots[:, head], own_slots, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(attention[:, head], own_attention, atol=1e-5, rtol=1e-4)


def test_masks_sum_to_one_and_depend_on_the_matching(model, found):
    discoverer, reference = Discoverer(model), torch.tensor([0, 1, 2, 0, 1])
    with torch.inference_mode():
        by = {
            name: discoverer.discover(found, reference, name)
            for name in ("hungarian", "greedy", "unaligned", "none")
        }
    for masks in by.values():
        assert list(masks) == ["decoder", "attention"]
        for own in masks.values():
            assert own.shape == (5, 4, 25)
            torch.testing.assert_close(own.sum(dim=1), torch.ones(5, 25))
    assert not torch.allclose(by["hungarian"]["attention"], by["unaligned"]["attention"])
    torch.testing.assert_close(by["none"]["attention"][1], found.attention[1, 1])


def test_only_what_is_asked_for_is_decoded(model, found, monkeypatch):
    monkeypatch.setattr(model.decoder, "alphas", lambda slots: pytest.fail("decoded"))
    masks = Discoverer(model).discover(found, torch.zeros(5, dtype=int), "none", ["attention"])
    assert list(masks) == ["attention"]
