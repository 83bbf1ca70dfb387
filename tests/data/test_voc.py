import shutil

import numpy as np
import pytest
from PIL import Image

from mmqsa.data.layouts import open_folder
from mmqsa.data.voc import Voc2007Folder, VocFolder
from mmqsa.errors import InputError


def first(voc: VocFolder) -> str:
    return voc.ids("train")[0]


def test_found_from_any_folder_above(own_voc):
    assert VocFolder.find(own_voc).path == own_voc
    assert VocFolder.find(own_voc.parent).path == own_voc


def test_each_year_has_its_folder(own_voc):
    """A VOCdevkit may hold both."""
    both = own_voc.parent / "VOCdevkit"
    for year in ("VOC2007", "VOC2012"):
        shutil.copytree(own_voc, both / year)
    assert VocFolder.find(both).path == both / "VOC2012"
    assert Voc2007Folder.find(both.parent).path == both / "VOC2007"
    shutil.rmtree(own_voc)
    shutil.rmtree(both / "VOC2012")
    assert open_folder(both.parent) == Voc2007Folder(both / "VOC2007")
    with pytest.raises(InputError, match=r"no VOC2012 folder here"):
        VocFolder.find(both.parent)


def test_no_voc_here(tmp_path):
    with pytest.raises(InputError, match=r"no VOC2012 folder here.*JPEGImages"):
        VocFolder.find(tmp_path)


def test_missing_split_names_those_that_are_there(own_voc):
    (own_voc / "ImageSets/Segmentation/train.txt").unlink()
    with pytest.raises(InputError, match=r"train.txt: split list missing.*trainval, val"):
        VocFolder(own_voc).ids("train")


def test_trainaug_needs_the_sbd_masks(own_voc):
    with pytest.raises(InputError, match=r"SegmentationClassAug: missing.*dataset.train_split"):
        VocFolder(own_voc).ids("trainaug")


def test_label_map_of_another_size_is_named(own_voc):
    voc = VocFolder(own_voc)
    path = own_voc / "SegmentationClass" / f"{first(voc)}.png"
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(path)
    size = voc.image(first(voc)).size
    with pytest.raises(InputError, match=rf"7x9 px, but its photograph is {size[0]}x{size[1]}"):
        voc.classes(first(voc), size)


@pytest.mark.parametrize("mode, said", [("RGB", "palette or grey PNG"), ("L", "label 77")])
def test_label_map_that_is_none(own_voc, mode, said):
    voc = VocFolder(own_voc)
    size = voc.image(first(voc)).size
    grey = Image.new("L", size, 77)
    grey.convert(mode).save(own_voc / "SegmentationClass" / f"{first(voc)}.png")
    with pytest.raises(InputError, match=said):
        voc.classes(first(voc), size)


def test_unlabelled_photograph_has_no_labels(own_voc):
    voc = VocFolder(own_voc)
    for folder, suffix in (
        ("SegmentationClass", "png"),
        ("SegmentationObject", "png"),
        ("Annotations", "xml"),
    ):
        (own_voc / folder / f"{first(voc)}.{suffix}").unlink()
    size = voc.image(first(voc)).size
    assert voc.classes(first(voc), size) is None
    assert voc.instances(first(voc), size) is None
    assert voc.boxes(first(voc)) is None
