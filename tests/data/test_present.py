import pytest

from mmqsa.config.data import DatasetConfig
from mmqsa.data.present import check_split, present_images
from mmqsa.errors import InputError


def test_images_of_the_root_come_before_those_of_sources(own_voc, tmp_path):
    sources = ["https://example.org/a.tar", "$NOT_SET_ANYWHERE", str(own_voc)]
    dataset = DatasetConfig(root=str(tmp_path / "none"), sources=sources)
    assert present_images(dataset, "val") == (2, own_voc)
    assert present_images(dataset, "all-but-val") == (3, own_voc)
    assert present_images(dataset, "trainaug") is None
    at_root = dataset.model_copy(update={"root": str(own_voc), "sources": sources[:1]})
    assert present_images(at_root, "train") == (3, own_voc)
    assert present_images(at_root.model_copy(update={"root": "/nowhere"}), "train") is None


def test_coco_is_counted_without_its_annotations_being_read(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2017.json").write_text("not read")
    (tmp_path / "train2017").mkdir()
    dataset = DatasetConfig(kind="coco", root=str(tmp_path))
    assert present_images(dataset, "train") is None
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "train2017" / name).touch()
    assert present_images(dataset, "all-but-val") == (2, tmp_path)
    assert present_images(dataset, "val") is None


def test_coco_20k_is_its_list(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2014.json").write_text("not read")
    dataset = DatasetConfig(kind="coco20k", root=str(tmp_path))
    assert present_images(dataset, "train") is None
    (tmp_path / "coco_20k_filenames.txt").write_text("train2014/a.jpg\ntrain2014/b.jpg\n")
    assert present_images(dataset, "train") == (2, tmp_path)


def test_a_folder_that_is_there_without_a_list_is_refused(own_voc):
    dataset = DatasetConfig(sources=[str(own_voc)], root="/nowhere")
    for split in ("val", "all-but-val", "trainaug"):  # the last is fetched
        check_split(dataset, split)
    (own_voc / "ImageSets/Main/trainval.txt").unlink()
    with pytest.raises(InputError, match=r"Main/trainval.txt: split list missing"):
        check_split(dataset, "detection-trainval")
    check_split(DatasetConfig(root="/nowhere"), "detection-trainval")  # a URL comes first
