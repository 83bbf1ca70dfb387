import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import CPU

from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.evaluation.baselines import kmeans_masks, score_kmeans
from mmqsa.evaluation.controls import control_maps, score_controls
from mmqsa.evaluation.evaluate import evaluate
from mmqsa.evaluation.metrics import GroundTruth, image_metrics
from mmqsa.evaluation.scoring import label_maps
from mmqsa.features.extract import extract
from mmqsa.features.store import FeatureCache
from mmqsa.training.run import Run


@pytest.fixture(scope="module")
def scored(tmp_path_factory, run_folder, caches, settings):
    out = tmp_path_factory.mktemp("metrics")
    cache = FeatureCache(caches["val"])
    evaluate(Run.load(run_folder), cache, settings, out, CPU, with_label_maps=True)
    return out


def test_label_maps_equal_plain_upsampling():
    masks = torch.rand(3, 6, 49, generator=torch.Generator().manual_seed(0))
    plain = F.interpolate(masks.view(3, 6, 7, 7), size=(50, 50), mode="bilinear").argmax(dim=1)
    assert (label_maps(masks, 50) == plain.numpy()).mean() > 0.9999


def test_metrics_have_every_matching_and_source(scored):
    metrics = pd.read_csv(scored / "scenes-val.csv")
    assert list(metrics) == [
        "matching",
        "mask_source",
        "eval_seed",
        "protocol",
        "metric",
        "value",
        "n_images",
    ]
    assert set(metrics["matching"]) == {"hungarian", "greedy", "unaligned", "none"}
    assert set(metrics["mask_source"]) == {"decoder", "attention"}
    assert set(metrics[["protocol", "metric"]].itertuples(index=False, name=None)) == {
        ("paper", "corloc"),
        ("paper", "miou_with_background"),
        ("paper", "mbo_c"),
        ("dinosaur", "fg_ari"),
        ("dinosaur", "mbo_i"),
        ("dinosaur", "miou"),
        ("dinosaur", "mbo_c"),
    }
    assert metrics["value"].between(-100, 100).all() and (metrics["n_images"] == 6).all()


def test_means_are_those_of_the_images(scored):
    metrics = pd.read_csv(scored / "scenes-val.csv")
    images = pd.read_csv(scored / "scenes-val-per_image.csv")
    group = images[(images["matching"] == "greedy") & (images["mask_source"] == "decoder")]
    row = metrics.query("matching == 'greedy' and mask_source == 'decoder' and metric == 'corloc'")
    assert row["value"].item() == pytest.approx(100 * group["paper/corloc"].mean(), abs=1e-3)


def test_written_label_maps_are_what_was_scored(scored, caches):
    cache, images = FeatureCache(caches["val"]), pd.read_csv(scored / "scenes-val-per_image.csv")
    with h5py.File(scored / "label_maps.h5") as file:
        assert [name.decode() for name in file["image_id"]] == cache.ids
        for source in ("decoder", "attention"):
            rows = images[(images["matching"] == "hungarian") & (images["mask_source"] == source)]
            for index, value in enumerate(rows["paper/mbo_c"]):
                truth = GroundTruth(cache.classes[index], None)
                found = image_metrics(file[f"slots_{source}"][index], truth)
                assert found["paper", "mbo_c"] == pytest.approx(value, abs=1e-5)


def test_evaluation_is_deterministic(tmp_path, scored, run_folder, caches, settings):
    evaluate(Run.load(run_folder), FeatureCache(caches["val"]), settings, tmp_path, CPU)
    for name in ("scenes-val.csv", "scenes-val-per_image.csv"):
        assert (tmp_path / name).read_bytes() == (scored / name).read_bytes()


def test_a_cache_of_another_backbone_is_refused(tmp_path, run_folder, voc_root, settings):
    other = settings.model_copy(
        update={"backbone": settings.backbone.model_copy(update={"seed": 5})}
    )
    extract(VocFolder.find(voc_root), "val", other, tmp_path / "val.h5", CPU)
    with pytest.raises(InputError, match=r"val.h5: made with weights_sha256"):
        evaluate(Run.load(run_folder), FeatureCache(tmp_path / "val.h5"), other, tmp_path, CPU)


def test_controls_look_at_no_image(tmp_path, caches):
    maps = control_maps(320)
    assert (maps["centre square"] == 1).sum() == 240 * 240
    assert [len(np.unique(found)) for found in maps.values()] == [1, 2, 4, 6, 9]
    metrics = pd.read_csv(score_controls(FeatureCache(caches["val"]), tmp_path))
    assert set(metrics["name"]) == set(maps)
    one = metrics.query("name == 'one slot' and metric == 'mbo_c' and protocol == 'paper'")
    classes = FeatureCache(caches["val"]).classes[:]
    areas = []
    for labels in classes:
        valid = labels[labels != 255]
        areas.append(np.mean([(valid == c).mean() for c in np.unique(valid[valid > 0])]))
    assert one["value"].item() == pytest.approx(100 * np.mean(areas), abs=1e-3)


def test_kmeans_finds_separate_clusters_and_is_seeded(tmp_path, caches, settings):
    centres = np.array([[0, 0], [9, 0], [0, 9]], np.float32)
    keys = centres[np.arange(30) % 3] + np.random.default_rng(0).normal(0, 0.1, (30, 2))
    masks = kmeans_masks(keys.astype(np.float32), 3, 0)
    assert masks.shape == (3, 30) and (masks.sum(axis=0) == 1).all()
    assert sorted(np.unique(masks.argmax(axis=0)[:3])) == [0, 1, 2]
    for name in ("a", "b"):
        score_kmeans(
            FeatureCache(caches["val"]), FeatureCache(caches["train"]), settings, tmp_path / name
        )
    first, second = (tmp_path / name / "scenes-val-kmeans.csv" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert set(pd.read_csv(first)["name"]) == {"k-means, K = 2", "k-means, K = 4"}


def test_an_unlabelled_cache_cannot_be_scored(tmp_path, own_voc, settings):
    for folder in ("SegmentationClass", "SegmentationObject"):
        for path in (own_voc / folder).glob("*.png"):
            path.unlink()
    extract(VocFolder.find(own_voc), "val", settings, tmp_path / "val.h5", CPU)
    with pytest.raises(InputError, match="has no label maps, so nothing can be scored"):
        score_controls(FeatureCache(tmp_path / "val.h5"), tmp_path)
