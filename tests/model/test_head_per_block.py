import pytest
import torch
from test_slot_attention import one_head

from mmqsa.config.model import ModelConfig
from mmqsa.config.training import RunConfig
from mmqsa.errors import InputError
from mmqsa.model.masked_slot_model import MaskedSlotModel

SLOTS = {"num_slots": 4, "num_heads": 2, "slot_dim": 8, "mlp_dim": 8, "encoder_dim": 16}


def model_of(**slots) -> MaskedSlotModel:
    torch.manual_seed(0)
    config = {"slots": {**SLOTS, "reads": "block", **slots}, "decoder": {"hidden_dim": 8}}
    return MaskedSlotModel(ModelConfig.model_validate(config), num_patches=25, feature_dim=16)


def test_a_head_sees_its_own_block_alone():
    model, features = model_of(), torch.randn(3, 25, 16)
    generator = torch.Generator().manual_seed(0)
    noise = model.noise(3, generator)
    outputs = model.run_heads(features, noise)
    other = features.clone()
    other[..., 8:] = torch.randn(3, 25, 8)
    changed = model.run_heads(other, noise)
    assert torch.equal(outputs.slots[:, 0], changed.slots[:, 0])
    assert not torch.allclose(outputs.slots[:, 1], changed.slots[:, 1])
    for head in range(2):
        encoded = model.slot_attention.encoders[head](features[..., 8 * head : 8 * head + 8])
        plain = one_head(model.slot_attention.attentions[head], encoded, noise[head], 0)
        torch.testing.assert_close(outputs.slots[:, head], plain[0])
        torch.testing.assert_close(outputs.attention[:, head], plain[1])


def test_a_step_trains_the_drawn_head_alone():
    model = model_of()
    model(torch.randn(3, 25, 16), [1], model.draw(3, torch.Generator().manual_seed(0)))
    loss = model(torch.randn(3, 25, 16), [1], model.draw(3, torch.Generator().manual_seed(0))).loss
    loss.backward()
    for part in (model.slot_attention.encoders, model.slot_attention.attentions):
        assert all(parameter.grad is None for parameter in part[0].parameters())
        assert any(parameter.grad is not None for parameter in part[1].parameters())
    assert model.decoder.to_features.out_features == 16  # all blocks are reconstructed


def test_clustering_starts_every_block():
    model = model_of(start="clustering")
    features = torch.randn(2, 25, 16)
    encoded = model.slot_attention.encoders[1](features[..., 8:])
    torch.testing.assert_close(encoded, features[..., 8:])


def test_blocks_that_cannot_be_shared_out_are_refused():
    with pytest.raises(InputError, match=r"slots.reads: 3 heads cannot share out 16 features"):
        model_of(num_heads=3)
    blocks = {"blocks": [-2, -1]}
    for backbone, slots, said in (
        (blocks | {"combine": "sum"}, {"num_heads": 2}, "needs backbone.combine: concatenate"),
        (blocks, {"num_heads": 8}, "set slots.num_heads to 2"),
    ):
        with pytest.raises(ValueError, match=said):
            RunConfig.model_validate({"backbone": backbone, "slots": slots | {"reads": "block"}})
