"""The doors of photographs, label maps, lists, boxes and COCO's annotations."""

import copy
import json
import os
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image
from pycocotools import mask as run_lengths

from mmqsa.data.coco import CocoFolder, _index
from mmqsa.data.coco_shapes import _decoded
from mmqsa.data.photograph import read_photograph
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError

# Pillow's own warnings are silenced outside of tests as well.
pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::UserWarning")]
pytestmark += [pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")]
SIZE = (40, 30)


def bomb(path, width, height):
    """A valid grey PNG of any size, in a few bytes; its rows are never decoded."""

    def chunk(kind, data):
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


@pytest.mark.parametrize("side", [10_001, 50_000, 2_000_000_000])
def test_an_image_too_large_is_refused_before_it_is_decoded(tmp_path, side):
    path = bomb(tmp_path / "bomb.png", side, side)
    with pytest.raises(InputError, match=r"bomb.png: .*(megapixels|exceeds limit)"):
        read_photograph(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match="not a regular file"):
        read_photograph(tmp_path / "pipe.jpg")


def test_a_16_bit_photograph_keeps_its_range(own_voc):
    voc = VocFolder(own_voc)
    image_id = voc.ids("train")[0]
    deep = np.linspace(0, 65535, 64 * 64, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(deep).save(voc.image_path(image_id), "PNG")
    grey = np.asarray(voc.image(image_id))[..., 0]
    np.testing.assert_allclose(grey, deep // 257, atol=1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_float_photograph_without_end_is_named(tmp_path, value):
    grey = np.zeros((30, 40), dtype=np.float32)
    grey[7, 9] = value
    Image.fromarray(grey).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: .*not finite"):
        read_photograph(tmp_path / "a.tif")


def test_a_program_is_no_photograph(tmp_path):
    """Pillow would give PostScript to an interpreter."""
    path = tmp_path / "a.jpg"
    Image.new("RGB", (20, 20)).save(path, "EPS")
    with pytest.raises(InputError, match=r"a\.jpg: .*no image that Pillow can read"):
        read_photograph(path)


def test_what_is_no_photograph_is_named(own_voc):
    voc = VocFolder(own_voc)
    path = voc.image_path(voc.ids("train")[0])
    Image.new("RGB", (5000, 2)).save(path)
    with pytest.raises(InputError, match=r"train_00000.jpg: 5000x2 px is no photograph"):
        voc.image(voc.ids("train")[0])
    bomb(path, 60_000, 60_000)
    with pytest.raises(InputError, match=r"train_00000.jpg: .*take its id out"):
        voc.image(voc.ids("train")[0])


def test_a_label_map_of_any_size_is_refused_before_it_is_decoded(own_voc):
    voc = VocFolder(own_voc)
    image_id = voc.ids("train")[0]
    bomb(own_voc / f"SegmentationClass/{image_id}.png", 12_000, 12_000)
    with pytest.raises(InputError, match=r"12000x12000 px, but its photograph is 64x64"):
        voc.classes(image_id, (64, 64))


@pytest.mark.parametrize(
    "content, said",
    [
        (b"\xff\xfe\x00", "cannot be read"),
        (b"\xe4", "cannot be read .*save it as UTF-8"),
        (b"train_00000\n../../secret", "'../../secret' is no image id"),
        (b"a\x07b", "is no image id"),
        (b"a" * 260, "no image id: more than 240 bytes"),
        (b"", "is empty"),
        (b"a\na", "1 ids are repeated"),
    ],
)
def test_a_list_that_is_none(own_voc, content, said):
    (own_voc / "ImageSets/Segmentation/train.txt").write_bytes(content)
    with pytest.raises(InputError, match=said):
        VocFolder(own_voc).ids("train")


@pytest.mark.parametrize(
    "names, said",
    [([], "the split is empty"), ([b"\xff.jpg"], "no image id"), ([b"a" * 250 + b".jpg"], "240")],
)
def test_photographs_that_no_list_names(own_voc, names, said):
    for path in (own_voc / "JPEGImages").glob("train_*"):
        path.unlink()
    for name in names:
        (own_voc / "JPEGImages" / os.fsdecode(name)).touch()
    with pytest.raises(InputError, match=rf"JPEGImages: .*{said}"):
        VocFolder(own_voc).ids("all-but-val")


@pytest.mark.parametrize("value", ["nan", "inf", "1e308", "3", "x", ""])
def test_a_box_that_is_no_number(own_voc, value):
    voc = VocFolder(own_voc)
    image_id = voc.ids("train")[0]
    path = own_voc / f"Annotations/{image_id}.xml"
    text = f"<annotation><object><bndbox><xmin>{value}</xmin></bndbox></object></annotation>"
    path.write_text(text.replace("</xmin>", "</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"))
    with pytest.raises(InputError, match=rf"{image_id}.xml: "):
        voc.boxes(image_id)


def square(x, y, side):
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def two_objects():
    """The annotations of one photograph: a small object on a large one."""
    shapes = {1: (2, 2, 25), 2: (10, 10, 5)}
    return {
        "images": [{"id": 1, "file_name": "1.jpg", "width": SIZE[0], "height": SIZE[1]}],
        "categories": [{"id": 3}, {"id": 7}],
        "annotations": [
            {
                **{"id": key, "image_id": 1, "category_id": {1: 3, 2: 7}[key], "iscrowd": 0},
                **{"area": side**2, "bbox": [x, y, side, side]},
                "segmentation": [square(x, y, side)],
            }
            for key, (x, y, side) in shapes.items()
        ],
    }


def coco(folder, change=lambda content: None):
    """A COCO folder of one photograph with two objects, changed."""
    content = two_objects()
    content = change(content) or content
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "val2017").mkdir(exist_ok=True)
    Image.new("RGB", SIZE).save(folder / "val2017/1.jpg")
    (folder / "annotations/instances_val2017.json").write_text(json.dumps(content))
    _index.cache_clear()
    return CocoFolder(folder)


def read_all(folder):
    ids = folder.ids("val")
    return [
        (folder.classes(one, SIZE), folder.instances(one, SIZE), folder.boxes(one)) for one in ids
    ]


def shape(value):
    return lambda content: content["annotations"][0].update(segmentation=value)


def of(part, **values):
    return lambda content: content[part][0].update(values)


WRONG = {
    "a list": (lambda _: [1, 2], "not COCO instances"),
    "no images": (lambda content: {"annotations": []}, "not COCO instances"),
    "an empty name": (of("images", file_name="/"), "is no image id"),
    "a name that is a number": (of("images", file_name=3), "not COCO instances"),
    "an unknown category": (of("annotations", category_id=9), "unknown category_id 9"),
    "an unknown image": (of("annotations", image_id=9), "unknown image_id 9"),
    "a box of three": (of("annotations", bbox=[1, 2, 3]), "annotation 1: bbox"),
    "a box without end": (of("annotations", bbox=[1, 2, 3, float("inf")]), "annotation 1: bbox"),
    "an area of text": (of("annotations", area="large"), "annotation 1: area"),
    "two of one id": (of("annotations", id=2), "two annotations have one id"),
    "a shape of text": (shape("round"), "is 'round', neither polygons nor run lengths"),
    "one flat polygon": (shape(square(2, 2, 25)), "a single list of numbers"),
    "two points": (shape([[1, 1, 5, 1]]), "a polygon has 4 numbers, and three points need 6"),
    "a polygon of text": (shape([[1, 1, 5, 1, 5, "5"]]), "holds '5', which is no finite number"),
    "runs without counts": (shape({"size": [30, 40]}), "neither text nor whole numbers"),
    "no box": (
        lambda content: content["annotations"][0].pop("bbox") and None,
        "1: has no bbox, which is",
    ),
    "a crowd of truth": (of("annotations", iscrowd=True), "iscrowd is True, not 0 or 1"),
    "no annotations": (lambda content: content.pop("annotations") and None, "no 'annotations'"),
    "an odd polygon": (shape([[1, 1, 5, 1, 5]]), "annotation 1"),
    "an odd polygon of seven": (shape([[1, 1, 5, 1, 5, 5, 1]]), "odd number of coordinates"),
    "a polygon far away": (shape([[1, 1, 5, 1, 5, 1e30]]), "leaves the photograph"),
    "a polygon of no numbers": (shape([[1, 1, 5, 1, 5, float("nan")]]), "annotation 1"),
    "runs of a huge size": (shape({"size": [10**9, 10**9], "counts": [1]}), "is for 1000000000x"),
    "runs that are too many": (
        shape({"size": [30, 40], "counts": [0, 10**9]}),
        "whole numbers from 0",
    ),
    "runs of one px too many": (shape({"size": [30, 40], "counts": [0, 1201]}), "do not add up"),
    "runs that are too few": (shape({"size": [30, 40], "counts": "`05"}), "do not add up"),
    "runs of no size": (shape({"size": [], "counts": "0"}), "is for  px, but the photograph is"),
    "runs that are cut": (shape({"size": [30, 40], "counts": "`0o"}), "cut or damaged"),
    "runs without text": (shape({"size": [30, 40], "counts": ""}), "cut or damaged"),
    "polygons without end": (shape([[1, 1, 2, 1, 2, 2]] * 10_001), "10,001 polygons"),
    "an endless outline": (shape([[1, 1, 39, 29] * 30_000]), "outline is longer"),
    "300 objects": (
        lambda content: content["annotations"].extend(
            content["annotations"][0] | {"id": 10 + one} for one in range(299)
        ),
        "image 1 has 301 objects, more than the 254",
    ),
    "no photographs": (lambda content: {**content, "images": [], "annotations": []}, "is empty"),
    "two photographs of one id": (
        lambda content: content["images"].append(content["images"][0] | {"file_name": "2.jpg"}),
        "two photographs have one name or id",
    ),
    "two categories of one id": (of("categories", id=7), "two categories have one id"),
    "a box far away": (of("annotations", bbox=[1e308, 2, 1e308, 4]), "annotation 1: bbox is"),
    "a box of no number": (
        of("annotations", bbox=[1, 2, float("nan"), 4]),
        "annotation 1: bbox is",
    ),
    "a box of less than nothing": (of("annotations", bbox=[9, 9, -3, 4]), "ends before it begins"),
    "a long name": (of("images", file_name="a" * 300 + ".jpg"), "shorten it"),
    "runs below zero": (shape({"size": [30, 40], "counts": [-1, 1201]}), "whole numbers from 0"),
    "runs of junk": (shape({"size": [30, 40], "counts": "oooooooooo0"}), "no readable shape"),
    "many categories": (
        lambda content: content["categories"].extend({"id": 100 + one} for one in range(80)),
        "82 categories, more than 80",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_annotations_that_are_wrong_are_named(tmp_path, what):
    change, said = WRONG[what]
    folder = coco(tmp_path, change)
    with pytest.raises(InputError) as refused:
        read_all(folder)
    line = str(refused.value)
    assert str(tmp_path) in line and said in line
    assert "\n" not in line and len(line) < 500


def test_run_lengths_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for side in (1, 2, 30):
        small = rng.integers(0, 2, (9, 7), dtype=np.uint8)
        mask = np.asfortranarray(np.kron(small, np.ones((side, side), np.uint8)))
        for one in (mask, 1 - mask, 0 * mask):
            runs = _decoded(run_lengths.encode(one)["counts"].decode())
            assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs), one.ravel("F"))


def test_one_name_in_both_splits_is_refused(tmp_path):
    """Its file says which annotations are its own."""
    folder = coco(tmp_path)
    (tmp_path / "train2017").mkdir()
    (tmp_path / "train2017/1.jpg").touch()
    with pytest.raises(InputError, match=r"1\.jpg is in both splits"):
        folder.ids("val")


def test_an_area_that_is_absent_is_that_of_the_shape(tmp_path):
    expected = read_all(coco(tmp_path / "with"))

    def without(content):
        for entry in content["annotations"]:
            del entry["area"], entry["iscrowd"]

    found = read_all(coco(tmp_path / "without", without))
    for one, two in zip(expected[0], found[0], strict=True):
        np.testing.assert_array_equal(one, two)
    assert set(np.unique(expected[0][0])) == {0, 1, 2}


anything = some.none() | some.integers(-5, 10**12) | some.floats() | some.text(max_size=4)
anything |= some.lists(anything, max_size=4) | some.dictionaries(some.text(max_size=3), anything)


@pytest.mark.fuzz
@given(data=some.data())
def test_any_annotations_are_read_or_refused(tmp_path_factory, data):
    def spoil(content):
        inside = content = copy.deepcopy(content)
        while True:
            keys = list(inside) if isinstance(inside, dict) else range(len(inside))
            key = data.draw(some.sampled_from(keys))
            if not isinstance(inside[key], dict | list) or not inside[key]:
                inside[key] = data.draw(anything)
                return content
            if data.draw(some.integers(0, 3)) == 0:
                inside[key] = data.draw(anything)
                return content
            inside = inside[key]

    folder = coco(tmp_path_factory.getbasetemp() / "coco", spoil)
    try:
        found = read_all(folder)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        there = [classes for classes, *_ in found if classes is not None]
        assert all(classes.shape == SIZE[::-1] for classes in there)


@pytest.mark.fuzz
@given(data=some.data())
def test_any_image_is_decoded_or_refused(tmp_path_factory, data):
    kind = data.draw(some.sampled_from(["png", "jpg", "gif", "bmp", "tiff", "webp", "ppm", "ico"]))
    path = tmp_path_factory.getbasetemp() / f"any.{kind}"
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(some.integers(0, 6))):
        content[data.draw(some.integers(0, len(content) - 1))] = data.draw(some.integers(0, 255))
    path.write_bytes(content[: data.draw(some.integers(0, len(content)))])
    try:
        assert read_photograph(path).mode == "RGB"
    except InputError as error:
        assert "\n" not in str(error)
