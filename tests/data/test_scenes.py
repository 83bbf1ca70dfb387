import numpy as np
import pytest

from mmqsa.config.data import ScenesConfig
from mmqsa.data.scenes import MAX_AREA, MIN_VISIBLE, voc_palette, write_scenes
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError


def test_scenes_are_a_voc_folder_with_agreeing_labels(voc_root):
    voc = VocFolder.find(voc_root)
    assert len(voc.ids("train")) == 8 and len(voc.ids("val")) == 6
    assert voc.ids("all-but-val") == sorted(voc.ids("train"))
    for image_id in voc.ids("trainval"):
        image = voc.image(image_id)
        classes = voc.classes(image_id, image.size)
        instances = voc.instances(image_id, image.size)
        np.testing.assert_array_equal(classes == 0, instances == 0)
        np.testing.assert_array_equal(classes == 255, instances == 255)
        objects = np.unique(instances[(instances > 0) & (instances < 255)])
        assert 1 <= len(objects) <= 4
        boxes = voc.boxes(image_id)
        assert len(boxes) == len(objects)
        for label, box in zip(objects, boxes, strict=True):
            rows, columns = np.nonzero(instances == label)
            assert len(np.unique(classes[instances == label])) == 1
            # Object and void outline together: the box is of the whole object.
            assert box[0] <= columns.min() and columns.max() < box[2]
            assert box[1] <= rows.min() and rows.max() < box[3]
            # Outlines are void, so the visible bound is a little generous.
            assert MIN_VISIBLE / 2 < len(rows) / instances.size <= MAX_AREA


def test_same_seed_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_scenes(ScenesConfig(train=2, val=1, side=48, seed=3), tmp_path / name)
    files = [p for p in sorted((tmp_path / "a").rglob("*")) if p.is_file()]
    assert files
    for path in files:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_palette_is_vocs():
    palette = np.array(voc_palette()).reshape(-1, 3)
    assert palette[1].tolist() == [128, 0, 0]  # aeroplane
    assert palette[15].tolist() == [192, 128, 128]  # person
    assert palette[255].tolist() == [224, 224, 192]  # void


@pytest.mark.parametrize("number", [0, 100_001, 10**12])
def test_the_number_of_scenes_is_bounded(number):
    assert ScenesConfig(train=100_000)
    with pytest.raises(ValueError, match="train"):
        ScenesConfig(train=number)


@pytest.mark.faults
def test_scenes_are_written_over_nothing_else(tmp_path, own_voc):
    few = ScenesConfig(train=2, val=1, side=48)
    linked, real = tmp_path / "linked", tmp_path / "real/VOC2012"
    linked.mkdir()
    (linked / "VOC2012").symlink_to(own_voc)
    (real / "JPEGImages").mkdir(parents=True)
    (real / "JPEGImages/2007_000027.jpg").write_text("mine")
    labels = tmp_path / "labels/VOC2012/SegmentationClass/mine.png"  # without a photograph
    for path in (labels, tmp_path / "file/VOC2012"):
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    (labels.parents[1] / "JPEGImages").mkdir()
    inside = tmp_path / "inside/VOC2012/Annotations"
    inside.parent.mkdir(parents=True)
    inside.symlink_to(own_voc / "Annotations")
    (tmp_path / "photographs/JPEGImages").mkdir(parents=True)
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop/VOC2012").symlink_to("VOC2012")
    others = (tmp_path / name for name in ("labels", "file", "inside", "photographs", "loop"))
    for root in (linked, real.parent, *others):
        before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
        with pytest.raises(
            InputError, match=r"(is no scene|another data set); choose another folder"
        ):
            write_scenes(few, root)
        assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before


def test_the_same_scenes_stay_and_others_are_refused(tmp_path):
    (tmp_path / "VOC2012/JPEGImages").mkdir(parents=True)  # of an attempt that was interrupted
    few, photograph = ScenesConfig(train=2, val=1, side=48), "VOC2012/JPEGImages/train_00000.jpg"
    write_scenes(few, tmp_path)
    made = (tmp_path / photograph).stat().st_mtime_ns
    assert write_scenes(few, tmp_path) == 3
    assert (tmp_path / photograph).stat().st_mtime_ns == made
    with pytest.raises(InputError, match="scenes of other settings"):
        write_scenes(few.model_copy(update={"seed": 1}), tmp_path)
    (tmp_path / photograph).rename(tmp_path / "away.jpg")
    with pytest.raises(InputError, match=r"VOC2012: not whole; remove .*receipt.json"):
        write_scenes(few, tmp_path)
    (tmp_path / "receipt.json").unlink()  # as Snakemake does before it makes them again
    assert write_scenes(few.model_copy(update={"train": 1}), tmp_path) == 2
    assert len(list((tmp_path / "VOC2012/JPEGImages").iterdir())) == 2
