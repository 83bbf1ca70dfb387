"""Segmentation of images and its files: segmenter.py, output.py, export.py."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from safetensors.torch import load_file, save_file

from mmqsa.config.training import RunConfig
from mmqsa.data.voc import VocFolder
from mmqsa.discover import load, output
from mmqsa.discover import segmenter as segmenter_module
from mmqsa.discover.export import export
from mmqsa.discover.output import discover
from mmqsa.discover.segmenter import BACKBONE, find_objects
from mmqsa.errors import InputError
from mmqsa.evaluation.draws import image_draws
from mmqsa.evaluation.scoring import label_maps
from mmqsa.features import backbone, weights
from mmqsa.features.backbone import load_backbone
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract
from mmqsa.features.weights import backbone_weights
from mmqsa.training.loop import train
from mmqsa.training.run import Run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def segmenter(run_folder):
    return load(run_folder, device="cpu")


@pytest.fixture(scope="module")
def unrefined(run_folder):
    return load(run_folder, device="cpu", refine=False)


@pytest.fixture(scope="module")
def images(voc_root):
    paths = sorted((voc_root / "VOC2012/JPEGImages").glob("*.jpg"))[:4]
    return [Image.open(path).convert("RGB") for path in paths]


def test_objects_of_masks_by_hand():
    """A 4 x 4 grid: slot 0 around, slot 1 a block of 4, slot 2 one patch, slot 3 nothing."""
    won = np.zeros((4, 4), dtype=int)
    won[1:3, 1:3], won[1, 1] = 1, 2
    masks = torch.nn.functional.one_hot(torch.tensor(won.ravel()), 4).T.float() * 0.9 + 0.025
    objects = find_objects(masks, width=4, height=4)
    assert objects.labels.tolist() == [[0, 0, 0, 0], [0, 2, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert objects.areas.tolist() == [12, 3, 1]
    assert objects.boxes.tolist() == [[1, 1, 3, 3], [1, 1, 2, 2]]
    assert objects.scores == pytest.approx([0.925, 0.925])
    assert objects.background_score == pytest.approx(0.925)
    assert objects.masks.shape == (2, 4, 4) and objects.masks.sum() == 4
    large = find_objects(masks, width=4, height=4, smallest=0.1)  # 1 of 16 pixels is less
    assert large.areas.tolist() == [13, 3]
    corners = torch.zeros(2, 4, 4)
    corners[1, 1, 1] = corners[1, 2, 2] = corners[1, 2, 3] = 1  # corners do not connect
    corners[0] = 1 - corners[1]
    assert find_objects(corners.flatten(1), 4, 4).areas.tolist() == [13, 3]
    parts = find_objects(corners.flatten(1), 4, 4, split=True)
    assert parts.areas.tolist() == [13, 2, 1]
    assert parts.boxes.tolist() == [[2, 2, 4, 3], [1, 1, 2, 2]]
    assert find_objects(corners.flatten(1), 4, 4, 0.1, split=True).areas.tolist() == [14, 2]
    alone = find_objects(torch.ones(1, 16), width=7, height=3)
    assert alone.masks.shape == (0, 3, 7) and alone.boxes.shape == (0, 4)


def test_masks_are_those_of_the_pipeline(unrefined, run_folder, voc_root, config, tmp_path):
    """On squashed images the same features, the same slots, the same label maps."""
    squashed = config.dataset.model_copy(update={"geometry": "squash"})

    voc = VocFolder.find(voc_root)
    path = tmp_path / "val.h5"
    extract(voc, "val", config.model_copy(update={"dataset": squashed}), path, CPU)
    cache = FeatureCache(path)
    features = torch.from_numpy(cache.features[:])
    noise, reference = image_draws(unrefined.model, cache.ids)
    with torch.inference_mode():
        masks = unrefined.model.segment(features, noise, "hungarian", ["attention"], reference)
    expected = label_maps(masks["attention"], cache.side)
    for index, image_id in enumerate(cache.ids):
        image = voc.image(image_id).resize((cache.side, cache.side), Image.Resampling.BICUBIC)
        labels = unrefined(image, image_id).labels
        pairs = {*zip(expected[index].ravel().tolist(), labels.ravel().tolist(), strict=True)}
        assert len(pairs) == len({slot for slot, _ in pairs})  # each slot is one object


def test_refined_masks_follow_the_photograph_itself(segmenter, unrefined, images):
    image = images[0].resize((150, 70))
    (masks,) = unrefined._masks([unrefined.geometry.image(image)], [""])
    plain, refined = (find_objects(masks, 150, 70, guide=guide) for guide in (None, image))
    assert np.array_equal(unrefined(image).labels, plain.labels)
    found = segmenter(image)
    assert np.array_equal(found.labels, refined.labels)
    np.testing.assert_array_equal(found.scores, refined.scores)
    assert not np.array_equal(plain.labels, refined.labels)


def test_specks_of_refined_masks_are_no_parts():
    masks = torch.rand(3, 64, generator=torch.Generator().manual_seed(0)).softmax(dim=0)
    noise = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    guide = Image.fromarray(noise)
    assert len(find_objects(masks, 120, 80, guide=guide).scores) == 2
    parts = find_objects(masks, 120, 80, split=True, guide=guide)
    assert len(parts.scores) < 20 and parts.areas[1:].min() >= 120 * 80 / 64


def test_an_image_does_not_depend_on_the_others(segmenter, images):
    together = segmenter(images)
    for image, objects in zip(images, together, strict=True):
        alone = segmenter(image)
        assert alone.labels.shape == image.size[::-1]
        assert np.mean(alone.labels == objects.labels) > 0.999  # but for rounding in a batch
    assert np.array_equal(segmenter(images[0]).labels, segmenter(images[0]).labels)


@pytest.mark.parametrize("size", [(1, 1), (5, 400), (997, 31)])
def test_any_size(segmenter, size):
    objects = segmenter(Image.new("RGB", size, "red"))
    assert objects.labels.shape == size[::-1] and objects.areas.sum() == size[0] * size[1]


def test_options(run_folder, images):
    few = load(run_folder, "cpu", num_slots=2, mask_source="decoder", matching="greedy")(images[0])
    assert len(few.scores) <= 1
    with pytest.raises(InputError, match="no learned similarity"):
        load(run_folder, "cpu", matching="learned")


def test_files(segmenter, images, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    images[0].save(folder / "one.png")
    images[1].convert("L").save(folder / "sub/two.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match=r"1 of 3 photographs.*broken\.jpg.*other 2"):
        discover(segmenter, [folder], out, batch=1)
    labels = np.asarray(Image.open(out / "masks/one.png"))
    expected = segmenter(images[0], "one")
    assert np.array_equal(labels, expected.labels)
    assert Image.open(out / "overlays/sub/two.jpg").size == images[1].size
    table = pd.read_csv(out / "objects.csv")
    rows = table[table["mask"] == "masks/one.png"]
    assert rows["background"].tolist() == [True] + [False] * len(expected.scores)
    assert rows["area"].tolist() == expected.areas.tolist()
    assert rows["share"].sum() == pytest.approx(1, abs=1e-4)
    assert rows[["x0", "y0", "x1", "y1"]].iloc[1:].to_numpy().tolist() == expected.boxes.tolist()
    coco = COCO(out / "coco.json")
    annotations = coco.imgToAnns[next(i for i in coco.imgs if "one" in coco.imgs[i]["file_name"])]
    assert len(annotations) == len(expected.scores)
    for annotation, mask in zip(annotations, expected.masks, strict=True):
        assert np.array_equal(coco.annToMask(annotation), mask)
    detections = [
        {name: annotation[name] for name in ("image_id", "category_id", "segmentation", "score")}
        for annotation in coco.dataset["annotations"]
    ]
    assert len(coco.loadRes(detections).anns) == len(coco.anns)
    with pytest.raises(InputError, match="exists and is no empty folder; name a new one"):
        discover(segmenter, [folder / "one.png"], out)


@pytest.mark.faults
def test_one_photograph_that_fails_loses_no_other(segmenter, images, tmp_path, monkeypatch):
    """Whatever it fails of: reading, segmenting together, alone, or writing."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name, size in (("a", 50), ("b", 51), ("c", 52), ("d", 53)):
        images[0].resize((size, size)).save(folder / f"{name}.png")
    odd = os.fsdecode(b"\xff\xfe.png")  # no UTF-8
    images[1].save(folder / odd)

    class Fragile:
        def __call__(self, photographs, ids):
            if any(image.size == (51, 51) for image in photographs):
                raise ValueError("cannot")
            return segmenter(photographs, ids)

    real = output.overlay

    def overlay(image, objects):
        if image.size == (52, 52):
            raise RuntimeError("too wide")
        return real(image, objects)

    monkeypatch.setattr(output, "overlay", overlay)
    with pytest.raises(
        InputError, match=r"2 of 5 photographs were skipped: .*b.png, .*c.png; .* 3"
    ):
        discover(Fragile(), [folder], out, batch=3)
    table, coco = pd.read_csv(out / "objects.csv"), json.loads((out / "coco.json").read_text())
    names = {Path(name).name for name in table["image"]}
    assert names == {"a.png", "d.png", "\\xff\\xfe.png"}
    assert len(coco["images"]) == 3 and (out / "masks/\\xff\\xfe.png").is_file()


@pytest.mark.faults
def test_what_is_done_is_there_when_it_is_stopped(segmenter, images, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for index in range(3):
        images[index].save(folder / f"{index}.png")

    class Stopped:
        calls = 0

        def __call__(self, photographs, ids):
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return segmenter(photographs, ids)

    with pytest.raises(KeyboardInterrupt):
        discover(Stopped(), [folder], out, batch=1)
    assert pd.read_csv(out / "objects.csv")["image"].nunique() == 2
    assert len(json.loads((out / "coco.json").read_text())["images"]) == 2


@pytest.mark.faults
def test_a_full_disk_ends_it_and_is_no_fault_of_a_photograph(
    segmenter, images, tmp_path, monkeypatch
):
    images[0].save(tmp_path / "a.png")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    monkeypatch.setattr(output, "_write_pictures", full)
    with pytest.raises(OSError, match="No space left"):
        discover(segmenter, [tmp_path / "a.png"], tmp_path / "out")


@pytest.mark.faults
def test_nothing_is_written_over(segmenter, images, tmp_path):
    images[0].save(tmp_path / "a.png")
    (tmp_path / "objects.csv").write_text("mine")
    for out in (tmp_path, tmp_path / "a.png"):
        with pytest.raises(InputError, match="exists and is no empty folder"):
            discover(segmenter, [tmp_path / "a.png"], out)
    assert (tmp_path / "objects.csv").read_text() == "mine"


@pytest.mark.parametrize("refine", [False, True])
def test_a_large_image_has_the_objects_of_a_small_one(monkeypatch, images, refine):
    """Found on fewer pixels, and enlarged: the same but for a pixel along the edges."""
    masks = torch.rand(3, 16, generator=torch.Generator().manual_seed(0)).softmax(dim=0)
    guide = images[0].resize((400, 300)) if refine else None
    whole = find_objects(masks, 400, 300, guide=guide)
    monkeypatch.setattr(segmenter_module, "DRAWN_PIXELS", 30_000)
    drawn = find_objects(masks, 400, 300, guide=guide)
    assert drawn.labels.shape == whole.labels.shape
    assert np.mean(drawn.labels == whole.labels) > 0.98
    # A box may end in a thin line along an edge of the photograph.
    np.testing.assert_allclose(drawn.boxes, whole.boxes, atol=20 if refine else 3)
    np.testing.assert_allclose(drawn.scores, whole.scores, atol=0.01)
    assert drawn.areas.sum() == 120_000


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, voc_root, config):
    """A run on a backbone whose weights are a local file: the run's folder and the file."""
    folder = tmp_path_factory.mktemp("pretrained")
    random = config.backbone

    state, _ = backbone_weights(random)
    save_file(state, folder / "vit.safetensors", {"made": "elsewhere"})
    local = random.model_copy(
        update={"pretrained": True, "weights": str(folder / "vit.safetensors")}
    )
    config = config.model_copy(update={"backbone": local})
    extract(VocFolder.find(voc_root), "train", config, folder / "train.h5", CPU)
    train(FeatureCache(folder / "train.h5"), config, 0, folder / "run", CPU)
    return folder / "run", folder / "vit.safetensors"


def test_an_exported_run_works_without_what_it_was_made_from(pretrained, images, tmp_path):
    run, weights = pretrained
    before = load(run, "cpu")(images[0])
    export(run, tmp_path / "exported")
    shutil.move(tmp_path / "exported", tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere"
    weights.rename(weights.with_suffix(".away"))
    try:
        with pytest.raises(InputError, match=r"vit\.safetensors: no such file"):
            load(run, "cpu")
        assert np.array_equal(load(moved, "cpu")(images[0]).labels, before.labels)
        export(moved, tmp_path / "again")  # from the folder's own weights
        assert np.array_equal(load(tmp_path / "again", "cpu")(images[0]).labels, before.labels)
        card = (moved / "README.md").read_text()
        assert "library_name: mmqsa" in card and "4 slots, 3 heads" in card
    finally:
        weights.with_suffix(".away").rename(weights)
    with pytest.raises(InputError, match="not empty"):
        export(run, moved)


def test_a_run_is_not_exported_into_itself(run_folder, tmp_path):
    """Nor into a folder that it lies in, wherever links lead."""
    run = shutil.copytree(run_folder, tmp_path / "runs" / "run")
    (tmp_path / "link").symlink_to(run)
    before = sorted(tmp_path.rglob("*"))
    for source, out in (
        (run, run / "sub"),
        (run, run / "new" / "sub"),
        (run, run),
        (run, tmp_path / "link" / "sub"),
        (tmp_path / "link", run / "sub"),
        (run, run / ".." / "run" / "sub"),
    ):
        with pytest.raises(InputError, match=r"lies in the run .*; name a folder outside of it"):
            export(source, out)
    for source in (run, tmp_path / "link"):
        with pytest.raises(InputError, match=r"has the run .* in it; name a new folder"):
            export(source, tmp_path / "runs")
    assert sorted(tmp_path.rglob("*")) == before
    export(run, tmp_path / "runs" / "run-2")  # whose name only begins as the run's


def test_weights_from_the_hub_are_put_beside_the_run(run_folder, images, tmp_path, monkeypatch):
    """The hub is played by the random network that the run was trained on."""
    hub = tmp_path / "run"
    run = Run.load(run_folder)
    trained = run.config
    state, _ = backbone_weights(trained.backbone)
    named = trained.backbone.model_copy(update={"pretrained": True})
    config = trained.model_copy(update={"backbone": named})
    Run(run.model, config, run.provenance).save(hub, [], {})
    create = backbone.create

    def fetch(config, pretrained, **size):
        network = create(config, pretrained=False, **size)
        if pretrained:
            network.load_state_dict(state)
        return network

    with monkeypatch.context() as patch:
        patch.setattr(weights, "create", fetch)
        written = export(hub, tmp_path / "exported")
        fetched = tmp_path / "fetched.safetensors"
        weights.fetch_weights(named, fetch(named, pretrained=False), fetched)
    assert tmp_path / "exported/backbone.safetensors" in written
    objects = load(tmp_path / "exported", "cpu")(images[0])
    assert np.array_equal(objects.labels, load(run_folder, "cpu")(images[0]).labels)

    def offline(config, pretrained, **size):
        assert not pretrained, "asked the hub"
        return create(config, pretrained=False, **size)

    with monkeypatch.context() as patch:  # the file of `mmqsa weights` does without the hub
        patch.setattr(weights, "create", offline)
        again = load(hub, "cpu", backbone=fetched)(images[0])
        export(hub, tmp_path / "offline", weights=fetched)
        moved = load(tmp_path / "offline", "cpu")(images[0])
    assert np.array_equal(again.labels, objects.labels)
    assert np.array_equal(moved.labels, objects.labels)


def test_another_networks_weights_are_refused(pretrained, tmp_path):
    run, weights = pretrained
    state = load_file(weights)
    state["norm.weight"] += 1
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors: the backbone's weights_sha256"):
        load(run, "cpu", backbone=tmp_path / "other.safetensors")
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    shutil.copy(tmp_path / "other.safetensors", copied / f"{BACKBONE}.safetensors")
    with pytest.raises(InputError, match=BACKBONE):
        load(copied, "cpu")
    with pytest.raises(InputError, match=BACKBONE):
        export(copied, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_random_weights_are_drawn_again(run_folder, tmp_path):
    written = export(run_folder, tmp_path / "exported")
    assert BACKBONE not in {path.stem for path in written}
    load(tmp_path / "exported", "cpu")
    provenance = json.loads((tmp_path / "exported/provenance.json").read_text())
    config = RunConfig.load(tmp_path / "exported/config.yaml")
    drawn = load_backbone(config.backbone)
    assert drawn.weights_sha256 == drawn.state_sha256
    assert drawn.state_sha256 == provenance["cache"]["weights_sha256"]
    run = Run.load(run_folder)
    changed = config.backbone.model_copy(update={"seed": 1})
    other = config.model_copy(update={"backbone": changed})
    Run(run.model, other, run.provenance).save(tmp_path / "other", [], {})
    with pytest.raises(InputError, match="weights_sha256"):
        load(tmp_path / "other", "cpu")


@pytest.mark.parametrize(
    "options, said",
    [
        ({"matching": "jined"}, "matching: 'jined'; expected one of hungarian, greedy"),
        ({"mask_source": "slots"}, "mask_source: 'slots'; expected one of decoder, attention"),
        ({"smallest": 5}, "smallest: 5 is no share"),
        ({"num_slots": 0}, "num_slots: 0; expected 1 to 255"),
    ],
)
def test_a_segmenter_takes_no_value_that_there_is_not(run_folder, options, said):
    with pytest.raises(InputError, match=re.escape(said)):
        load(run_folder, **options)


def test_a_segmenter_takes_images_not_files(run_folder):
    with pytest.raises(InputError, match=r"str: expected a PIL image; Image\.open opens a file"):
        load(run_folder)("photo.jpg")
