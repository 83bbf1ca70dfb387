"""COCO's layout, on a small folder in its format."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from project import ARGUMENTS, copy_project, snakemake
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO

from mmqsa.config.data import DatasetConfig
from mmqsa.data.coco import CocoFolder, _index
from mmqsa.data.download import RECEIPT, download
from mmqsa.data.layouts import open_folder
from mmqsa.errors import InputError
from mmqsa.evaluation.controls import score_controls
from mmqsa.evaluation.evaluate import evaluate
from mmqsa.evaluation.pictures import ranked_images
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract
from mmqsa.training.loop import train
from mmqsa.training.run import Run

WIDTH, HEIGHT = 120, 100


def square(x, y, side):
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def annotation(key, image, category, segmentation, crowd=0):
    shape = segmentation
    if isinstance(shape, list):
        shape = run_lengths.merge(run_lengths.frPyObjects(shape, HEIGHT, WIDTH))
    else:
        shape = run_lengths.frPyObjects(shape, HEIGHT, WIDTH)
    return {
        "id": key,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": crowd,
        "area": float(run_lengths.area(shape)),
        "bbox": run_lengths.toBbox(shape).tolist(),
    }


def write_split(root, split, first, count):
    """Images with a large object, a small one on it, and a crowd; the last has none."""
    rng = np.random.default_rng(first)
    folder = root / f"{split}2017"
    folder.mkdir(parents=True)
    images, annotations = [], []
    crowd = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    crowd[:, 95:] = 1
    counts = [len(run) for run in np.split(crowd.T.ravel(), [95 * HEIGHT])]
    for key in range(first, first + count):
        name = f"{key:012d}.jpg"
        pixels = rng.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        pixels[10:70, 20:80] += 150
        Image.fromarray(pixels).save(folder / name, quality=95)
        images.append({"id": key, "file_name": name, "width": WIDTH, "height": HEIGHT})
        if key == first + count - 1:
            continue
        annotations += [
            annotation(10 * key, key, 44, [square(40, 30, 20)]),
            annotation(10 * key + 1, key, 67, [square(20, 10, 60)]),
            annotation(10 * key + 2, key, 44, {"counts": counts, "size": [HEIGHT, WIDTH]}, crowd=1),
        ]
    (root / "annotations").mkdir(exist_ok=True)
    # COCO's category ids have gaps: of these three 67 is the third.
    categories = [{"id": key, "name": str(key)} for key in (1, 44, 67)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def coco_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    write_split(root, "train", 100, 6)
    write_split(root, "val", 7, 4)
    return root


def test_labels_are_those_of_pycocotools(coco_root):
    folder = open_folder(coco_root)
    assert isinstance(folder, CocoFolder) and len(folder.photographs()) == 10
    assert folder.ids("val") == [f"{key:012d}" for key in (7, 8, 9, 10)]
    assert folder.ids("all-but-val") == folder.ids("train") and len(folder.ids("train")) == 6
    image_id = folder.ids("val")[0]
    assert folder.image(image_id).size == (WIDTH, HEIGHT)
    classes, instances = (
        make(image_id, (WIDTH, HEIGHT)) for make in (folder.classes, folder.instances)
    )
    oracle = COCO(coco_root / "annotations/instances_val2017.json")
    small, large, crowd = (
        oracle.annToMask(one).astype(bool) for one in oracle.loadAnns([70, 71, 72])
    )
    assert (classes[small] == 2).all() and (instances[small] == 1).all()  # on top
    assert (classes[large & ~small] == 3).all() and (instances[large & ~small] == 2).all()
    assert (classes[crowd] == 255).all() and (instances[crowd] == 255).all()
    nothing = ~(small | large | crowd)
    assert (classes[nothing] == 0).all() and (instances[nothing] == 0).all()
    np.testing.assert_allclose(folder.boxes(image_id), [[40, 30, 60, 50], [20, 10, 80, 70]])


def test_an_image_without_objects_is_all_background(coco_root):
    folder = CocoFolder.find(coco_root)
    last = folder.ids("val")[-1]
    assert not folder.classes(last, (WIDTH, HEIGHT)).any()
    assert folder.boxes(last).shape == (0, 4)


def test_from_photographs_to_metrics(coco_root, config, tmp_path):
    own = config.model_copy(
        update={"dataset": config.dataset.model_copy(update={"kind": "coco", "name": "coco2017"})}
    )
    folder, device = open_folder(coco_root), torch.device("cpu")
    for split in ("train", "val"):
        extract(folder, split, own, tmp_path / f"{split}.h5", device)
    cache = FeatureCache(tmp_path / "val.h5")
    assert cache.attributes["num_classes"] == 80
    assert set(np.unique(cache.classes[:])) == {0, 2, 3, 255}
    train(FeatureCache(tmp_path / "train.h5"), own, 0, tmp_path / "run", device)
    matching = own.matching.model_copy(update={"strategies": ["hungarian"]})
    scored = own.model_copy(update={"matching": matching})
    path = evaluate(Run.load(tmp_path / "run"), cache, scored, tmp_path / "metrics", device)
    text = path.read_text()
    assert {"corloc", "mbo_c", "mbo_i", "fg_ari"} <= set(text.replace("\n", ",").split(","))
    assert "nan" not in text.lower()
    chosen = ranked_images(path.with_name(f"{path.stem}-per_image.csv.gz"), 3)
    assert len(chosen) == 3 and set(chosen) < set(cache.ids)  # text, zeros and all
    score_controls(cache, tmp_path / "controls", FeatureCache(tmp_path / "train.h5"), 4)


@pytest.mark.parametrize("as_", ["archives", "folder"])
def test_downloaded_or_linked(coco_root, tmp_path, as_):
    served, archives = tmp_path / "served", {}
    for name in ("train2017", "val2017", "annotations"):
        path = shutil.make_archive(str(served / "zips" / name), "zip", coco_root, name)
        with open(path, "rb") as file:
            archives[f"zips/{name}.zip"] = hashlib.file_digest(file, "md5").hexdigest()
    source = f"file://{served}" if as_ == "archives" else str(coco_root)
    root = tmp_path / "out"
    download(DatasetConfig(kind="coco", sources=[source], archives=archives), root)
    assert open_folder(root).ids("val") == open_folder(coco_root).ids("val")
    assert json.loads((root / RECEIPT).read_text())["photographs"] == 10
    assert (root / "coco").is_symlink() == (as_ == "folder")


@pytest.mark.faults
def test_what_is_wrong_is_named(coco_root, tmp_path):
    with pytest.raises(InputError, match="unknown split 'trainaug'; expected train or val"):
        CocoFolder(coco_root).ids("trainaug")
    with pytest.raises(InputError, match=r"no VOC2012 folder here.*no COCO 2017 folder here"):
        open_folder(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val2017.json").write_text('{"images": [')
    with pytest.raises(InputError, match=r"instances_val2017.json: not COCO instances"):
        CocoFolder.find(tmp_path).ids("val")
    with pytest.raises(InputError, match="is for 120x100 px, but the photograph is 60x50"):
        CocoFolder(coco_root).classes(CocoFolder(coco_root).ids("val")[0], (60, 50))


@pytest.mark.faults
def test_a_photograph_that_is_gone_is_named_at_its_own_place(tmp_path, coco_root):
    """With the json that names it; what the line says then works."""
    root = tmp_path / "coco"
    shutil.copytree(coco_root, root)
    folder, path = CocoFolder(root).of_split("val"), root / "val2017/000000000007.jpg"
    ids, kept = folder.ids("val"), path.read_bytes()
    path.unlink()
    said = r"val2017/0+7.jpg: missing, but annotations/instances_val2017.json names it; restore"
    with pytest.raises(InputError, match=said):
        folder.check(ids)
    path.write_bytes(kept)
    folder.check(ids)
    path.unlink()
    json_path = root / "annotations/instances_val2017.json"
    content = json.loads(json_path.read_text())
    content["images"] = [one for one in content["images"] if one["id"] != 7]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 7]
    json_path.write_text(json.dumps(content))
    _index.cache_clear()
    folder.check(folder.ids("val"))


@pytest.mark.workflow
def test_the_pipeline_on_coco(coco_root, tmp_path):
    """Linked by rule, then to a table and a figure of images."""
    project = copy_project(tmp_path / "project")
    tables = yaml.safe_load((project / "config/tables.yaml").read_text())["tables"]
    changes = {
        "dataset": {
            **{"kind": "coco", "name": "coco2017", "root": "resources/coco2017"},
            **{"sources": [str(coco_root)], "train_split": "train"},
        },
        "results": "results/coco2017",
        "grid": ["full"],
        "seeds": [0],
        "matching": {"strategies": ["hungarian"]},
        "evaluation": {"baselines": ["oracle"]},
        "tables": {name: None for name in tables if name not in ("masking", "sizes")},
    }
    (project / "coco.yaml").write_text(yaml.safe_dump(changes))
    results = Path("results/coco2017")
    made = [results / name for name in ("tables/masking.md", "figures/showcase-heads.png")]
    snakemake(project, *ARGUMENTS, "coco.yaml", "--", *made)
    results = project / results
    scored = pd.read_csv(results / "runs/full/seed0/metrics/coco2017-val.csv")
    assert set(scored["protocol"]) == {"paper", "dinosaur", "spot"}
    assert scored["value"].notna().all()
    best = pd.read_csv(results / "controls/coco2017-val-oracle.csv")
    # The truth at the grid finds an object in every image that has one.
    assert (best.loc[best["metric"] == "corloc", "value"] == 100).all()
    assert set(best.loc[best["metric"] == "corloc", "n_images"]) == {3}
    assert "one training seed each" in (results / "tables/masking.md").read_text()
    assert (results / "figures/showcase-heads.png").stat().st_size > 5000
