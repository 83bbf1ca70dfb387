"""Photographs at their own size, against a plain loop over single photographs."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import CPU
from PIL import Image

from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.evaluation.baselines import lost, score_baseline, tokencut
from mmqsa.evaluation.controls import score_controls
from mmqsa.evaluation.draws import image_draws
from mmqsa.evaluation.evaluate import evaluate, predictions
from mmqsa.evaluation.label_maps import baseline_label_maps, control_label_maps, run_label_maps
from mmqsa.evaluation.labelled_images import LabelledFolder
from mmqsa.evaluation.prediction_files import open_predictions
from mmqsa.evaluation.score import method_record, score_predictions
from mmqsa.features.backbone import load_backbone
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract
from mmqsa.paths import Paths
from mmqsa.training.run import Run

HUNGARIAN = {"matching": {"strategies": ["hungarian"]}}


@pytest.fixture(scope="module")
def native(tmp_path_factory, voc_root, config):
    """The photographs of val at their own size."""
    dataset = config.dataset.model_copy(update={"geometry": "native"})
    path = tmp_path_factory.mktemp("native") / "val.h5"
    own = config.model_copy(update={"dataset": dataset})
    extract(VocFolder.find(voc_root), "detection-val", own, path, CPU)
    return FeatureCache(path)


def iou(one, other):
    """Of two boxes x0 y0 x1 y1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)


@pytest.mark.parametrize("name, method", [("lost", lost), ("tokencut", tokencut)])
def test_boxes_are_those_of_single_photographs(
    tmp_path, native, caches, config, voc_root, name, method
):
    """Through a backbone of its size alone, padded, boxes in px and clipped to the photograph."""
    voc, backbone, hits = VocFolder.find(voc_root), load_backbone(config.backbone), []
    for image_id in native.ids:
        pixels = np.asarray(voc.image(image_id))
        height, width, _ = pixels.shape
        rows, columns = -(-height // 16), -(-width // 16)
        image = np.full((16 * rows, 16 * columns, 3), 128, np.uint8)
        image[:height, :width] = pixels
        normalised = (torch.tensor(image / 255).float().permute(2, 0, 1)[None] - 0.5) / 0.5
        features = backbone.features(normalised)[0].half().float().numpy()
        (box,) = 16 * method(features, (rows, columns))[1]
        box = [box[0], box[1], min(box[2], width), min(box[3], height)]
        hits.append(any(iou(box, true) > 0.5 for true in voc.boxes(image_id)))
    path = score_baseline(name, native, FeatureCache(caches["train"]), config, tmp_path)
    assert path.name == f"scenes-detection-val-native-{name}.csv"
    per_image = pd.read_csv(path.with_name(f"{path.stem}-per_image.csv.gz"))
    found = per_image[per_image["name"].str.contains("raw")].set_index("image_id")
    assert found["boxes/corloc_one_box"].reindex(native.ids).tolist() == hits
    metrics = pd.read_csv(path)
    assert set(metrics["protocol"]) == {"boxes", "single"}
    one = metrics.query("protocol == 'boxes' and metric == 'corloc_one_box'")
    raw = one.loc[one["name"].str.contains("raw"), "value"].item()
    assert raw == pytest.approx(100 * np.mean(hits), abs=1e-3)


def test_every_baseline_but_the_oracle(tmp_path, native, caches, config):
    train = FeatureCache(caches["train"])
    for name in ("kmeans", "normalised-cut", "probe"):
        table = pd.read_csv(score_baseline(name, native, train, config, tmp_path))
        assert set(table["n_images"]) == {6}
    with pytest.raises(InputError, match="holds photographs at their own size"):
        score_baseline("oracle", native, train, config, tmp_path)
    by_position = config.changed("test", {"features": {"standardise": "position"}})
    with pytest.raises(InputError, match=r"features.standardise: position has a mean for each"):
        score_baseline("lost", native, train, by_position, tmp_path)


def test_controls_are_those_of_the_photographs_without_a_backbone(tmp_path, native, voc_root):
    voc = VocFolder.find(voc_root)
    squashed, own = (
        LabelledFolder(voc, split, "scenes", kind, 96)
        for split, kind in (("detection-train", "squash"), ("detection-val", "native"))
    )
    of_cache = score_controls(native, tmp_path / "cache", squashed)
    of_folder = score_controls(own, tmp_path / "folder", squashed)
    tables = [
        pd.read_csv(path).query("protocol == 'boxes'").reset_index(drop=True)
        for path in (of_cache, of_folder)
    ]
    kinds = [
        dict(part.split("=") for part in table.pop("labels_sha256")[0].split()) for table in tables
    ]
    assert set(kinds[0]) == {"boxes"} < set(kinds[1])  # label maps are the folder's alone
    assert kinds[0]["boxes"] == kinds[1]["boxes"]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0].query("name == 'best fixed box'")["value"].max() > 0
    fitted_to_native = score_controls(native, tmp_path / "own", native)
    assert "best fixed box" in set(pd.read_csv(fitted_to_native)["name"])


def test_slot_attention_sees_a_photograph_by_itself(tmp_path, native, run_folder, config):
    run, scored = Run.load(run_folder), config.changed("test", HUNGARIAN)
    found = {}
    for indices, maps, names in predictions(run, native, scored, CPU, ["hungarian"], [0]):
        assert names["mask_source"] == "attention"
        found |= dict(zip(indices, maps, strict=True))
    assert sorted(found) == list(range(6))
    model = Run.load(run_folder).model
    mean, scale = model.feature_mean[:1], model.feature_scale[:1]
    for index, image_id in enumerate(native.ids):
        rows, columns = native.grid_of(index)
        features = torch.from_numpy(native.of_image(index)).float()[None]
        noise, reference = image_draws(model, [image_id], 0)
        model.feature_mean = mean.expand(rows * columns, -1).clone()
        model.feature_scale = scale.expand(rows * columns, -1).clone()
        with torch.inference_mode():
            masks = model.segment(features, noise, "hungarian", ["attention"], reference)
        square = masks["attention"].unflatten(2, (rows, columns))
        plain = F.interpolate(square, scale_factor=16, mode="bilinear").argmax(dim=1)[0]
        width, height = native.size(index)
        assert found[index].shape == (height, width)
        assert (found[index] == plain[:height, :width].numpy()).mean() > 0.999
    evaluate(run, native, scored, tmp_path, CPU)
    metrics = pd.read_csv(tmp_path / "scenes-detection-val-native.csv")
    assert set(metrics["mask_source"]) == {"attention"}
    assert run.model.feature_mean.shape == (36, 192)  # the run itself stays as it is


def test_predictions_of_other_code_are_scored_as_on_the_photographs(tmp_path, native, voc_root):
    """Maps of half the size of each photograph, which such a cache knows."""
    voc, maps = VocFolder.find(voc_root), tmp_path / "maps"
    maps.mkdir()
    for image_id in native.ids:
        width, height = voc.size(image_id)
        x0, y0, x1, y1 = (voc.boxes(image_id)[0] / 2).astype(int)
        labels = np.zeros((-(-height // 2), -(-width // 2)), np.uint8)
        labels[y0:y1, x0:x1] = 1
        Image.fromarray(labels).save(maps / f"{image_id}.png")
    found = []
    for labels in (native, LabelledFolder(voc, "detection-val", "scenes", "native", 96)):
        results = Paths(tmp_path / type(labels).__name__)
        opened, record = open_predictions(maps, labels.ids), method_record(results, "mine")
        rows = score_predictions(labels, [opened], record, results).rows
        found.append([row for row in rows if row.protocol == "boxes"])
    assert found[0] == found[1] and found[0][0].mean > 50


@pytest.mark.faults
def test_what_a_photograph_of_its_own_size_has_not(tmp_path, native, run_folder, caches, config):
    run, train = Run.load(run_folder), FeatureCache(caches["train"])
    decoder = config.changed("test", {"evaluation": {"mask_sources": ["decoder"]}, **HUNGARIAN})
    with pytest.raises(InputError, match=r"mask_sources: a decoder has positions .* add attention"):
        evaluate(run, native, decoder, tmp_path, CPU)
    for write in (
        lambda: run_label_maps(run, native, config, tmp_path, CPU),
        lambda: baseline_label_maps("lost", native, train, config, tmp_path),
        lambda: control_label_maps(native, tmp_path, None, 4, [0]),
    ):
        with pytest.raises(InputError, match="holds photographs at their own size"):
            write()
    assert not list(tmp_path.iterdir())


@pytest.mark.faults
def test_photographs_without_boxes_are_refused(tmp_path, native, caches, config):
    path = tmp_path / "val.h5"
    path.write_bytes(native.path.read_bytes())
    with h5py.File(path, "a", locking=False) as file:
        del file["boxes"], file["box_image"]
    with pytest.raises(InputError, match="has no boxes, and photographs without label maps are"):
        score_baseline("lost", FeatureCache(path), FeatureCache(caches["train"]), config, tmp_path)


@pytest.mark.faults
def test_features_of_another_network_are_refused(tmp_path, native, caches, config):
    path = tmp_path / "val.h5"
    path.write_bytes(native.path.read_bytes())
    with h5py.File(path, "a", locking=False) as file:
        attributes = json.loads(file.attrs["attributes"]) | {"weights_sha256": "0" * 64}
        file.attrs["attributes"] = json.dumps(attributes)
    with pytest.raises(InputError, match="made with weights_sha256"):
        score_baseline("lost", FeatureCache(path), FeatureCache(caches["train"]), config, tmp_path)
