import pytest
import torch

from mmqsa.errors import InputError
from mmqsa.model.slot_attention import EPSILON, SlotAttention


def one_head(module, features, noise, head):
    """One image and one head at a time, as the paper writes it: slots (B, K, D_slot), attention."""
    head, results = module.heads[head], []
    for image, drawn in zip(features, noise, strict=True):
        inputs = module.norm_input(image)
        keys, values = module.to_key(inputs), module.to_value(inputs)
        slots = head.mean + head.log_std.exp() * drawn
        for _ in range(module.iterations):
            normed = head.norm_slots(slots)
            attention = (head.to_query(normed) @ keys.T / module.slot_dim**0.5).softmax(dim=0)
            weights = (attention + EPSILON) / (attention + EPSILON).sum(dim=1, keepdim=True)
            slots = head.gru(weights @ values, normed if module.normed_state else slots)
            slots = slots + head.mlp(head.norm_mlp(slots))
        results.append((slots, attention))
    slots, attention = zip(*results, strict=True)
    return torch.stack(slots), torch.stack(attention)


@pytest.fixture
def attention() -> SlotAttention:
    torch.manual_seed(0)
    module = SlotAttention(12, 16, 24, num_heads=3, iterations=3)
    for parameter in module.parameters():  # norms too must differ between heads
        torch.nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize("normed_state", [False, True])
@pytest.mark.parametrize("heads", [None, [1], [2, 0]])
def test_heads_side_by_side_equal_one_head_after_the_other(attention, normed_state, heads):
    attention.normed_state = normed_state
    features = torch.randn(4, 30, 12)
    indices = range(3) if heads is None else heads
    noise = torch.randn(len(indices), 4, 5, 16)
    slots, masks = attention(features, noise, heads)
    for place, head in enumerate(indices):
        plain_slots, plain_masks = one_head(attention, features, noise[place], head)
        torch.testing.assert_close(slots[:, place], plain_slots, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(masks[:, place], plain_masks, atol=1e-5, rtol=1e-4)


def test_iterations_can_differ_from_the_training(attention):
    features, noise = torch.randn(2, 30, 12), torch.randn(3, 2, 5, 16)
    once, _ = attention(features, noise, iterations=1)
    thrice, _ = attention(features, noise)
    attention.iterations = 1
    assert torch.equal(once, attention(features, noise)[0]) and not torch.allclose(once, thrice)


def test_attention_sums_to_one_over_slots(attention):
    _, masks = attention(torch.randn(2, 30, 12), torch.randn(3, 2, 5, 16))
    torch.testing.assert_close(masks.sum(dim=2), torch.ones(2, 3, 30))


def test_fixed_initialisation_is_not_trained():
    torch.manual_seed(0)
    fixed = SlotAttention(6, 8, 8, 2, 1, learned_initialisation=False)
    names = dict(fixed.named_parameters())
    assert not any("mean" in name or "std" in name for name in names)
    assert "heads.0.mean" in fixed.state_dict()


def test_clustering_needs_slots_of_the_features_dim(attention):
    with pytest.raises(InputError, match=r"slots\.slot_dim: .* needs 12, .* not 16"):
        attention.start_as_clustering()
