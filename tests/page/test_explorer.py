import base64
import io
import json
import shutil
from functools import partial
from html import escape

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from shown_page import TITLE, score_method

from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.evaluation.label_map_file import PREDICTION, LabelMaps
from mmqsa.features.cache import FeatureCache
from mmqsa.page.build import make_page
from mmqsa.page.explorer import predictors, write_explorer
from mmqsa.paths import Paths, beside, label_maps_path


def received(path):
    """What a file of data hands over."""
    text = path.read_text().strip()
    assert text.startswith("mmqsa.receive(") and text.endswith(")")
    return json.loads(text.removeprefix("mmqsa.receive(").removesuffix(")"))


def labels(png):
    """A label map that stands as text in a file of data: its grey levels."""
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    return np.asarray(image.convert("RGB"))[..., 0]


def test_every_label_map_is_there_as_it_was_predicted(page, spec, results, caches):
    catalogue = received(page / "data/catalogue.js")
    assert [method["id"] for method in catalogue["methods"]] == [
        *("full", "no-masking", "controls", "kmeans"),
    ]
    for method, predictor in zip(catalogue["methods"], predictors(spec, results), strict=True):
        maps = LabelMaps(predictor.maps[0])
        assert {view["id"] for view in method["views"]} == set(maps.names)
        for number, view in enumerate(method["views"]):
            texts = received(page / method["folder"] / f"0/{number}/0.js")
            for index, text in enumerate(texts):
                np.testing.assert_array_equal(labels(text), maps.arrays[view["id"]][index])
        heads = received(page / method["folder"] / "0/heads/0.js")
        assert len(heads) == len(maps.ids) and len(heads[0]["heads"]) == method["heads"]
        if method["id"] == "full":
            np.testing.assert_array_equal(labels(heads[2]["heads"][1]), maps.arrays["heads/2"][2])
            seen = np.array(list(heads[2]["visible"])).astype(int)
            np.testing.assert_array_equal(seen, maps.visible[2])
        assert method["visible"] == (method["id"] == "full")
    truth = received(page / "data/truth/0.js")
    cache = FeatureCache(caches["val"])
    for index, value in enumerate(truth):
        np.testing.assert_array_equal(labels(value["classes"]), cache.classes[index])
        np.testing.assert_array_equal(labels(value["instances"]), cache.instances[index])


def test_metrics_are_those_of_the_images(page, results, spec):
    catalogue = received(page / "data/catalogue.js")
    full = catalogue["methods"][0]
    number = [view["id"] for view in full["views"]].index("hungarian/attention")
    values = received(page / full["folder"] / "0/metrics.js")[number]
    table = pd.read_csv(results.metrics("full", 0, spec.image_set, "per_image"))
    rows = table.query("matching == 'hungarian' and mask_source == 'attention'")
    assert [image["id"] for image in catalogue["images"]] == rows["image_id"].tolist()
    for metric, column in (("mbo_c", "paper/mbo_c"), ("fg_ari", "dinosaur/fg_ari")):
        np.testing.assert_allclose(values[metric], 100 * rows[column], atol=0.0501)
    assert {metric["id"] for metric in catalogue["metrics"]} == set(values)
    assert full["label"] == "Masked" and full["views"][number]["label"] == (
        "hungarian, attention masks"
    )


def test_an_image_says_what_objects_it_has(page, results, spec):
    catalogue = received(page / "data/catalogue.js")
    objects = pd.read_csv(results.metrics("full", 0, spec.image_set, "per_object"))
    rows = objects.query("labels == 'instance' and mask_source == 'attention'")
    for image in catalogue["images"]:
        expected = rows[rows["image_id"] == image["id"]]
        assert [one[0] for one in image["objects"]] == expected["class"].tolist()
        shares = [one[1] for one in image["objects"]]
        assert shares == pytest.approx(expected["share"].tolist(), abs=1e-3)
    assert catalogue["classes"]["1"] == "aeroplane"


def test_a_page_without_photographs_has_masks_alone(results, spec, caches, voc_root, tmp_path):
    bare = spec.model_copy(update={"photographs": False})
    out, cache = tmp_path / "page", FeatureCache(caches["val"])
    folder = VocFolder.find(voc_root)
    make_page(bare, results, out, partial(write_explorer, bare, results, cache, folder))
    assert not (out / "photographs").exists() and (out / "data/catalogue.js").is_file()
    assert not received(out / "data/catalogue.js")["photographs"]
    assert not list((out / "figures").glob("showcase-*"))


@pytest.fixture
def damaged(results, tmp_path):
    """A copy of the results to damage."""
    shutil.copytree(results.results, tmp_path / "results")
    return Paths(tmp_path / "results")


@pytest.fixture
def refused(spec, caches, voc_root, tmp_path):
    """``refused(paths, message)``: no explorer is made, and nothing is written."""

    def check(paths, message, shown=spec, split="val"):
        cache, out = FeatureCache(caches[split]), tmp_path / "page"
        with pytest.raises(InputError, match=message):
            write_explorer(shown, paths, cache, VocFolder.find(voc_root), out)
        assert not out.exists()

    return check


@pytest.mark.faults
def test_files_of_other_images_are_refused(damaged, spec, refused):
    metrics = damaged.metrics("no-masking", 0, spec.image_set)
    path, scores = label_maps_path(metrics), beside(metrics, "per_image")
    refused(damaged, "images of scenes-train, but the page is of scenes-val", split="train")
    ids = LabelMaps(path).ids
    with h5py.File(path, "r+") as file:
        file["image_id"][0] = b"another"
    refused(damaged, f"{path}: of other images than .*val.h5; make it again")
    with h5py.File(path, "r+") as file:
        file["image_id"][0] = ids[0].encode()
        whole = file["none/decoder"][:]
        del file["none/decoder"]
        file["none/decoder"] = whole[:, ::2, ::2]
    refused(damaged, r"none/decoder is \(48, 48\), not \(96, 96\) px; make it again")
    with h5py.File(path, "r+") as file:
        for name in ("hungarian", "none"):
            del file[name]
    refused(damaged, "has nothing that is scored; make it again")
    table = pd.read_csv(scores)
    table.replace(ids[0], "another").to_csv(scores, index=False)
    refused(damaged, f"{scores}: of other images than .*; score them again")
    scores.unlink()
    refused(damaged, f"{scores}: missing; run `mmqsa evaluate`")


@pytest.mark.faults
def test_seeds_with_other_predictions_are_refused(damaged, spec, refused):
    """Folders are numbered alike for every seed: another order would show the wrong masks."""
    shutil.copytree(damaged.run("full", 0), damaged.run("full", 1))
    two = spec.model_copy(update={"settings": {"full": [0, 1]}})
    path = label_maps_path(damaged.metrics("full", 1, spec.image_set))
    with h5py.File(path, "r+") as file:
        del file["hungarian/decoder"]
    refused(damaged, f"{path}: has other predictions than another seed's; make it again", two)


def test_a_page_of_nothing_is_refused(damaged, spec, refused):
    nothing = spec.model_copy(update={"settings": {}, "references": []})
    refused(damaged, "shows no setting and no method; name some in page.settings", nothing)


def test_a_method_of_other_code_has_its_title_source_and_colour(
    damaged, spec, caches, voc_root, tmp_path
):
    """As `mmqsa score` leaves it: a record, scores, and label maps, without its title."""
    score_method(damaged, spec)
    out, cache = tmp_path / "page", FeatureCache(caches["val"])
    writer = partial(write_explorer, spec, damaged, cache, VocFolder.find(voc_root))
    index = make_page(spec, damaged, out, writer)
    (method,) = [one for one in received(out / "data/catalogue.js")["methods"] if one["source"]]
    assert (method["id"], method["kind"], method["label"]) == ("spot", "other", TITLE)
    assert (method["source"], method["colour"]) == ("CVPR 2024", "#1b7837")
    assert [view["id"] for view in method["views"]] == [PREDICTION]
    maps = LabelMaps(label_maps_path(damaged.method(spec.image_set, "spot")))
    np.testing.assert_array_equal(
        labels(received(out / method["folder"] / "0/0/0.js")[1]), maps.arrays[PREDICTION][1]
    )
    text = index.read_text()
    title = escape(TITLE)
    assert f'style="background: #1b7837"></i>{title}' in text and f"{title} (CVPR 2024)" in text
    files = set(spec.files(damaged))
    assert {damaged.methods / "spot.yaml", maps.path} <= files
    maps.path.unlink()
    assert not spec.methods(damaged)  # in tables alone
