"""The project against benchmarks/reference.py, a plain reading of the paper: same numbers."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CPU, SMALL

import gpu
import gpu_parts
import reference
from mmqsa.config.workflow import Config
from mmqsa.evaluation.metrics import GroundTruth, image_metrics
from mmqsa.evaluation.scoring import label_maps
from mmqsa.model.masked_slot_model import Draws, MaskedSlotModel
from mmqsa.model.matching import align, merge
from publish import publish

BENCHMARKS = Path(reference.__file__).parent


@pytest.fixture
def model() -> MaskedSlotModel:
    torch.manual_seed(0)
    model = MaskedSlotModel(Config.model_validate(SMALL).model, num_patches=36, feature_dim=8)
    model.standardise_by(torch.randn(36, 8), torch.rand(1, 8) + 0.5)
    return model


@pytest.fixture
def keys() -> torch.Tensor:
    return torch.randn(5, 36, 8, generator=torch.Generator().manual_seed(1)).half()


def plain_twin(model, keys):
    """The plain model, once both have the same loss on ``keys`` and their gradients."""
    plain = reference.PlainModel(copy.deepcopy(model))
    noise = torch.randn(3, 5, 4, 16)
    loss, expected = model(keys, [1], Draws(noise[1:2])).loss, plain.loss(keys, 1, noise)
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-5)
    loss.backward()
    expected.backward()
    return plain, dict(plain.model.named_parameters())


def test_loss_and_gradients(model, keys):
    plain, twins = plain_twin(model, keys)
    compared = 0
    for name, parameter in model.named_parameters():
        if name.startswith(("decoder.to_mask", "decoder.to_features")):
            continue  # one layer in the plain model
        wanted = twins[name].grad
        assert (parameter.grad is None) == (wanted is None), name
        if wanted is not None:
            torch.testing.assert_close(parameter.grad, wanted, atol=1e-6, rtol=1e-3)
            compared += 1
    assert compared > 20
    last = torch.cat([model.decoder.to_features.weight.grad, model.decoder.to_mask.weight.grad])
    torch.testing.assert_close(last, plain.last.weight.grad, atol=1e-6, rtol=1e-3)


def test_loss_and_gradients_with_a_transformer(keys):
    torch.manual_seed(0)
    decoder = {"kind": "transformer", "hidden_dim": 12, "layers": 2, "heads": 3}
    config = Config.model_validate(SMALL | {"decoder": decoder})
    model = MaskedSlotModel(config.model, num_patches=36, feature_dim=8)
    _, twins = plain_twin(model, keys)
    for name, parameter in model.decoder.named_parameters():
        wanted = twins[f"decoder.{name}"].grad
        torch.testing.assert_close(parameter.grad, wanted, atol=1e-6, rtol=1e-3)


def test_inference_and_merge(model, keys):
    plain = reference.PlainModel(model)
    noise, chosen = torch.randn(3, 5, 4, 16), torch.tensor([0, 1, 2, 2, 1])
    with torch.inference_mode():
        slots = model.run_heads(keys, noise).slots
        merged = merge(slots, align(slots, chosen, "hungarian"))
        torch.testing.assert_close(merged, plain.merged(keys, noise, chosen), atol=1e-5, rtol=1e-4)
        masks = model.segment(keys, noise, reference=chosen)["decoder"]
        torch.testing.assert_close(masks, plain.decode(merged)[1], atol=1e-5, rtol=1e-4)


def test_label_maps_and_metrics():
    generator = np.random.default_rng(0)
    masks = torch.rand(4, 5, 16, generator=torch.Generator().manual_seed(0))
    maps = label_maps(masks, 32)
    np.testing.assert_array_equal(maps, reference.plain_label_maps(masks, 32))
    for found in maps:
        classes, instances = (
            np.repeat(np.repeat(generator.choice([0, 1, 7, 255], (8, 8)), 4, 0), 4, 1)
            for _ in range(2)
        )
        truth = GroundTruth(
            classes.astype(np.uint8), instances.astype(np.uint8), ["paper", "dinosaur"]
        )
        expected = reference.plain_metrics(found, classes, instances)
        assert image_metrics(found, truth) == pytest.approx(expected, nan_ok=True)


def test_keys_by_a_hook(caches, voc_root, config):
    """The last block's attention and MLP are never run, and not missed."""
    from mmqsa.features.backbone import load_backbone

    changed = config.backbone.model_copy(update={"blocks": [-1]})
    backbone, images = load_backbone(changed), torch.randn(2, 3, 96, 96)
    expected = reference.plain_keys(backbone.network, images, backbone.feature_dim)
    torch.testing.assert_close(backbone.features(images), expected, atol=1e-5, rtol=1e-4)


def run(script, tmp_path, *options):
    command = [sys.executable, BENCHMARKS / script, "--quick", "--out", tmp_path, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_case_of_the_benchmark_runs(tmp_path):
    printed = run("run.py", tmp_path)
    table = pd.read_csv(tmp_path / "ratios.csv")
    assert {"case", "plain_ms", "ours_ms", "ratio", "machine"} <= set(table)
    for part in ("optimiser step", "inference", "all metrics", "extraction", "random batches"):
        assert table["case"].str.contains(part).any()
    assert table["case"].str.startswith("evaluation").sum() == 2
    assert "| masks -> label maps -> all metrics" in printed
    assert (tmp_path / "ratios.md").read_text().count("\n|") == len(table) + 2


@pytest.mark.parametrize(
    "script, rows", [("memory.py", 4), ("scale.py", 3), ("backbones.py", 2), ("power.py", 8)]
)
def test_the_other_benchmarks_run(tmp_path, script, rows):
    run(script, tmp_path)
    assert len(pd.read_csv(tmp_path / Path(script).with_suffix(".csv"))) == rows


@pytest.mark.parametrize("name", ["rates", "training", "extraction", "evaluation", "chain"])
def test_every_part_of_the_gpu_acceptance_runs_on_a_cpu(tmp_path, name):
    part = gpu_parts.Part(CPU, 60, True, tmp_path, tmp_path)
    rows = pd.DataFrame(gpu_parts.PARTS[name](part))
    assert len(rows) and "note" not in rows, rows  # nothing failed or was left out
    assert rows["ms" if name == "rates" else "seconds"].gt(0).all()
    if name == "chain":
        other = rows.set_index("of")["value"].dropna()
        assert other.filter(like="from the GPU's").tolist() == [0, 0]  # both are this CPU


def test_the_gpu_acceptance_keeps_what_it_has_and_says_what_it_skipped(tmp_path):
    run("gpu.py", tmp_path, "--device", "cpu", "--only", "tests", "--note", "on a train")
    text = (tmp_path / "gpu.md").read_text()
    assert "skipped" in text.split("## Tests")[0] and "torch sees no GPU" in text
    assert "- on a train" in text and "- rates: nothing was measured" in text
    assert "recommends nothing" in text and not (tmp_path / "gpu.patch").read_text()


def test_a_row_that_fails_or_comes_late_says_so(tmp_path):
    def fails():
        raise ValueError("no such card")

    named = {"step": "first"}
    part = gpu_parts.Part(CPU, 60, True, tmp_path, tmp_path)
    assert part.row(named, fails) == named | {"note": "failed: ValueError: no such card"}
    late = gpu_parts.Part(CPU, -1, True, tmp_path, tmp_path)
    assert late.row(named, fails) == named | {"note": gpu_parts.NO_TIME}


@pytest.mark.parametrize(
    "graphs, both, kept",
    [(24, 18.7, (True, True)), (19, 18.7, (False, True)), (29, 29, (False,) * 2)],
)
def test_the_plainest_of_the_fastest_is_recommended(graphs, both, kept):
    kinds = pd.DataFrame(
        {
            "kind": ["eager", "graphs", "compile", "both"],
            "official budget, min": [30, graphs, None, both],
            "TFLOP/s": [123.4, 150, None, 256],
        }
    )
    batches = pd.DataFrame(
        {"precision": ["fp32", "fp32", "bf16"], "batch": [8, 32, 64], "VOC, min": [2.0, 1.95, 1.0]}
    )
    chosen = gpu.recommended({"training": kinds, "extraction": batches})
    assert (chosen["training.compile"], chosen["training.cuda_graphs"]) == kept
    assert chosen["backbone.batch_size"] == 8  # the other is no 5 % faster
    text = (BENCHMARKS.parent / "config.yaml").read_text()
    lines = gpu.patch(chosen | {"backbone.batch_size": 77}, text).splitlines()
    added = [line for line in lines if line.startswith("+ ")]
    assert sum("batch_size: 77 " in line for line in added) == 1  # of the backbone alone
    assert any("cuda_graphs: true" in line for line in added) == kept[1]
    assert gpu.patch({}, text) == ""


def test_refinement_is_scored_and_its_numbers_chosen(tmp_path, run_folder, caches, voc_root):
    options = "--run", run_folder, "--features", caches["val"], "--data", voc_root
    run("refine.py", tmp_path, *options)
    table = pd.read_csv(tmp_path / "refine.csv")
    assert len(table) == 8 and (table["n_images"] == 6).all()
    np.testing.assert_allclose(table["after"] - table["before"], table["difference"], atol=1e-3)
    assert table["before"].between(0, 100).all() and (table["difference"] != 0).any()
    assert len(pd.read_csv(tmp_path / "refine-seconds.csv")) == 1
    run("refine.py", tmp_path, *options, "--choose", "--every", "2")
    choice = pd.read_csv(tmp_path / "refine-choice.csv")
    assert len(choice) == 13 and (choice["images"] == 3).all()
    assert choice["mIoU"].nunique() > 3


def test_boundary_f_by_hand():
    from refine import boundary_f

    def labels(first, other=7):
        """Columns of 0 up to ``first``, then of ``other``."""
        return np.where(np.arange(40) < first, 0, other).astype(np.uint8) * np.ones(
            (40, 1), np.uint8
        )

    classes = labels(20)
    assert boundary_f(labels(20, 1), classes) == boundary_f(labels(22, 3), classes) == 1
    assert boundary_f(labels(22, 1).T, classes.T) == 1
    assert boundary_f(labels(23, 1), classes) == 0  # 3 px
    assert boundary_f(labels(40), classes) == 0  # nothing is predicted
    assert np.isnan(boundary_f(classes, labels(40)))  # nothing is true
    assert np.isnan(boundary_f(classes, labels(0, 255)))
    more = labels(20, 1)
    more[:, 30:] = 2  # half of what is predicted is right, and all that is true is found
    assert boundary_f(more, classes) == pytest.approx(2 / 3)
    band = classes.copy()
    band[:, 18:22] = 255
    assert boundary_f(more, band) == pytest.approx(2 / 3)  # the boundary is the band's middle
    assert boundary_f(labels(17, 1), band) == 0
    band[:, 26:40] = 255  # an object that nobody labelled: what is predicted there is not counted
    assert boundary_f(more, band) == 1


def test_rows_are_kept_when_a_later_one_fails(tmp_path):
    def rows():
        yield {"case": "first", "ms": 1.0}
        raise RuntimeError("of the second")

    with pytest.raises(RuntimeError):
        publish("ratios", rows(), "a machine", tmp_path)
    assert pd.read_csv(tmp_path / "ratios.csv")["case"].tolist() == ["first"]


def test_the_released_way_trains_the_backbone_through_keys_and_target():
    import cases

    inputs = cases.Inputs(torch.device("cpu"), batch=1)
    backbone = cases.random_vit()
    before = backbone.network.blocks[0].attn.qkv.weight.clone()
    inputs.plain_step(backbone)()
    assert not torch.equal(before, backbone.network.blocks[0].attn.qkv.weight)
