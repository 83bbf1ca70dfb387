"""An image's masks depend on its id and the evaluation seed, and on nothing else."""

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from mmqsa.data.voc import VocFolder
from mmqsa.evaluation.draws import image_draws
from mmqsa.evaluation.evaluate import evaluate
from mmqsa.evaluation.label_maps import run_label_maps
from mmqsa.evaluation.pictures import pictures
from mmqsa.features.cache import FeatureCache
from mmqsa.training.run import Run

CPU = torch.device("cpu")


def scored(config, run_folder, caches, out, batch_size):
    evaluation = {"batch_size": batch_size, "seeds": [0]}
    changed = config.changed(
        "test", {"evaluation": evaluation, "matching": {"strategies": ["hungarian"]}}
    )
    run, cache = Run.load(run_folder), FeatureCache(caches["val"])
    evaluate(run, cache, changed, out, CPU)
    run_label_maps(run, cache, changed, out, CPU)
    return out


def test_an_image_draws_the_same_in_any_company(run_folder):
    model = Run.load(run_folder).model
    noise, reference = image_draws(model, ["a", "b", "c"], seed=3)
    assert noise.shape == (3, 3, 4, 16) and reference.shape == (3,)
    alone, head = image_draws(model, ["b"], seed=3)
    assert torch.equal(alone[:, 0], noise[:, 1]) and head[0] == reference[1]
    assert not torch.equal(alone, image_draws(model, ["b"], seed=4)[0])
    assert not torch.equal(noise[:, 0], noise[:, 1])
    many, heads = image_draws(model, list(map(str, range(300))), num_slots=2)
    assert many.shape[2] == 2 and set(heads.tolist()) == {0, 1, 2}
    assert abs(many.mean()) < 0.02 and abs(many.std() - 1) < 0.02


def test_the_batch_size_changes_nothing(config, run_folder, caches, tmp_path):
    one, all_ = (scored(config, run_folder, caches, tmp_path / str(n), n) for n in (1, 64))
    name = "scenes-val-label_maps.h5"
    with h5py.File(one / name) as first, h5py.File(all_ / name) as second:
        for source in ("hungarian/decoder", "hungarian/attention"):
            same = first[source][:] == second[source][:]
            assert same.mean() > 0.999  # but for rounding
    first, second = (pd.read_csv(folder / "scenes-val.csv") for folder in (one, all_))
    np.testing.assert_allclose(first["value"], second["value"], atol=0.2)


def test_pictures_show_the_masks_that_are_scored(config, run_folder, caches, voc_root, tmp_path):
    out, cache = scored(config, run_folder, caches, tmp_path, 4), FeatureCache(caches["val"])
    chosen = cache.ids[1::2]
    drawn = pictures(Run.load(run_folder), cache, VocFolder.find(voc_root), chosen)
    table = pd.read_csv(out / "scenes-val-per_image.csv.gz")
    scores = table[table["mask_source"] == "attention"].set_index("image_id")["paper/mbo_c"]
    with h5py.File(out / "scenes-val-label_maps.h5") as file:
        for picture in drawn:
            maps = file["hungarian/attention"][cache.ids.index(picture.image_id)]
            assert np.mean(maps == picture.merged["attention"]) > 0.999
            assert picture.score == pytest.approx(scores[picture.image_id], abs=2e-3)
