"""Label maps as files: of runs, baselines and controls."""

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CPU

from mmqsa.errors import InputError
from mmqsa.evaluation.baselines import score_baseline
from mmqsa.evaluation.controls import score_controls
from mmqsa.evaluation.evaluate import evaluate
from mmqsa.evaluation.label_map_file import LabelMaps
from mmqsa.evaluation.label_maps import (
    baseline_label_maps,
    control_label_maps,
    heads_and_visible,
    run_label_maps,
)
from mmqsa.evaluation.metrics import GroundTruth, image_metrics
from mmqsa.evaluation.scoring import label_maps
from mmqsa.features.cache import FeatureCache
from mmqsa.training.run import Run


@pytest.fixture(scope="module")
def asked(config):
    """Two matchings that need nothing learned, and two evaluation seeds."""
    changes = {"matching": {"strategies": ["hungarian", "none"]}, "evaluation": {"seeds": [1, 0]}}
    return config.changed("test", changes)


def check_scores(maps: LabelMaps, scores: pd.DataFrame, cache: FeatureCache):
    """Every prediction in ``maps`` has the mBO^c that was written when it was scored."""
    assert maps.ids == cache.ids and set(maps.names) == set(scores.index.unique())
    for name, of_name in scores.groupby(level=0):
        assert len(of_name) == len(cache.ids)
        for index, value in enumerate(of_name["paper/mbo_c"]):
            truth = GroundTruth(cache.classes[index], None)
            metrics = image_metrics(maps.arrays[name][index], truth)
            assert metrics["paper", "mbo_c"] == pytest.approx(value, abs=1e-5), name


def test_those_of_a_run_are_what_is_scored_of_it(tmp_path, run_folder, caches, asked):
    run, cache = Run.load(run_folder), FeatureCache(caches["val"])
    maps = LabelMaps(run_label_maps(run, cache, asked, tmp_path, CPU))
    metrics = evaluate(run, cache, asked, tmp_path, CPU)
    scores = pd.read_csv(metrics.with_name("scenes-val-per_image.csv.gz"))
    scores = scores[scores["eval_seed"] == 1]  # the first
    scores.index = scores["matching"] + "/" + scores["mask_source"]
    check_scores(maps, scores, cache)
    assert maps.heads == ["heads/1", "heads/2", "heads/3"]
    assert maps.visible.shape == (6, 36) and set(maps.visible[:].sum(axis=1)) == {11}  # 30 %


def test_the_mean_of_the_matched_heads_is_what_is_merged(tmp_path, run_folder, caches, asked):
    run, cache = Run.load(run_folder), FeatureCache(caches["val"])
    maps = LabelMaps(run_label_maps(run, cache, asked, tmp_path, CPU))
    heads, _ = heads_and_visible(run, cache, slice(0, 6), CPU, seed=1)
    merged = label_maps(heads.mean(dim=1), cache.side)
    assert (merged == maps.arrays["hungarian/attention"][:]).mean() > 0.9999


def test_those_of_a_baseline_are_what_is_scored_of_it(tmp_path, caches, config):
    cache, train = FeatureCache(caches["val"]), FeatureCache(caches["train"])
    maps = LabelMaps(baseline_label_maps("kmeans", cache, train, config, tmp_path))
    path = score_baseline("kmeans", cache, train, config, tmp_path)
    scores = pd.read_csv(path.with_name("scenes-val-kmeans-per_image.csv.gz"))
    first = scores[scores["eval_seed"] == config.evaluation.seeds[0]]
    check_scores(maps, first.set_index("name"), cache)
    assert maps.visible is None and maps.heads == []


def test_those_of_controls_are_what_is_scored_of_them(tmp_path, caches):
    cache, train = FeatureCache(caches["val"]), FeatureCache(caches["train"])
    maps = LabelMaps(control_label_maps(cache, tmp_path, train, 3, [0, 1]))
    path = score_controls(cache, tmp_path, train, 3, [0, 1])
    scores = pd.read_csv(path.with_name("scenes-val-controls-per_image.csv.gz"))
    first = scores[scores["eval_seed"] == 0].set_index("name")
    check_scores(maps, first, cache)


@pytest.mark.faults
def test_those_of_another_run_stay(tmp_path, run_folder, caches, asked):
    run, cache = Run.load(run_folder), FeatureCache(caches["val"])
    path = run_label_maps(run, cache, asked, tmp_path, CPU)
    before = path.read_bytes()
    assert run_label_maps(run, cache, asked, tmp_path, CPU) == path  # the same
    with torch.no_grad():
        run.model.slot_attention.to_value.weight *= -1
    with pytest.raises(InputError, match="exists and was made otherwise"):
        run_label_maps(run, cache, asked, tmp_path, CPU)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


@pytest.mark.faults
@pytest.mark.parametrize(
    "name, values",
    [
        ("hungarian/decoder", np.zeros((2, 4, 4), np.float32)),
        ("hungarian/decoder", np.zeros((3, 4, 4), np.uint8)),
        ("visible", np.zeros((2, 16), np.uint8)),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, name, values):
    path = tmp_path / "val-label_maps.h5"
    with pytest.raises(InputError, match="no such file of label maps; run `mmqsa label-maps`"):
        LabelMaps(path)
    with h5py.File(path, "w") as file:
        file["image_id"] = np.array([b"a", b"b"])
        file[name] = values
    with pytest.raises(InputError, match=rf"not a readable file of label maps \({name} is"):
        LabelMaps(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a readable file of label maps"):
        LabelMaps(path)
