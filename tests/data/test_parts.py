"""SBD's masks and the list of COCO 20k, fetched beside a data set."""

import hashlib
import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import torch
import yaml
from project import ARGUMENTS, copy_project, planned, snakemake
from scipy.io import savemat
from tars import write_tar

from mmqsa.config.data import DatasetConfig
from mmqsa.data.download import download
from mmqsa.data.layouts import open_folder
from mmqsa.data.parts import fetch_part
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract


def mat(labels) -> bytes:
    """The annotations of one image as SBD stores them: a struct in a struct, boundaries as well."""
    content = io.BytesIO()
    boundaries = np.empty((20, 1), dtype=object)
    boundaries[:] = [[np.zeros((2, 2))]] * 20
    annotations = {"Segmentation": labels, "Boundaries": boundaries, "CategoriesPresent": [1]}
    savemat(content, {"GTcls": annotations}, do_compression=True)
    return content.getvalue()


def sbd(path, masks, folder="benchmark_RELEASE/dataset/cls"):
    """An archive like SBD's, with other files in it as well; returns its md5."""
    members = {f"{folder}/{name}.mat": content for name, content in masks.items()}
    members |= {"benchmark_RELEASE/dataset/inst/other.mat": b"?", "benchmark_RELEASE/README": b"?"}
    return write_tar(path, members)


def with_part(name, urls, md5, **others) -> DatasetConfig:
    return DatasetConfig(
        **others, parts={name: {"sources": [str(one) for one in urls], "md5": md5}}
    )


@pytest.fixture
def voc(own_voc):
    """A folder whose train_00002 no list of the segmentation challenge names."""
    for split, ids in {"train": ["train_00000", "train_00001"], "val": ["val_00000"]}.items():
        (own_voc / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(ids) + "\n")
    for folder in ("SegmentationClass", "SegmentationObject"):
        for image_id in ("train_00002", "val_00001"):
            (own_voc / folder / f"{image_id}.png").unlink()
    return own_voc


@pytest.fixture
def masks(voc):
    """SBD's masks: of VOC's train, of its val, and of two more."""
    made = {}
    for label, image_id in enumerate(("train_00001", "train_00002", "val_00000", "val_00001"), 3):
        labels = np.zeros(VocFolder(voc).image(image_id).size[::-1], dtype=np.uint8)
        labels[10:30, 5:40] = label
        made[image_id] = labels
    return made


@pytest.fixture
def archive(tmp_path, masks):
    path = tmp_path / "benchmark.tgz"
    return path, sbd(path, {name: mat(labels) for name, labels in masks.items()})


def test_trainaug_is_made_of_the_masks_and_the_lists(tmp_path, voc, masks, archive, config):
    """A linked folder stays as it is; a source that fails is passed over."""
    root, before = tmp_path / "root", sorted(voc.rglob("*"))
    dataset = with_part(
        "trainaug", [f"file://{tmp_path}/none.tgz", f"file://{archive[0]}"], archive[1]
    )
    download(dataset.model_copy(update={"sources": [str(voc)]}), root)
    receipt = (root / "receipt.json").stat().st_mtime_ns
    assert fetch_part(dataset, "trainaug", root) == f"file://{archive[0]}"
    assert sorted(voc.rglob("*")) == before
    assert (root / "receipt.json").stat().st_mtime_ns == receipt
    said = json.loads((root / "receipt-trainaug.json").read_text())
    assert said == {"source": f"file://{archive[0]}", "md5": archive[1], "images": 4}
    # SBD and train without val: as mmsegmentation makes the 10,582 of VOC.
    folder = open_folder(root)
    assert folder.ids("trainaug") == ["train_00000", "train_00001", "train_00002", "val_00001"]
    trainaug = folder.of_split("trainaug")
    for image_id in ("train_00002", "val_00001"):
        size = folder.image(image_id).size
        np.testing.assert_array_equal(trainaug.classes(image_id, size), masks[image_id])
        assert folder.of_split("all-but-val").classes(image_id, size) is None
    size = folder.image("train_00001").size  # VOC's own masks come first
    np.testing.assert_array_equal(
        trainaug.classes("train_00001", size), VocFolder(voc).classes("train_00001", size)
    )
    # Again: nothing is changed, and the archive that is there is taken.
    archive[0].unlink()
    fetch_part(dataset, "trainaug", root)


def test_extraction_of_trainaug(tmp_path, voc, masks, archive, config):
    dataset = with_part("trainaug", [f"file://{archive[0]}"], archive[1])
    fetch_part(dataset, "trainaug", voc.parent)
    folder, device = open_folder(voc.parent), torch.device("cpu")
    caches = {}
    for split in ("trainaug", "all-but-val"):
        extract(folder, split, config, tmp_path / f"{split}.h5", device)
        caches[split] = FeatureCache(tmp_path / f"{split}.h5")
    assert caches["trainaug"].ids == folder.ids("trainaug")
    index = caches["trainaug"].ids.index("train_00002")
    assert set(np.unique(caches["trainaug"].classes[index])) == {0, 4}
    # Labels of another split do not depend on what was fetched.
    index = caches["all-but-val"].ids.index("train_00002")
    assert (caches["all-but-val"].classes[index] == 255).all()


def test_masks_that_a_folder_has_are_used(tmp_path, voc, archive):
    """The usual PNG of other repositories, with or without their list."""
    own = tmp_path / "own"
    shutil.copytree(voc, own / "VOC2012")
    fetch_part(with_part("trainaug", [f"file://{archive[0]}"], archive[1]), "trainaug", voc.parent)
    (voc.parent / "SegmentationClassAug").rename(own / "VOC2012/SegmentationClassAug")
    root, nowhere = tmp_path / "root", DatasetConfig(sources=[str(own)])
    download(nowhere, root)
    assert fetch_part(nowhere, "trainaug", root) == str(root / "VOC2012/SegmentationClassAug")
    assert len(open_folder(root).ids("trainaug")) == 4
    (own / "VOC2012/ImageSets/Segmentation/trainaug.txt").write_text("train_00002\n")
    fetch_part(nowhere, "trainaug", root)
    assert open_folder(root).ids("trainaug") == ["train_00002"]
    assert json.loads((root / "receipt-trainaug.json").read_text())["images"] == 1


def test_the_list_of_coco20k(tmp_path):
    """As a file of any name, beside a linked folder without one; and from the folder itself."""
    coco, names = tmp_path / "coco", [f"COCO_train2014_{key:012d}" for key in (9, 4, 7)]
    write_coco(coco, names)
    path = tmp_path / "mine.txt"
    path.write_text("".join(f"train2014/{name}.jpg\n" for name in names[:2]))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    dataset = with_part("coco20k", [f"file://{path}"], md5, kind="coco20k", sources=[str(coco)])
    root = tmp_path / "root"
    download(dataset, root)
    with pytest.raises(InputError, match=r"coco_20k_filenames.txt: missing.*--part coco20k"):
        open_folder(root).ids("train")
    assert fetch_part(dataset, "coco20k", root) == f"file://{path}"
    assert open_folder(root).ids("train") == names[:2]  # in the list's order
    assert json.loads((root / "receipt-coco20k.json").read_text())["images"] == 2
    (coco / "coco_20k_filenames.txt").write_text(f"train2014/{names[2]}.jpg\n")
    assert fetch_part(dataset, "coco20k", root).startswith(str(root / "coco2014"))
    assert open_folder(root).ids("train") == names[2:]
    (coco / "coco_20k_filenames.txt").write_text("train2014/other.jpg\n")
    with pytest.raises(InputError, match=r"'other' is not in instances_train2014.json"):
        fetch_part(dataset, "coco20k", root)


def write_coco(root, names):
    """COCO 2014's layout with empty photographs and no object."""
    (root / "annotations").mkdir(parents=True)
    (root / "train2014").mkdir()
    images = []
    for name in names:
        (root / f"train2014/{name}.jpg").touch()
        images.append({"id": int(name[-12:]), "file_name": f"{name}.jpg"})
    content = {"images": images, "annotations": [], "categories": []}
    (root / "annotations/instances_train2014.json").write_text(json.dumps(content))


@pytest.mark.faults
def test_masks_that_are_none(tmp_path, voc, masks):
    def refused(said, contents, **options):
        path = tmp_path / "bad.tgz"
        md5 = sbd(path, contents, **options)
        with pytest.raises(InputError, match=said) as error:
            fetch_part(with_part("trainaug", [f"file://{path}"], md5), "trainaug", voc.parent)
        assert "\n" not in str(error.value)
        assert not (voc.parent / "receipt-trainaug.json").exists()
        (voc.parent / "bad.tgz").unlink()

    good, labels = mat(masks["train_00002"]), masks["train_00002"]
    refused(r"cls/a\.mat: no masks of SBD", {"a": good[: len(good) // 2]})
    refused(r"cls/a\.mat: no masks of SBD \(not a map of classes", {"a": mat(labels + 20)})
    refused(r"cls/a\.mat: no masks of SBD \(not a map of classes", {"a": mat(labels + 0.5)})
    refused(r"bad\.tgz: has no masks of SBD", {"a": good}, folder="elsewhere")


@pytest.mark.faults
def test_what_cannot_be_fetched_is_named(tmp_path, voc, archive):
    nowhere = with_part("trainaug", [f"file://{tmp_path}/none/benchmark.tgz"], archive[1])
    said = (
        r"no source has trainaug: .*none/benchmark.tgz.*Fetch benchmark.tgz elsewhere and name it "
        r"file:///FOLDER/benchmark.tgz in dataset.parts.trainaug.sources"
    )
    with pytest.raises(InputError, match=said):
        fetch_part(nowhere, "trainaug", voc.parent)
    with pytest.raises(InputError, match=r"--part coco20k: a data set of kind voc has no such"):
        fetch_part(nowhere, "coco20k", voc.parent)
    with pytest.raises(InputError, match=r"SegmentationClassAug: missing.*--part trainaug"):
        VocFolder.find(voc.parent).ids("trainaug")


@pytest.mark.workflow
def test_another_split_fetches_its_masks_and_nothing_again(tmp_path, voc, archive):
    """From all-but-val to trainaug in a workflow: of the archives SBD's alone."""
    tar = tmp_path / "voc.tar"
    with tarfile.open(tar, "w") as file:
        file.add(voc, "VOCdevkit/VOC2012")
    project, md5 = copy_project(tmp_path / "project"), hashlib.md5(tar.read_bytes()).hexdigest()
    part = {"trainaug": {"sources": [f"file://{archive[0]}"], "md5": archive[1]}}
    dataset = {
        **{"kind": "voc", "name": "voc", "root": "resources/voc", "train_split": "all-but-val"},
        **{"sources": [f"file://{tar}"], "md5": md5, "parts": part},
    }
    arguments = [*ARGUMENTS, "own.yaml", "--"]
    (project / "own.yaml").write_text(yaml.safe_dump({"dataset": dataset}))
    first = snakemake(project, *arguments, "resources/voc/receipt.json")
    assert planned(first) == {"data": 1}
    assert not (project / "resources/voc/benchmark.tgz").exists()
    tar.unlink()
    dataset["train_split"] = "trainaug"
    (project / "own.yaml").write_text(yaml.safe_dump({"dataset": dataset}))
    cache = "results/demo/features/voc/trainaug.h5"
    second = snakemake(project, *arguments, cache)
    assert planned(second) == {"part": 1, "stage_config": 1, "extract": 1}
    assert len(FeatureCache(project / cache).ids) == 4
