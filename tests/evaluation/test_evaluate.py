import shutil
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import CPU

from mmqsa.config.choices import MatchingName
from mmqsa.config.evaluation import FusionConfig, SimilarityConfig, SweepConfig
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.evaluation.controls import score_controls
from mmqsa.evaluation.evaluate import evaluate, score_snapshots, sweep
from mmqsa.evaluation.scoring import label_maps
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract
from mmqsa.training.learned_merging import train_merging
from mmqsa.training.loop import train
from mmqsa.training.run import Run

FIRST = "matching == 'hungarian' and eval_seed == 0"


@pytest.fixture(scope="module")
def learned_run(tmp_path_factory, run_folder, caches):
    """The run with a learned similarity and a learned fusion beside it."""
    folder = tmp_path_factory.mktemp("learned") / "run"
    shutil.copytree(run_folder, folder)
    for config in (SimilarityConfig(steps=5, batch_size=4), FusionConfig(steps=5, batch_size=4)):
        train_merging(Run.load(folder), FeatureCache(caches["train"]), config, folder, CPU)
    return folder


@pytest.fixture(scope="module")
def scored(tmp_path_factory, learned_run, caches, config):
    out = tmp_path_factory.mktemp("metrics")
    cache = FeatureCache(caches["val"])
    evaluate(Run.load(learned_run), cache, config, out, CPU)
    return out


def only(config, **evaluation):
    """The config with Hungarian matching alone and ``evaluation`` changed."""
    matching = config.matching.model_copy(update={"strategies": ["hungarian"]})
    evaluation = config.evaluation.model_copy(update=evaluation)
    return config.model_copy(update={"matching": matching, "evaluation": evaluation})


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
        "labels_sha256",
    ]
    sources = metrics.groupby("matching", sort=False)["mask_source"].unique().map(list)
    every = ["decoder", "attention", "decoder-masks"]
    # One head alone is the same whether merged before decoding or after it; a fusion is of slots.
    fewer = {"none": every[:2], "fusion": every[:1]}
    assert sources.to_dict() == dict.fromkeys(get_args(MatchingName), every) | fewer
    assert set(metrics[["protocol", "metric"]].itertuples(index=False, name=None)) == {
        ("paper", "corloc"),
        ("paper", "corloc_one_box"),
        ("paper", "miou_with_background"),
        ("paper", "mbo_c"),
        ("dinosaur", "fg_ari"),
        ("dinosaur", "mbo_i"),
        ("dinosaur", "miou"),
        ("dinosaur", "mbo_c"),
        ("spot", "fg_ari"),
        ("spot", "mbo_i"),
        ("spot", "miou"),
        ("spot", "mbo_c"),
    }
    assert metrics["value"].between(-100, 100).all() and (metrics["n_images"] == 6).all()


def test_single_boxes_are_scored_where_they_are_asked_for(tmp_path, run_folder, caches, config):
    asked = only(config, single_boxes=True, seeds=[0], mask_sources=["attention"])
    run, cache = Run.load(run_folder), FeatureCache(caches["val"])
    metrics = pd.read_csv(evaluate(run, cache, asked, tmp_path, CPU))
    single = metrics.query("protocol == 'single'").set_index("metric")["value"]
    assert list(single.index) == [
        *("corloc_one_box", "corloc_one_box_part"),
        *("corloc_innermost_box", "corloc_innermost_box_part"),
    ]
    plain = metrics.query("protocol == 'paper' and metric == 'corloc_one_box'")["value"]
    assert single["corloc_one_box"] == plain.item()


def test_means_are_those_of_the_images(scored):
    metrics = pd.read_csv(scored / "scenes-val.csv")
    images = pd.read_csv(scored / "scenes-val-per_image.csv.gz")
    one = "matching == 'greedy' and mask_source == 'decoder' and eval_seed == 1"
    row, group = metrics.query(f"{one} and metric == 'corloc'"), images.query(one)
    assert len(group) == 6
    assert row["value"].item() == pytest.approx(100 * group["paper/corloc"].mean(), abs=1e-3)


def test_every_object_is_scored_apart(scored, caches):
    objects = pd.read_csv(scored / "scenes-val-per_object.csv.gz")
    images = pd.read_csv(scored / "scenes-val-per_image.csv.gz")
    assert set(objects["labels"]) == {"class", "instance"}
    assert set(objects["matching"]) == {"hungarian"}
    names = ["image_id", "mask_source"]
    first = images.query(FIRST).set_index(names)
    for labels, metric in (("class", "paper/mbo_c"), ("instance", "dinosaur/mbo_i")):
        mean = objects[objects["labels"] == labels].groupby(names)["iou"].mean()
        pd.testing.assert_series_equal(
            mean, first.loc[mean.index, metric], check_names=False, atol=1e-5, rtol=1e-5
        )
    of_attention = objects.query("labels == 'class' and mask_source == 'attention'")
    labels = FeatureCache(caches["val"]).classes[0]
    valid = labels[labels != 255]
    expected = {label: (valid == label).mean() for label in np.unique(valid[valid > 0])}
    first_image = of_attention["image_id"] == of_attention["image_id"].iloc[0]
    shares = of_attention[first_image].set_index("class")["share"]
    assert shares.to_dict() == pytest.approx(expected, abs=1e-5)


def test_a_sweep_has_the_runs_own_numbers_and_others(tmp_path, scored, run_folder, caches, config):
    swept = only(config, sweep=SweepConfig(num_slots=[2, 4, 9], iterations=[1, 3]))
    path = sweep(Run.load(run_folder), FeatureCache(caches["val"]), swept, tmp_path, CPU)
    table = pd.read_csv(path)
    pairs = table[["num_slots", "iterations"]].drop_duplicates().itertuples(index=False, name=None)
    assert list(pairs) == [(2, 3), (4, 3), (9, 3), (4, 1)]
    names = ["matching", "mask_source", "protocol", "metric"]
    trained = table.query("num_slots == 4 and iterations == 3").set_index(names)["value"]
    assert set(table["matching"]) == {"hungarian", "joined"}
    metrics = pd.read_csv(scored / "scenes-val.csv").query("eval_seed == 0")
    metrics = metrics.set_index(names)["value"]
    pd.testing.assert_series_equal(trained, metrics.loc[trained.index])


def test_snapshots_are_scored_like_the_run(tmp_path, caches, config):
    training = config.training.model_copy(update={"steps": 6, "snapshots": [4, 0]})
    short = config.model_copy(update={"training": training})
    train(FeatureCache(caches["train"]), short, 0, tmp_path, CPU)
    cache, plain = FeatureCache(caches["val"]), only(config)
    rows = pd.read_csv(score_snapshots(tmp_path, cache, plain, tmp_path, CPU))
    assert rows["step"].unique().tolist() == [0, 4, 6]
    assert (rows["images_seen"] == rows["step"] * training.batch_size).all()
    names = ["mask_source", "protocol", "metric"]
    for step in (4, None):
        run = Run.load(tmp_path, step)
        alone = pd.read_csv(evaluate(run, cache, plain, tmp_path / f"alone{step}", CPU))
        first = alone[alone["eval_seed"] == 0].set_index(names)["value"]
        found = rows[rows["step"] == (step or 6)].set_index(names)["value"]
        pd.testing.assert_series_equal(found, first)


def test_a_fusion_has_no_masks_of_attention(tmp_path, learned_run, caches, config):
    asked = config.changed("test", {"matching": {"strategies": ["fusion"]}})
    asked = asked.changed("test", {"evaluation": {"mask_sources": ["attention"]}})
    run, cache = Run.load(learned_run), FeatureCache(caches["val"])
    with pytest.raises(InputError, match="fusion has no masks of its own from attention; add dec"):
        evaluate(run, cache, asked, tmp_path / "none", CPU)


def test_what_is_learned_must_be_there(tmp_path, run_folder, caches, config):
    for matching, command in (("learned", "similarity"), ("fusion", "fusion")):
        asked = config.changed("test", {"matching": {"strategies": ["none", matching]}})
        with pytest.raises(InputError, match=f"matching {matching}: .* run `mmqsa {command}`"):
            evaluate(Run.load(run_folder), FeatureCache(caches["val"]), asked, tmp_path, CPU)
    assert not list(tmp_path.iterdir())


def test_a_run_is_scored_on_other_images_than_it_was_trained_on(
    tmp_path, run_folder, own_voc, config
):
    dataset = config.dataset.model_copy(update={"name": "others"})
    other = config.model_copy(update={"dataset": dataset})
    extract(VocFolder.find(own_voc), "val", other, tmp_path / "val.h5", CPU)
    path = evaluate(
        Run.load(run_folder), FeatureCache(tmp_path / "val.h5"), only(config), tmp_path, CPU
    )
    assert path.name == "others-val.csv"
    assert (pd.read_csv(path)["n_images"] == 2).all()


def test_evaluation_is_deterministic(tmp_path, scored, learned_run, caches, config):
    evaluate(Run.load(learned_run), FeatureCache(caches["val"]), config, tmp_path, CPU)
    for name in ("scenes-val.csv", "scenes-val-per_image.csv.gz", "scenes-val-per_object.csv.gz"):
        assert (tmp_path / name).read_bytes() == (scored / name).read_bytes()


def test_a_cache_of_another_backbone_is_refused(tmp_path, run_folder, voc_root, config):
    other = config.model_copy(update={"backbone": config.backbone.model_copy(update={"seed": 5})})
    extract(VocFolder.find(voc_root), "val", other, tmp_path / "val.h5", CPU)
    with pytest.raises(InputError, match=r"val.h5: made with weights_sha256"):
        cache = FeatureCache(tmp_path / "val.h5")
        evaluate(Run.load(run_folder), cache, only(other), tmp_path, CPU)


def test_an_unlabelled_cache_cannot_be_scored(tmp_path, own_voc, config):
    for folder in ("SegmentationClass", "SegmentationObject"):
        for path in (own_voc / folder).glob("*.png"):
            path.unlink()
    extract(VocFolder.find(own_voc), "val", config, tmp_path / "val.h5", CPU)
    with pytest.raises(InputError, match="has no label maps, so nothing can be scored"):
        score_controls(FeatureCache(tmp_path / "val.h5"), tmp_path)


@pytest.mark.faults
def test_other_scores_are_not_overwritten(run_folder, caches, config, tmp_path):
    run, cache = Run.load(run_folder), FeatureCache(caches["val"])
    path = evaluate(run, cache, only(config), tmp_path, CPU)
    before = {one: one.read_bytes() for one in tmp_path.iterdir()}
    assert evaluate(run, cache, only(config), tmp_path, CPU) == path  # the same
    two = only(config).changed("test", {"evaluation": {"seeds": [5]}})
    with pytest.raises(InputError, match=r"exists and was made otherwise .*it stays"):
        evaluate(run, cache, two, tmp_path, CPU)
    assert {one: one.read_bytes() for one in tmp_path.iterdir()} == before
