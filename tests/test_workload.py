"""Estimates of work, against what PyTorch counts and what a dry run says."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmqsa import workload
from mmqsa.config.data import DatasetConfig
from mmqsa.config.workflow import Config
from mmqsa.evaluation import scoring
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.training.step import make_step


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"decoder": {"patches_per_step": 100}},
        {"decoder": {"kind": "transformer", "hidden_dim": 384, "layers": 4}},
    ],
)
def test_operations_of_a_training_step_are_those_that_pytorch_counts(changes):
    config = Config.model_validate(
        {"slots": {"num_heads": 2}, "training": {"batch_size": 2, "steps": 1}, **changes}
    )
    model = MaskedSlotModel(config.model, 400, 384)
    step = make_step(model, config.training, "fp32", torch.device("cpu"))
    draws = model.draw(2, torch.Generator().manual_seed(0), 1)
    with (
        FlopCounterMode(display=False) as counted,
        sdpa_kernel(SDPBackend.MATH),
    ):  # others: uncounted
        step(torch.randn(2, 400, 384).half(), [0], draws, 1e-4)
    estimate = workload.training(config, 100, gpu=False).flop
    assert estimate == pytest.approx(counted.get_total_flops(), rel=0.05)


def test_several_blocks_make_a_larger_cache_of_no_more_work():
    one, four, early = (
        Config.model_validate({"backbone": {"blocks": blocks}})
        for blocks in ([-1], [-4, -3, -2, -1], [0, 2])
    )
    size = [workload.feature_megabytes(config.backbone, 1000) for config in (one, four, early)]
    assert size[1] == pytest.approx(4 * size[0], rel=0.01)
    work = [workload.extraction(config, 100, gpu=False).flop for config in (one, four, early)]
    assert work[0] == work[1] == 4 * work[2]  # 3 of 12 blocks


def test_memory_grows_with_keys_and_activations():
    paper = Config()
    on_gpu, on_cpu = (workload.training(paper, 15_676, gpu).memory for gpu in (True, False))
    assert 10_000 < on_gpu < 16_000  # keys twice (4.8 GB), libraries, CUDA
    assert on_cpu > on_gpu  # activations of 64 images
    assert workload.training(paper, 118_287, True).memory < 40_000  # keys of COCO are mapped
    coco = Config(dataset=DatasetConfig(kind="coco"))
    voc, annotated = (workload.extraction(own, 118_287, True).memory for own in (paper, coco))
    assert 3_000 < annotated - voc < 5_000  # the instances json, read


def test_memory_of_scoring_grows_with_labels_and_activations():
    rehearsed, paper = Config.model_validate({"decoder": {"hidden_dim": 32}}), Config()
    none, val, coco, more, wide = (
        workload.scoring(config, paper.evaluation, images, False, [], []).memory
        for config, images in (
            *((rehearsed, 0), (rehearsed, 1449), (rehearsed, 5000)),
            *((rehearsed, 118_287), (paper, 1449)),
        )
    )
    assert none + 200 < val < none + 400  # 148 million pixels, 2 bytes each
    assert coco < more < coco + 200  # no more than 600 million are kept
    assert wide > val + 500  # the decoder's
    assert workload.LABELS_KEPT == scoring.KEPT


def test_the_page_asks_for_what_it_took():
    assert 2_167 < workload.page(1449).memory < 2 * 2_167  # MB, docs/scale.md


@pytest.mark.parametrize(
    "kind, split, number",
    [("voc", "all-but-val", 15_676), ("coco", "val", 5_000), ("scenes", "val", 96)],
)
def test_images_of_a_split(kind, split, number):
    assert workload.num_images(DatasetConfig(kind=kind), split) == number


def test_photographs_at_their_own_size_are_more_work():
    """VOC: 500 x 375 px are 24 x 32 patches of 16 px, COCO: 640 x 480 are 30 x 40."""
    paper = Config()
    for kind, patches in (("voc", 768), ("coco20k", 1200)):
        own = workload.at_own_size(paper.backbone, DatasetConfig(kind=kind))
        assert workload.num_patches(own) == pytest.approx(patches, rel=0.05)
        larger = paper.model_copy(update={"backbone": own})
        square, whole = (workload.extraction(one, 100, gpu=True) for one in (paper, larger))
        assert patches / 400 < whole.flop / square.flop < 1.4 * patches / 400
        plain, own_size = (
            workload.reference(paper.backbone, paper.evaluation, 1000, 0, scored).seconds
            for scored in (None, own)
        )
        assert own_size / plain == pytest.approx((patches / 400) ** 2.4, rel=0.15)
