"""The autoregressive decoder against a plain statement, a patch at a time."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmqsa.model.decoder import IMAGES_AT_ONCE
from mmqsa.model.transformer_decoder import TransformerDecoder, patch_orders

SIDE, K, DIM, HEADS, LAYERS, FEATURES = 3, 4, 12, 2, 3, 5
N = SIDE**2


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return TransformerDecoder(N, 8, DIM, LAYERS, FEATURES, HEADS, orders=9)


def attend(queries, keys, values):
    """Of one image: (T, C), (S, C), (S, C) -> (T, C), weights (T, S) averaged over heads."""
    outputs, weights = [], []
    for head in range(HEADS):
        part = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
        weight = (queries[:, part] @ keys[:, part].T / math.sqrt(DIM / HEADS)).softmax(dim=-1)
        outputs.append(weight @ values[:, part])
        weights.append(weight)
    return torch.cat(outputs, dim=-1), torch.stack(weights).mean(dim=0)


def plain(decoder, slots, features, which):
    """Of one image: predict patch after patch, each from a sequence that ends before it."""
    order = decoder.orders[which].tolist()
    slots = decoder.from_slots(slots)
    reconstruction, masks = torch.zeros(N, FEATURES), torch.zeros(K, N)
    for step, patch in enumerate(order):
        known = [decoder.start[which]] + [
            decoder.from_features(features[earlier]) for earlier in order[:step]
        ]
        hidden = torch.stack(known) + decoder.position[order[: step + 1]]
        for block in decoder.blocks:
            normed = block.norms[0](hidden)
            queries, keys, values = block.to_self(normed).chunk(3, dim=-1)
            rows = [
                attend(queries[t : t + 1], keys[: t + 1], values[: t + 1])[0]
                for t in range(step + 1)
            ]
            hidden = hidden + block.from_self(torch.cat(rows))
            keys, values = block.to_slots(slots).chunk(2, dim=-1)
            attended, weights = attend(block.to_queries(block.norms[1](hidden)), keys, values)
            hidden = hidden + block.from_slots(attended)
            hidden = hidden + block.from_mlp(F.relu(block.to_mlp(block.norms[2](hidden))))
        reconstruction[patch] = decoder.to_features(decoder.norm(hidden[-1]))
        masks[:, patch] = weights[-1]
    return reconstruction, masks


@pytest.mark.parametrize("which", [0, 3, 8])
def test_it_equals_the_plain_formula(decoder, which):
    slots, features = torch.randn(2, K, 8), torch.randn(2, N, FEATURES)
    found = decoder(slots, features, torch.tensor([which]))
    each = [plain(decoder, *image, which) for image in zip(slots, features, strict=True)]
    for one, two in zip(found, map(torch.stack, zip(*each, strict=True)), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("which", range(9))
def test_no_patch_sees_itself_or_a_later_one(decoder, which):
    slots, features = torch.randn(1, K, 8), torch.randn(1, N, FEATURES)
    order = decoder.orders[which]
    before = decoder(slots, features, torch.tensor([which]))
    for step, patch in enumerate(order.tolist()):
        changed = features.clone()
        changed[0, patch] += 1
        after = decoder(slots, changed, torch.tensor([which]))
        same = torch.isin(torch.arange(N), order[: step + 1])
        for one, two in zip(before, (after[0], after[1]), strict=True):
            differs = (
                (one - two).abs().reshape(1, -1, N)
                if one is before[1]
                else ((one - two).abs().transpose(1, 2))
            )
            assert (differs.amax(dim=1)[0][same] == 0).all()
            assert (differs.amax(dim=1)[0][~same] > 0).all()


def test_orders():
    orders = patch_orders(16, 9)
    assert (orders.sort(dim=1).values == torch.arange(16)).all() and len(orders.unique(dim=0)) == 9
    steps = orders[8].diff()  # of the spiral, each to a neighbour: left, right, up or down
    assert set(steps.abs().tolist()) == {1, 4} and orders[8, -1] == 0
    with pytest.raises(ValueError, match="12 patches are no square"):
        patch_orders(12, 1)


def test_several_sets_of_slots_share_an_images_features(decoder):
    images, sets = IMAGES_AT_ONCE + 1, 3
    slots, features = torch.randn(images, sets, K, 8), torch.randn(images, N, FEATURES)
    found = decoder.masks(slots.flatten(0, 1), features).unflatten(0, (images, sets))
    for index in range(sets):
        torch.testing.assert_close(found[:, index], decoder(slots[:, index], features)[1])


def test_orders_are_drawn_evenly_and_one_is_not_drawn(decoder):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([decoder.draw(generator) for _ in range(900)])
    assert drawn.bincount(minlength=9).float().sub(100).abs().max() < 40
    assert TransformerDecoder(N, 8, DIM, 1, FEATURES, HEADS).draw(generator) is None


def test_it_learns_what_only_slots_and_earlier_patches_tell(decoder):
    """Each image is one vector everywhere: known to all patches but the first, and in the slots."""
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(decoder.parameters(), 3e-3)
    for _ in range(150):
        vectors = torch.randn(16, FEATURES)
        slots = F.pad(vectors, (0, 3))[:, None].expand(-1, K, -1)
        target = vectors[:, None].expand(-1, N, -1)
        loss = F.mse_loss(decoder(slots, target)[0], target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.3
