import pytest
import torch

from mmqsa.errors import InputError
from mmqsa.model.slot_attention import EPSILON, SlotAttention


def one_head(module, features, noise, head):
    """One image and one head at a time, as the paper writes it: slots (B, K, D_slot), attention."""
    initial = module.heads[head].mean + module.heads[head].log_std.exp() * noise
    return one_head_from(module, features, initial, head, module.iterations)


def one_head_from(module, features, initial, head, iterations):
    head, results = module.heads[head], []
    for image, slots in zip(features, initial, strict=True):
        inputs = module.norm_input(image)
        keys, values = module.to_key(inputs), module.to_value(inputs)
        for _ in range(iterations):
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
    fixed = SlotAttention(6, 8, 8, 2, 1, "fixed")
    names = dict(fixed.named_parameters())
    assert not any("mean" in name or "std" in name for name in names)
    assert "heads.0.mean" in fixed.state_dict()


def test_fixed_initialisation_is_the_released_codes():
    """There: xavier_uniform_ of one tensor (H, 1, 1, D_slot) for the means, one for log-sigmas."""
    torch.manual_seed(0)
    heads = SlotAttention(6, 384, 8, 8, initialisation="fixed").heads
    theirs = torch.nn.init.xavier_uniform_(torch.zeros(8, 1, 1, 384))
    for name in ("mean", "log_std"):
        ours = torch.stack([getattr(head, name) for head in heads])
        assert ours.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.01)
        assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.05)
        assert abs(ours.mean()) < 2e-3 and ours.unique(dim=0).shape == (8, 384)


def queries(iterations: int) -> SlotAttention:
    torch.manual_seed(0)
    return SlotAttention(6, 8, 12, 2, iterations, "queries", num_slots=3)


def test_queries_learn_straight_through():
    """BO-QSA, plainly: iterate without a gradient; start the last iteration at the result, as if
    the queries themselves stood there."""
    module, features = queries(3), torch.randn(2, 20, 6)
    noise, target = torch.randn(2, 2, 3, 8), torch.randn(2, 2, 3, 8)
    slots, _ = module(features, noise)
    (slots - target).square().mean().backward()
    expected = queries(1)
    for index, head in enumerate(expected.heads):
        start = head.mean.expand(2, 3, 8)
        with torch.no_grad():
            arrived, _ = one_head_from(module, features, start, index, iterations=2)
        last, _ = one_head_from(expected, features, arrived + start - start.detach(), index, 1)
        torch.testing.assert_close(slots[:, index], last, atol=1e-5, rtol=1e-4)
        ((last - target[:, index]).square().mean() / 2).backward()
    gradients = {name: value.grad for name, value in expected.named_parameters()}
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-6, rtol=1e-3)
    assert module.heads[0].mean.grad.abs().max() > 0


def test_queries_have_no_noise_and_one_number_of_slots():
    module, features = queries(3), torch.randn(2, 20, 6)
    first, second = (module(features, torch.randn(2, 2, 3, 8))[0] for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises(InputError, match=r"slots\.num_slots: 4, but .* queries are 3 slots"):
        module(features, torch.randn(2, 2, 4, 8))


def test_clustering_needs_slots_of_the_features_dim(attention):
    with pytest.raises(InputError, match=r"slots\.slot_dim: .* needs 12, .* not 16"):
        attention.start_as_clustering()
