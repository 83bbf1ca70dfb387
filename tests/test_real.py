"""The chain on real photographs with real weights: environment variables say where they are."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CPU, from_environment

from mmqsa.config.workflow import Config
from mmqsa.data.voc import VocFolder
from mmqsa.discover import load
from mmqsa.evaluation.baselines import lost, score_baseline
from mmqsa.evaluation.controls import score_controls
from mmqsa.evaluation.evaluate import evaluate
from mmqsa.evaluation.metrics import GroundTruth, image_metrics
from mmqsa.evaluation.premise import measure_premise
from mmqsa.features.backbone import load_backbone
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract
from mmqsa.training.loop import train
from mmqsa.training.run import Run

pytestmark = pytest.mark.realdata
IMAGES = 40  # of each split: a minute, not ten
BACKBONES = {  # variable with the path of its weights -> name, px a side, features
    "MMQSA_WEIGHTS": ("vit_tiny_patch16_224", 320, 192),
    "MMQSA_WEIGHTS_VITS14": ("vit_small_patch14_dinov2.lvd142m", 280, 384),
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A VOC folder of links to a few of the real photographs."""
    voc = VocFolder.find(from_environment("MMQSA_VOC"))
    few = tmp_path_factory.mktemp("few") / "VOC2012"
    (few / "ImageSets/Segmentation").mkdir(parents=True)
    for folder in ("JPEGImages", "SegmentationClass"):
        (few / folder).symlink_to((voc.path / folder).resolve())
    for split in ("train", "val"):
        ids = voc.ids(split)[:IMAGES]
        (few / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(ids) + "\n")
    return VocFolder(few)


@pytest.fixture(scope="module", params=BACKBONES)
def real_config(request):
    name, side, dim = BACKBONES[request.param]
    weights = from_environment(request.param)
    slots = {"num_heads": 4, "slot_dim": dim, "encoder_dim": 2 * dim, "start": "clustering"}
    return Config.model_validate(
        {
            "dataset": {"name": "photographs", "train_split": "train"},
            "backbone": {"name": name, "weights": weights, "image_size": side},
            "masking": {"strategy": "none"},
            "slots": slots,
            "decoder": {"hidden_dim": 64, "layers": 2, "patches_per_step": 48},
            "training": {
                "steps": 60,
                "batch_size": 8,
                "log_every": 20,
                "schedule": {"kind": "constant", "warmup_steps": 10},
            },
            "matching": {"strategies": ["hungarian", "mask"]},
            "evaluation": {"kmeans_clusters": [2, 3, 7], "seeds": [0]},
        }
    )


@pytest.fixture(scope="module")
def real_caches(tmp_path_factory, photographs, real_config):
    folder = tmp_path_factory.mktemp("real")
    for split in ("train", "val"):
        extract(photographs, split, real_config, folder / f"{split}.h5", CPU)
    return {split: FeatureCache(folder / f"{split}.h5") for split in ("train", "val")}


def values(path, **names):
    table = pd.read_csv(path).query("protocol == 'paper'")
    for name, value in names.items():
        table = table[table[name] == value]
    return table.set_index("metric")["value"]


def test_labels_come_from_the_photographs(real_caches):
    classes, side = real_caches["val"].classes[:], real_caches["val"].side
    assert classes.shape == (IMAGES, side, side) and real_caches["val"].grid == 20
    assert real_caches["val"].instances is None  # this copy of VOC has no SegmentationObject
    assert ((classes > 0) & (classes < 255)).mean() > 0.1


def test_kmeans_on_real_features_beats_the_controls(tmp_path, real_caches, real_config):
    """Two or three clusters of a trained network's keys are objects; a fixed square is not."""
    caches = real_caches["val"], real_caches["train"]
    kmeans = score_baseline("kmeans", *caches, real_config, tmp_path)
    controls = score_controls(real_caches["val"], tmp_path)
    square = values(controls, name="centre square")
    three = values(kmeans, name="k-means, K = 3")
    assert three["mbo_c"] > square["mbo_c"] + 10
    assert three["miou_with_background"] > square["miou_with_background"] + 8


def test_a_ceiling_and_a_supervised_probe(tmp_path, real_caches, real_config):
    """The ceiling is far above; a probe on 40 images is above what looks at none."""
    caches = real_caches["val"], real_caches["train"]
    oracle, probe, kmeans = (
        values(score_baseline(method, *caches, real_config, tmp_path), **names)
        for method, names in (("oracle", {}), ("probe", {}), ("kmeans", {"name": "k-means, K = 3"}))
    )
    assert oracle["mbo_c"] > max(probe["mbo_c"], kmeans["mbo_c"]) + 20
    one = values(score_controls(real_caches["val"], tmp_path), name="one slot")
    assert probe["miou_with_background"] > one["miou_with_background"] + 10


def test_normalised_cuts_find_masks_on_real_features(tmp_path, real_caches, real_config):
    square = values(score_controls(real_caches["val"], tmp_path), name="centre square")
    caches = real_caches["val"], real_caches["train"]
    found = score_baseline("tokencut", *caches, real_config, tmp_path)
    cut = values(found, name="TokenCut, standardised features")
    assert cut["miou_with_background"] > square["miou_with_background"] + 10


def test_the_principal_component_tells_background_from_objects(real_caches):
    """On either backbone, whichever sign the mean has."""
    premise = measure_premise(real_caches["val"], real_caches["train"]).table(0.7)
    area = premise.set_index("score")["auc_per_image"]
    assert area["principal-component"] > 0.8 > area["mean"]


@pytest.fixture(scope="module")
def real_run(tmp_path_factory, real_caches, real_config):
    folder = tmp_path_factory.mktemp("real-run")
    assert train(real_caches["train"], real_config, 0, folder, CPU)["final_loss"] < 1.1
    return folder


def test_a_short_training_finds_objects(tmp_path, real_caches, real_config, real_run):
    run = Run.load(real_run)
    path = evaluate(run, real_caches["val"], real_config, tmp_path, CPU)
    square = values(score_controls(real_caches["val"], tmp_path), name="centre square")
    found = values(path, matching="hungarian", mask_source="attention")
    assert found["mbo_c"] > square["mbo_c"] + 5


def test_discovery_on_whole_photographs(photographs, real_run):
    """Scored at their own size, where the labels were drawn."""
    finder, scores, one_object = load(real_run, "cpu"), [], []
    for image_id in photographs.ids("val"):
        image = photographs.image(image_id)
        truth = GroundTruth(photographs.classes(image_id, image.size), None)
        found = finder(image)
        assert found.labels.shape == image.size[::-1]
        scores.append(image_metrics(found.labels, truth)["paper", "mbo_c"])
        one_object.append(image_metrics(np.ones_like(found.labels), truth)["paper", "mbo_c"])
    assert np.mean(scores) > np.mean(one_object) + 0.1


def test_photographs_at_their_own_size_give_the_boxes_of_a_loop(tmp_path, photographs, real_config):
    """One photograph at a time, padded with zeros after normalisation as LOST's code does."""
    ids = photographs.ids("val")[:8]
    few = tmp_path / "VOC2012"
    (few / "ImageSets/Segmentation").mkdir(parents=True)
    (few / "ImageSets/Segmentation/val.txt").write_text("\n".join(ids))
    (few / "JPEGImages").symlink_to(photographs.path / "JPEGImages")
    dataset = real_config.dataset.model_copy(update={"geometry": "native"})
    config = real_config.model_copy(update={"dataset": dataset})
    extract(VocFolder(few), "val", config, tmp_path / "val.h5", CPU)
    cache, backbone = FeatureCache(tmp_path / "val.h5"), load_backbone(config.backbone)
    mean, std = torch.tensor(backbone.mean), torch.tensor(backbone.std)
    same = []
    for index, image_id in enumerate(ids):
        pixels = torch.from_numpy(np.array(photographs.image(image_id)))
        height, width, _ = pixels.shape
        rows, columns = -(-height // backbone.patch), -(-width // backbone.patch)
        padded = torch.zeros(1, 3, rows * backbone.patch, columns * backbone.patch)
        padded[0, :, :height, :width] = ((pixels / 255 - mean) / std).permute(2, 0, 1)
        features = backbone.features(padded)[0].numpy()
        found = cache.of_image(index).astype(np.float32)
        assert np.linalg.norm(found - features) < 0.01 * np.linalg.norm(features)
        boxes = [lost(one, (rows, columns))[1].tolist() for one in (found, features)]
        same.append(boxes[0] == boxes[1])
    assert np.mean(same) > 0.8  # a patch on the edge of a threshold may fall to either side
