"""The model against plain readings of its formulas."""

import pytest
import torch
import torch.nn.functional as F

from mmqsa.config.workflow import Config
from mmqsa.model.decoder import SpatialBroadcastDecoder
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.model.masking import visible_patches
from mmqsa.model.slot_attention import EPSILON, MultiQuerySlotAttention


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def plain_slot_attention(module, features, noise, head):
    """Keys and values projected for every patch, as the paper writes it."""
    own = module.heads[head]
    inputs = module.norm_input(features)
    keys, values = module.to_key(inputs), module.to_value(inputs)
    slots = own.mean + own.log_std.exp() * noise
    for _ in range(module.iterations):
        normed = own.norm_slots(slots)
        previous = normed if module.normed_state else slots
        logits = own.to_query(normed) @ keys.mT / module.width**0.5
        attention = logits.softmax(dim=1)
        weights = (attention + EPSILON) / (attention + EPSILON).sum(dim=2, keepdim=True)
        updates = weights @ values
        slots = torch.stack([own.gru(u, s) for u, s in zip(updates, previous, strict=True)])
        slots = slots + own.mlp(own.norm_mlp(slots))
    return slots, attention


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return MultiQuerySlotAttention(12, 16, 24, heads=3, iterations=3)


@pytest.mark.parametrize("normed_state", [False, True])
def test_folded_projections_equal_the_plain_formula(attention, normed_state):
    attention.normed_state = normed_state
    features, noise = torch.randn(4, 30, 12), torch.randn(4, 5, 16)
    for head in range(3):
        found, expected = (
            attention(features, noise, head),
            plain_slot_attention(attention, features, noise, head),
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_multiplicity_stands_for_equal_patches(attention):
    once, noise = torch.randn(2, 6, 12), torch.randn(2, 5, 16)
    counts = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 9.0])
    repeated = torch.cat([once[:, :5], once[:, 5:].expand(2, 9, 12)], dim=1)
    torch.testing.assert_close(
        attention(once, noise, 0, counts)[0],
        attention(repeated, noise, 0)[0],
        atol=1e-5,
        rtol=1e-5,
    )


def test_attention_sums_to_one_over_slots(attention):
    _, found = attention(torch.randn(2, 30, 12), torch.randn(2, 5, 16), 1)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 30))


def test_decoder_equals_the_plain_formula():
    torch.manual_seed(0)
    decoder = SpatialBroadcastDecoder(patches=9, slot_dim=8, width=16, layers=3, feature_dim=5)
    slots = torch.randn(2, 4, 8)
    hidden = slots[:, :, None] + decoder.position
    for layer in (decoder.first, *decoder.hidden):
        hidden = F.relu(layer(hidden))
    alphas = decoder.to_alpha(hidden).squeeze(-1).softmax(dim=1)
    plain = (alphas[..., None] * decoder.to_features(hidden)).sum(dim=1)
    found, found_alphas = decoder(slots)
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found_alphas, alphas)
    torch.testing.assert_close(decoder.alphas(slots), alphas)
    subset = torch.tensor([7, 2])
    torch.testing.assert_close(decoder(slots, subset)[0], plain[:, subset], atol=1e-5, rtol=1e-5)


def small(**masking) -> MaskedSlotModel:
    torch.manual_seed(0)
    settings = Config.model_validate(
        {
            "masking": masking,
            "slots": {
                "num_slots": 4,
                "num_heads": 3,
                "slot_dim": 8,
                "mlp_dim": 8,
                "encoder_dim": 8,
            },
            "decoder": {"hidden_dim": 8, "layers": 2},
        }
    )
    return MaskedSlotModel(settings.model, patches=25, feature_dim=6)


@pytest.mark.parametrize("strategy", ["none", "random", "background", "foreground"])
def test_one_token_for_all_hidden_patches_equals_zeros_everywhere(strategy):
    model, keys = small(strategy=strategy, ratio=0.6), torch.randn(3, 25, 6)
    draws = model.draw(3, seeded())
    found = model.loss(keys, [1], draws)

    visible = visible_patches(keys, strategy, 0.6, draws.uniform)
    seen = torch.zeros(3, 25).scatter_(1, visible, 1.0)
    features = model.encoder(keys * seen[..., None])
    slots, _ = plain_slot_attention(model.slot_attention, features, draws.noise[0], 1)
    reconstruction, _ = model.decoder(slots)
    torch.testing.assert_close(found, F.mse_loss(reconstruction, keys), atol=1e-5, rtol=1e-5)


def test_only_the_drawn_head_gets_a_gradient_and_the_target_none():
    model = small()
    keys = torch.randn(3, 25, 6, requires_grad=True)
    model.loss(keys.detach(), [2], model.draw(3, seeded())).backward()
    touched = [
        any(p.grad is not None for p in head.parameters()) for head in model.slot_attention.heads
    ]
    assert touched == [False, False, True]
    assert all(p.grad is not None for p in model.decoder.parameters())


def test_fixed_initialisation_is_not_trained():
    torch.manual_seed(0)
    fixed = MultiQuerySlotAttention(6, 8, 8, 2, 1, learned_initialisation=False)
    names = dict(fixed.named_parameters())
    assert not any("mean" in name or "std" in name for name in names)
    assert "heads.0.mean" in fixed.state_dict()
