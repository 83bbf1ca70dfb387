import torch

from mmqsa.model.learned_similarity import LearnedSimilarity, sinkhorn
from mmqsa.model.matching import align, merge


def test_sinkhorn_is_nearly_doubly_stochastic_and_sharpens_to_a_permutation():
    logits = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(0))
    shared = sinkhorn(logits, 30)
    torch.testing.assert_close(shared.sum(dim=-1), torch.ones(3, 5), atol=1e-3, rtol=0)
    torch.testing.assert_close(shared.sum(dim=-2), torch.ones(3, 5), atol=1e-5, rtol=0)
    order = torch.tensor([2, 0, 1])
    hard = sinkhorn(20 * torch.eye(3)[order], 20)
    torch.testing.assert_close(hard, torch.eye(3)[order], atol=1e-4, rtol=0)


def test_before_learning_it_is_the_hungarian_merge():
    """At a low temperature, on heads that hold the same slots in another order."""
    torch.manual_seed(0)
    slots = torch.randn(4, 1, 5, 16)
    heads = torch.cat([slots[:, :, torch.randperm(5)] for _ in range(3)], dim=1)
    reference = torch.tensor([0, 1, 2, 0])
    soft = LearnedSimilarity(16).soft_merge(heads, reference, 0.01, 20)
    exact = merge(heads, align(heads, reference, "hungarian"))
    torch.testing.assert_close(soft, exact, atol=1e-3, rtol=1e-3)


def test_a_gradient_reaches_the_projection():
    torch.manual_seed(0)
    similarity = LearnedSimilarity(8)
    merged = similarity.soft_merge(torch.randn(2, 3, 4, 8), torch.zeros(2, dtype=int), 0.1, 5)
    merged.square().sum().backward()
    assert similarity.projection.grad.abs().sum() > 0
