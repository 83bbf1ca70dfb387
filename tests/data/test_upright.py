"""Photographs are upright in every layout, and labels with them, for each EXIF orientation."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from turned import TURNS, coco_of, extents, stored, write_turned, write_xml

from mmqsa.data.coco import CocoFolder
from mmqsa.data.photograph import read_photograph, read_upright
from mmqsa.data.upright import orientation_of
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError

HEIGHT, WIDTH = 30, 40
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
INSTANCES = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
INSTANCES[3:12, 5:31] = 1
INSTANCES[20:28, 1:9] = 2
QUARTERS = (5, 6, 7, 8)  # of others no size tells what is drawn on the stored pixels


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_size_and_pixels_are_upright(tmp_path, format, orientation):
    smooth = np.array(Image.fromarray(PIXELS[:6, :8]).resize((WIDTH, HEIGHT)))
    write_turned(tmp_path / "a", smooth, orientation, format)
    found = read_photograph(tmp_path / "a")
    assert read_upright(tmp_path / "a").size == found.size == (WIDTH, HEIGHT)
    assert np.abs(np.asarray(found, dtype=int) - smooth).mean() < 12  # lossy, but not turned


@pytest.fixture
def voc(tmp_path):
    """A VOC folder of one photograph, a.jpg, without labels."""
    for name in ("JPEGImages", "ImageSets/Segmentation", "SegmentationClass", "Annotations"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "SegmentationObject").mkdir()
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("a\n")
    return VocFolder(tmp_path)


def label(voc, instances):
    for kind in ("SegmentationClass", "SegmentationObject"):
        Image.fromarray(instances).save(voc.path / kind / "a.png")
    write_xml(voc.path / "Annotations/a.xml", extents(instances), instances.shape[::-1])


@pytest.mark.parametrize(
    "orientation, before",
    [*((one, False) for one in TURNS), *((one, True) for one in QUARTERS)],
)
def test_labels_of_voc(voc, orientation, before):
    """Drawn on the upright photograph; or before a quarter turn, on the stored pixels."""
    write_turned(voc.path / "JPEGImages/a.jpg", PIXELS, orientation)
    label(voc, stored(INSTANCES, orientation) if before else INSTANCES)
    size = voc.size("a")
    assert np.array_equal(voc.image("a"), PIXELS) and size == (WIDTH, HEIGHT)
    assert np.array_equal(voc.classes("a", size), INSTANCES)
    assert np.array_equal(voc.instances("a", size), INSTANCES)
    assert np.array_equal(voc.boxes("a"), extents(INSTANCES))
    assert voc.told("a", voc.upright("a")) == (orientation in (1, *QUARTERS))


def test_what_no_size_tells(voc):
    """Square photographs with a quarter turn, and annotations without a size."""
    write_turned(voc.path / "JPEGImages/a.jpg", PIXELS[:, :HEIGHT], 6)
    label(voc, INSTANCES[:, :HEIGHT])
    assert not voc.told("a", voc.upright("a"))
    assert np.array_equal(voc.classes("a", (HEIGHT, HEIGHT)), INSTANCES[:, :HEIGHT])
    write_turned(voc.path / "JPEGImages/a.jpg", PIXELS, 6)
    for size, told in (((WIDTH, HEIGHT), True), ((30.0, "\n 40.0"), True), ((0, 0), False)):
        write_xml(voc.path / "Annotations/a.xml", [[1, 2, 3, 4]], size)
        assert voc.told("a", voc.upright("a")) == told
    write_xml(voc.path / "Annotations/a.xml", [[0, 30, 10, 40]], (30.0, "\n 40.0"))
    assert voc.boxes("a").tolist() == [[0, 0, 10, 10]]


def test_labels_of_another_size_are_refused_all_the_same(voc):
    write_turned(voc.path / "JPEGImages/a.jpg", PIXELS, 6)
    label(voc, INSTANCES[:, :20])
    with pytest.raises(InputError, match="20x30 px, but its photograph is 40x30"):
        voc.classes("a", (WIDTH, HEIGHT))
    write_turned(voc.path / "JPEGImages/a.jpg", PIXELS, 3)
    label(voc, np.rot90(INSTANCES).copy())
    with pytest.raises(InputError, match="30x40 px, but its photograph is 40x30"):
        voc.classes("a", (WIDTH, HEIGHT))


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("shapes", ["polygons", "rle"])
def test_labels_of_coco(tmp_path, orientation, shapes):
    (tmp_path / "val2017").mkdir()
    write_turned(tmp_path / "val2017/a.jpg", PIXELS, orientation)
    drawn = [INSTANCES, stored(INSTANCES, orientation)]
    for instances in drawn if orientation in QUARTERS else drawn[:1]:
        coco_of(tmp_path, instances, shapes)
        folder = CocoFolder(tmp_path).of_split("val")
        assert np.array_equal(folder.classes("a", (WIDTH, HEIGHT)), INSTANCES)
        assert np.array_equal(folder.instances("a", (WIDTH, HEIGHT)), INSTANCES)
        assert np.array_equal(folder.boxes("a"), extents(INSTANCES))


@pytest.mark.parametrize("value", [0, 9, 77, (6, 6), "6"])
def test_an_orientation_that_there_is_not_is_none(value):
    image = Image.new("RGB", (4, 3))
    image.getexif()[274] = value
    assert orientation_of(image) == 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, silenced outside of tests as well
def test_damaged_exif_data_are_no_reason_to_lose_a_photograph(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff junk")
    assert read_photograph(tmp_path / "a.jpg").size == read_upright(tmp_path / "a.jpg").size


def test_the_lines_of_the_page_take_the_orientation_out(tmp_path, monkeypatch):
    """docs/data.md: the stored pixels are the photograph then, as the notice advises."""
    page = (Path(__file__).parents[2] / "docs/data.md").read_text()
    (lines,) = re.findall("```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    smooth = np.array(Image.fromarray(PIXELS[:6, :8]).resize((WIDTH, HEIGHT)))
    write_turned("photo.jpg", smooth, 3, "JPEG")
    exec(lines, {})
    assert read_upright(Path("photo.jpg")).orientation == 1
    found = np.asarray(read_photograph(Path("photo.jpg")), dtype=int)
    assert np.abs(found - stored(smooth, 3)).mean() < 12
