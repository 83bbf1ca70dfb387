"""Lists of a split: one name a line, or a class's list with a second column."""

import numpy as np
import pytest
from PIL import Image

from mmqsa.data.coco import Coco20kFolder
from mmqsa.data.split_list import listed_ids, read_lines
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError

NAMES = ["a", "b c", "d 1", "Straße 2"]


@pytest.mark.parametrize(
    "text, encoding",
    [
        ("a\nb c\nd 1\nStraße 2\n", "utf-8"),
        ("a\nb c\nd 1\nStraße 2", "utf-8-sig"),
        ("a\r\n\r\nb c\r\nd 1\r\nStraße 2\r\n", "utf-16"),
        ("\n  \na  \nb c\t\n\td 1\n \nStraße 2 \n\n", "utf-8"),
        ("a\rb c\rd 1\rStraße 2\r", "utf-8"),
    ],
)
def test_one_name_a_line(tmp_path, text, encoding, capsys):
    (tmp_path / "val.txt").write_bytes(text.encode(encoding))
    assert read_lines(tmp_path / "val.txt") == NAMES
    assert listed_ids(tmp_path / "val.txt", set(NAMES)) == NAMES
    assert capsys.readouterr().err == ""


def test_a_list_of_a_class(tmp_path, capsys):
    """VOC's columns: the photographs with 1; the others are counted."""
    path = tmp_path / "cat_val.txt"
    path.write_text("2008_000002 -1\n2008_000003  1\n2008_000007  0\na b\t1\n2008_000009 -1\n")
    assert listed_ids(path, {"2008_000003", "a b"}) == ["2008_000003", "a b"]
    said = capsys.readouterr().err
    assert "with 1 are taken (2), those with -1 (2) and 0 (1) are left out" in said
    assert said.count("\n") == 1


def test_names_that_end_in_a_number_are_names(tmp_path, capsys):
    """Where photographs are called so."""
    path = tmp_path / "val.txt"
    path.write_text("scan 0\nscan 1\n")
    assert listed_ids(path, {"scan 0", "scan 1", "scan"}) == ["scan 0", "scan 1"]
    assert listed_ids(path, {"other"}) == ["scan 0", "scan 1"]  # which are missing
    assert capsys.readouterr().err == ""


@pytest.mark.faults
@pytest.mark.parametrize(
    "text, said, mended",
    [
        ("a.jpg\nb.jpg\n", "'a.jpg' is a file; .*write a, and so in every line", "a\nb\n"),
        ("JPEGImages/a.JPG\n", "names are without folder and suffix: write a", "a\n"),
        ("C:\\photos\\a.jpg\n", "names are without folder and suffix: write a", "a\n"),
        ("a 1\nb\n", "'a 1': more than the name a; .*or have 1, 0 or -1 behind every", "a 1\nb 0"),
        ("a.jpg 1\nb.jpg -1\n", "'a.jpg' is a file; .*write a, and", "a 1\nb -1\n"),
        ("a 3\nb 4\n", "'a 3': more than the name a; leave the name alone", "a\n"),
        ("a,1\n", "more than the name a", "a\n"),
        ("a -1\nb -1\n", "the second column is nowhere 1", "a 1\nb -1\n"),
        (b"caf\xe9\n", "cannot be read .*save it as UTF-8", "a\n"),
    ],
)
def test_lines_that_are_no_names(tmp_path, text, said, mended):
    """Each message, followed, leads to a list that is read."""
    path = tmp_path / "val.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=said):
        listed_ids(path, {"a", "b"})
    path.write_text(mended)
    assert set(listed_ids(path, {"a", "b"})) <= {"a", "b"}


def test_names_with_blanks_lead_to_their_files(own_voc):
    voc = VocFolder(own_voc)
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        (own_voc / folder / f"val_00000.{suffix}").rename(own_voc / folder / f"my cat 1.{suffix}")
    (own_voc / "ImageSets/Segmentation/val.txt").write_text("my cat 1\nval_00001\n")
    assert voc.ids("val") == ["my cat 1", "val_00001"]
    voc.check(voc.ids("val"))
    assert voc.classes("my cat 1", voc.size("my cat 1")).any()
    assert "my cat 1" not in voc.ids("all-but-val")


def test_accents_of_two_characters_are_those_of_one(own_voc, capsys):
    """As macOS writes names; such a photograph of val is not one of all-but-val either."""
    voc, two = VocFolder(own_voc), "be\u0301be\u0301 1"
    voc.image_path("val_00000").rename(own_voc / f"JPEGImages/{two}.jpg")
    path = own_voc / "ImageSets/Segmentation/val.txt"
    path.write_text("b\u00e9b\u00e9 1\nval_00001\n")
    assert voc.ids("val") == [two, "val_00001"]
    assert {one.partition("_")[0] for one in voc.ids("all-but-val")} == {"train"}
    path.write_text("b\u00e9b\u00e9 1 1\nval_00001 -1\n")
    assert voc.ids("val") == [two]
    path.write_text("other 1\nVAL_00001\n")
    capsys.readouterr()
    assert len(voc.ids("all-but-val")) == 5
    assert "has none of 2 of them, such as VAL_00001" in capsys.readouterr().err


def test_the_list_of_coco_20k(tmp_path):
    """By line as well: train2014/NAME.jpg."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train2014").mkdir()
    images = '{"id": 1, "file_name": "a b.jpg", "width": 8, "height": 8}'
    text = f'{{"images": [{images}], "annotations": [], "categories": []}}'
    (tmp_path / "annotations/instances_train2014.json").write_text(text)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "train2014/a b.jpg")
    (tmp_path / "coco_20k_filenames.txt").write_bytes("\ufefftrain2014/a b.jpg \r\n".encode())
    folder = Coco20kFolder(tmp_path)
    assert folder.ids("train") == ["a b"]
    folder.check(["a b"])
