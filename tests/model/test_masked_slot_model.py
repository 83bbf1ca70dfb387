"""The whole model compared with its formula; training and inference share their parts."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from test_slot_attention import one_head

from mmqsa.config.choices import MatchingName
from mmqsa.config.model import ModelConfig
from mmqsa.errors import InputError
from mmqsa.model.masked_slot_model import Draws, HeadOutputs, MaskedSlotModel
from mmqsa.model.masking import visible_patches
from mmqsa.model.matching import align, merge
from mmqsa.model.merging import Merging, join_alike
from mmqsa.model.slot_fusion import SlotFusion

SLOTS = {"num_slots": 4, "num_heads": 3, "slot_dim": 8, "mlp_dim": 8, "encoder_dim": 8}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


DECODERS = {
    "mlp": {"hidden_dim": 8, "layers": 2},
    "transformer": {"kind": "transformer", "hidden_dim": 8, "layers": 2, "heads": 2, "orders": 9},
}


def small(patches_per_step=None, kind="mlp", **masking) -> MaskedSlotModel:
    torch.manual_seed(0)
    decoder = DECODERS[kind] | {"patches_per_step": patches_per_step}
    config = ModelConfig.model_validate({"masking": masking, "slots": SLOTS, "decoder": decoder})
    return MaskedSlotModel(config, num_patches=25, feature_dim=6)


def hidden(model, features, ratio=0.7):
    """Whether each patch is hidden (B, N), by the mean of its features."""
    visible = visible_patches(features.mean(dim=-1), "background", ratio)
    return torch.ones(features.shape[:2]).scatter_(1, visible, 0.0).bool()


@pytest.mark.parametrize("strategy", ["none", "random", "background", "foreground"])
@pytest.mark.parametrize("heads", [[1], [0, 2]])
@pytest.mark.parametrize("kind", DECODERS)
def test_a_step_equals_the_plain_formula(strategy, heads, kind):
    model, features = small(kind=kind, strategy=strategy, ratio=0.6), torch.randn(3, 25, 6)
    mean, std = torch.randn(25, 6), torch.rand(1, 6) + 0.5
    model.standardise_by(mean, std)
    draws = model.draw(3, seeded(), len(heads))
    output = model(features, heads, draws)

    target = (features - mean) / std
    score = draws.uniform if strategy == "random" else features.mean(dim=-1)
    visible = visible_patches(score, strategy, 0.6)
    seen = torch.zeros(3, 25).scatter_(1, visible, 1.0)
    losses = []
    for place, head in enumerate(heads):
        encoded = model.encoder(target * seen[..., None])
        slots, _ = one_head(model.slot_attention, encoded, draws.noise[place], head)
        reconstruction, masks = model.decoder(slots, target, draws.decoding)
        losses.append(F.mse_loss(reconstruction, target))
        close = {"atol": 1e-5, "rtol": 1e-4}
        torch.testing.assert_close(output.slots[:, place], slots, **close)
        torch.testing.assert_close(output.reconstruction[:, place], reconstruction, **close)
        torch.testing.assert_close(output.masks[:, place], masks, **close)
    torch.testing.assert_close(output.loss, torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("score", ["mean", "standardised-mean", "principal-component"])
def test_scores_of_the_background(score):
    model, features = small(score=score, strategy="background"), torch.randn(3, 25, 6)
    mean, std, direction = torch.randn(25, 6), torch.rand(1, 6) + 0.5, torch.randn(6)
    model.standardise_by(mean, std)
    if score == "principal-component":
        model.background_direction.copy_(direction)
    inputs = (features - mean) / std
    expected = {
        "mean": features.mean(dim=-1),
        "standardised-mean": inputs.mean(dim=-1),
        "principal-component": (features * direction).sum(dim=-1),
    }[score]
    visible = model.visible_patches(features, model.standardised(features))
    assert torch.equal(visible, visible_patches(expected, "background", 0.7))


def test_a_ratio_that_leaves_no_patch_is_refused():
    with pytest.raises(
        InputError, match=r"masking.ratio: 0.99 of 25 patches leaves no patch; lower it to 0.96"
    ):
        small(ratio=0.99)


def test_only_the_given_head_gets_a_gradient():
    model = small()
    model(torch.randn(3, 25, 6), [2], model.draw(3, seeded())).loss.backward()
    touched = [
        any(p.grad is not None for p in head.parameters()) for head in model.slot_attention.heads
    ]
    assert touched == [False, False, True]
    assert all(p.grad is not None for p in model.decoder.parameters())


def test_the_target_is_a_constant():
    """A hidden patch is in the target alone, so its features must get no gradient."""
    model, features = small(), torch.randn(3, 25, 6, requires_grad=True)
    model(features, [0], model.draw(3, seeded())).loss.backward()
    is_hidden = hidden(model, features)
    assert is_hidden.sum() == 3 * 18
    assert (features.grad[is_hidden] == 0).all()
    assert (features.grad[~is_hidden] != 0).all()


def test_the_patch_subset_estimates_the_whole_loss():
    whole, part = small(strategy="none"), small(patches_per_step=9, strategy="none")
    part.load_state_dict(whole.state_dict())
    features, noise = torch.randn(16, 25, 6), torch.randn(1, 16, 4, 8)
    generator = seeded()
    with torch.inference_mode():
        subsets = [part.draw(0, generator).decoding for _ in range(400)]
        estimates = torch.stack(
            [part(features, [0], Draws(noise, decoding=patches)).loss for patches in subsets]
        )
        exact = whole(features, [0], Draws(noise)).loss
    error = estimates.std() / 400**0.5
    assert estimates.std() > 0 and abs(estimates.mean() - exact) < 4 * error


def test_hooks_see_a_training_step():
    model, outputs = small(), []
    model.register_forward_hook(lambda module, inputs, output: outputs.append(output.loss))
    model(torch.randn(3, 25, 6), [0], model.draw(3, seeded()))
    assert len(outputs) == 1 and outputs[0].isfinite()


@pytest.fixture(params=DECODERS)
def model(request) -> MaskedSlotModel:
    model = small(kind=request.param)
    for parameter in model.slot_attention.parameters():  # norms too must differ between heads
        torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.fixture
def outputs(model) -> HeadOutputs:
    with torch.inference_mode():
        return model.run_heads(torch.randn(5, 25, 6), model.noise(5, seeded()), decode=True)


def test_masks_sum_to_one_and_depend_on_the_matching(model, outputs):
    reference = torch.tensor([0, 1, 2, 0, 1])
    sources = ("decoder", "attention", "decoder-masks")
    merging = Merging(torch.eye(8), SlotFusion(3, 8, 16))
    with torch.inference_mode():
        by_matching = {
            matching: model.merge_heads(outputs, matching, sources, reference, merging)
            for matching in get_args(MatchingName)
        }
    for merged in by_matching.values():
        assert tuple(merged) == sources
        for masks in merged.values():
            assert masks.shape == (5, 4, 25)
            torch.testing.assert_close(masks.sum(dim=1), torch.ones(5, 25))
    hungarian, alone = by_matching["hungarian"], by_matching["none"]
    assert not torch.allclose(hungarian["attention"], by_matching["unaligned"]["attention"])
    assert torch.equal(alone["attention"][1], outputs.attention[1, 1])
    torch.testing.assert_close(alone["decoder"], alone["decoder-masks"])
    # The projection I is the plain cosine, and another one is another matching.
    assert torch.equal(hungarian["decoder"], by_matching["learned"]["decoder"])
    other = model.merge_heads(
        outputs, "learned", ["attention"], reference, Merging(torch.randn(8, 8))
    )
    assert not torch.allclose(other["attention"], hungarian["attention"])


def test_every_way_to_merge_works_under_autocast(model, outputs):
    merging, reference = Merging(torch.eye(8), SlotFusion(3, 8, 16)), torch.tensor([2, 1, 0, 0, 1])
    for matching in get_args(MatchingName):
        for source in ("decoder", "attention"):
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                half = model.merge_heads(outputs, matching, [source], reference, merging)[source]
            with torch.inference_mode():
                full = model.merge_heads(outputs, matching, [source], reference, merging)[source]
            torch.testing.assert_close(half.float(), full, atol=0.05, rtol=0.1)


def test_a_decoder_shows_no_more_segments_than_were_chosen(model):
    outputs = model.run_heads(torch.randn(8, 25, 6), model.noise(8, seeded(), num_slots=7))
    masks = model.merge_heads(outputs, "consensus-chosen", ["decoder", "attention"])
    chosen = masks["attention"].any(dim=-1)
    assert torch.equal(masks["decoder"].any(dim=-1), chosen) and not chosen.all()
    torch.testing.assert_close(masks["decoder"].sum(dim=1), torch.ones(8, 25))
    alone = model.run_heads(torch.randn(2, 25, 6), model.noise(2, seeded(), num_slots=1))
    for matching in ("joined", "consensus", "consensus-chosen"):
        merged = model.merge_heads(alone, matching, ["attention"])["attention"]
        torch.testing.assert_close(merged, torch.ones(2, 1, 25))


def test_a_fusion_that_is_not_finite_is_refused(model, outputs):
    fusion = SlotFusion(3, 8, 16)
    torch.nn.init.constant_(fusion.last.weight, 3e38)
    with pytest.raises(InputError, match="the learned fusion is not finite"):
        model.merge_heads(outputs, "fusion", ["decoder"], merging=Merging(fusion=fusion))


def test_joined_masks_are_those_of_hungarian_put_together(model, outputs):
    reference = torch.tensor([2, 1, 0, 0, 1])
    plain, joined, apart = (
        model.merge_heads(outputs, matching, ["attention"], reference, Merging(alike=alike))
        for matching, alike in (("hungarian", 0.0), ("joined", 0.0), ("joined", 1.0))
    )
    expected = join_alike(plain["attention"], outputs.features, 0.0)
    assert torch.equal(joined["attention"], expected)
    assert not torch.equal(joined["attention"], plain["attention"])
    assert torch.equal(apart["attention"].argmax(dim=1), plain["attention"].argmax(dim=1))


def test_a_step_may_decode_the_merged_heads(model):
    features, heads = torch.randn(3, 25, 6), [1, 2, 0]
    draws = model.draw(3, seeded(), 3)
    output = model(features, heads, draws, merged=True)
    target = model.standardised(features)
    visible = model.visible_patches(features, target)
    encoded, num_hidden = model.encode(target, visible)
    slots, _ = model.slot_attention(encoded, draws.noise, heads, copies=num_hidden)
    slots = merge(slots, align(slots, torch.zeros(3, dtype=torch.int64), "hungarian"))
    decoded, masks = model.decoder(slots, target, draws.decoding)
    torch.testing.assert_close(output.loss, F.mse_loss(decoded, target))
    torch.testing.assert_close(output.masks[:, 0], masks)
    output.loss.backward()
    for head in model.slot_attention.heads:  # all of them learn
        assert head.to_query.weight.grad.abs().sum() > 0


def test_slots_are_merged_before_decoding_and_masks_after_it(model, outputs):
    reference = torch.tensor([2, 1, 0, 0, 1])
    order = align(outputs.slots, reference, "hungarian")
    with torch.inference_mode():
        merged = model.merge_heads(
            outputs, "hungarian", ("decoder", "decoder-masks"), reference=reference
        )
        slots = merge(outputs.slots, order)
        each = [
            model.decoder(own, outputs.features)[1] for own in (slots, *outputs.slots.unbind(1))
        ]
        torch.testing.assert_close(merged["decoder"], each[0])
        torch.testing.assert_close(
            merged["decoder-masks"], merge(torch.stack(each[1:], dim=1), order)
        )


def test_segment_is_heads_and_merge_with_any_number_of_slots(model):
    features, noise = torch.randn(5, 25, 6), model.noise(5, seeded(), num_slots=7)
    with torch.inference_mode():
        masks = model.segment(features, noise, "greedy", ["decoder-masks"], iterations=1)
        outputs = model.run_heads(features, noise, iterations=1, decode=True)
        expected = model.merge_heads(outputs, "greedy", ["decoder-masks"])
    assert masks["decoder-masks"].shape == (5, 7, 25)
    assert torch.equal(masks["decoder-masks"], expected["decoder-masks"])


def test_slots_that_are_not_finite_are_refused(model, outputs):
    with pytest.raises(InputError, match="the learned similarity is not finite"):
        model.merge_heads(outputs, "learned", merging=Merging(torch.full((8, 8), 3e38)))
    slots = outputs.slots.clone()
    slots[1, 2, 3] = float("nan")
    outputs = replace(outputs, slots=slots)
    for matching in ("none", "hungarian", "mask"):
        with pytest.raises(InputError, match="the slots are not finite"):
            model.merge_heads(outputs, matching)


def test_only_what_is_asked_for_is_decoded(model, monkeypatch):
    monkeypatch.setattr(model.decoder, "forward", lambda *_: pytest.fail("decoded"))
    masks = model.segment(torch.randn(2, 25, 6), model.noise(2, seeded()), "none", ["attention"])
    assert list(masks) == ["attention"]


def test_clustering_starts_as_soft_k_means():
    slots = {**SLOTS, "slot_dim": 6, "encoder_dim": 12, "start": "clustering"}
    model = MaskedSlotModel(ModelConfig.model_validate({"slots": slots}), 25, 6)
    features = torch.randn(2, 25, 6)
    torch.testing.assert_close(model.encoder(features), features)
    assert torch.equal(model.slot_attention.to_value.weight, torch.eye(6))


def test_no_step_in_place_copies_in_the_backward():
    """An operation in place on a view is exact, but its gradient is copied as a whole."""
    output = small()(torch.randn(2, 25, 6), [1], Draws(torch.randn(1, 2, 4, 8)))
    found, names = [output.loss.grad_fn], set()
    while found:
        node = found.pop()
        names.add(node.name())
        found += [following for following, _ in node.next_functions if following is not None]
    assert "ReluBackward0" in names and not any("CopySlices" in name for name in names)
