"""Predictions in COCO's json: no entry is lost without a word (also evaluation/coco_listing.py)."""

import json

import numpy as np
import pytest
from test_prediction_files import IDS, MAP, SIZE, check, objects, write_json

from mmqsa.errors import InputError
from mmqsa.evaluation.prediction_files import OfCoco, open_predictions

NUMBERS = (7, 8)  # of the images in a json


def both(path, entries, images=None, **more):
    """Annotations beside images; those of both images, unless others are given."""
    images = listing() if images is None else images
    return write_json(path, {"images": images, "annotations": entries} | more)


def listing(*names, ids=NUMBERS, **more):
    names = names or [f"{name}.jpg" for name in IDS]
    return [{"id": key, "file_name": one} | more for key, one in zip(ids, names, strict=True)]


def entries(*ids, labels=MAP):
    return [one for image_id in ids for one in objects(labels, image_id)]


@pytest.mark.parametrize(
    "ids",
    [("7", "8"), (7, "8"), ("007", 8), (7, 8)],
)
def test_ids_match_as_text_or_number(tmp_path, capsys, ids):
    mixed = [
        one | {"image_id": ids[0] if number % 2 else 7}
        for number, one in enumerate(objects(MAP, 7))
    ]
    found = open_predictions(both(tmp_path / "r.json", [*mixed, *entries(ids[1])]), IDS)
    check(found)
    texts = [one | {"id": str(one["id"])} for one in listing()]
    check(open_predictions(both(tmp_path / "t.json", [*mixed, *entries(ids[1])], texts), IDS))
    by_name = [
        one | {"image_id": 139 if number % 2 else "000139"} for number, one in enumerate(mixed)
    ]
    path = write_json(tmp_path / "names.json", [*by_name, *entries(IDS[1])])
    check(open_predictions(path, IDS))
    assert not capsys.readouterr().err


def test_entries_of_no_image_are_named_and_counted(tmp_path, capsys):
    more = entries(*NUMBERS, "x", 9)
    lost = len(more) - len(entries(*NUMBERS))
    said = f"{lost} of {len(more)} entries have an image_id that none of its images has, the fir"
    check(open_predictions(both(tmp_path / "own.json", more), IDS))
    assert f"{said}st 'x'; ignored" in capsys.readouterr().err
    images = write_json(tmp_path / "images.json", {"images": listing()})
    path = write_json(tmp_path / "r.json", more)
    check(open_predictions(path, IDS, of_coco=OfCoco(images)))
    assert f"none of the images of {images} has, the first 'x'; ig" in capsys.readouterr().err
    path = write_json(tmp_path / "n.json", entries(*IDS, "x", 9))
    check(open_predictions(path, IDS))
    said = f"{lost} of {len(more)} entries are of no image of the split, the first of 'x'; ignored"
    assert said in capsys.readouterr().err


@pytest.mark.faults
def test_an_image_that_is_not_listed(tmp_path, capsys):
    """Without entries that may be its own, it is one without an object; with them, refused."""
    one = listing()[:1]
    path = both(tmp_path / "own.json", entries(*NUMBERS), one)
    with pytest.raises(InputError, match=r"first 8, and 2007_000032 is not among them; add it the"):
        open_predictions(path, IDS)
    check(open_predictions(both(path, entries(*NUMBERS), listing()), IDS))  # as advised
    open_predictions(both(path, entries(7), one), IDS)
    said = "images: 1 of 2 images of the split are not there, the first 2007_000032"
    assert said in capsys.readouterr().err


@pytest.mark.faults
@pytest.mark.parametrize("level", ["file", "image", "entry", "mask"])
def test_a_key_twice(tmp_path, level):
    """json.loads takes the last one."""
    path = both(tmp_path / "r.json", entries(*NUMBERS))
    text = path.read_text()
    key, value = {
        "file": ('"annotations"', "[]"),
        "image": ('"file_name"', '"a.jpg"'),
        "entry": ('"image_id"', "3"),
        "mask": ('"counts"', '"a"'),
    }[level]
    path.write_text(text.replace(key, f"{key}: {value}, {key}", 1))
    assert json.loads(path.read_text()) == json.loads(text)
    with pytest.raises(InputError, match=rf"the key '{key[1:-1]}' is there twice"):
        open_predictions(path, IDS)


@pytest.mark.parametrize("name", ["{}.jpg", "val/{}.png", "C:\\data\\{}.jpg", "..\\a/{}.JPEG"])
def test_file_names_with_folders_of_any_system(tmp_path, name):
    images = listing(*(name.format(one) for one in IDS))
    check(open_predictions(both(tmp_path / "r.json", entries(*NUMBERS), images), IDS))


@pytest.mark.faults
def test_advice_where_no_image_has_an_object(tmp_path):
    """--images is advised where the json has none of its own, and then it works."""
    path, named = tmp_path / "r.json", tmp_path / "named.json"
    write_json(named, {"images": listing()})
    write_json(path, entries(*NUMBERS))
    with pytest.raises(InputError, match=r"its image ids are like 7; name .* with --images"):
        open_predictions(path, IDS)
    check(open_predictions(path, IDS, of_coco=OfCoco(named)))
    write_json(path, entries("a", "b"))
    with pytest.raises(InputError, match=r"their ids are like 7; name the json .* with --images"):
        open_predictions(path, IDS, of_coco=OfCoco(named))

    for images, said in (
        (listing("a.jpg", "b.jpg"), "a file_name is like 'a.jpg', and the split has 000000000139"),
        ([], "has no list of images; remove the key, or name the photographs"),
        (listing("x/139_jpg.rf.0aF1.jpg", "b.jpg"), r"000139 is; leave out '_jpg.rf.0aF1'"),
        (listing(ids=(3, 4)), "first 7; their ids are like 3; correct the entries' image_id"),
    ):
        both(path, entries(*NUMBERS), images)
        with pytest.raises(InputError, match=said) as error:
            open_predictions(path, IDS)
        assert "--images" not in str(error.value)
    check(open_predictions(write_json(path, {"annotations": entries(*IDS)}), IDS))
    both(path, entries(*NUMBERS))
    with pytest.raises(InputError, match="leave out --images"):
        open_predictions(path, IDS, of_coco=OfCoco(named))
    check(open_predictions(path, IDS))
    write_json(path, [one | {"image_id": f"{one['image_id']}.jpg"} for one in entries(*IDS)])
    with pytest.raises(InputError, match=r"000139 is; leave out '.jpg'"):
        open_predictions(path, IDS)


def test_entries_that_lack_what_others_have(tmp_path, capsys):
    some = [next(objects(MAP, IDS[0])) | {"bbox": [0, 0, 2, 4]}, *entries(*IDS)]
    assert open_predictions(write_json(tmp_path / "r.json", some), IDS).of(IDS[0], SIZE)[1] is None
    assert f"{len(some) - 1} of {len(some)} entries have no bbox" in capsys.readouterr().err
    some = [*objects(MAP, IDS[0], score=0.5), *entries(IDS[1])]
    open_predictions(write_json(tmp_path / "s.json", some), IDS)
    assert "entries have no score, and count as 1" in capsys.readouterr().err


@pytest.mark.faults
@pytest.mark.parametrize("ids, listed", [((0, 1), (1, 2)), ((1, 2), (0, 1)), (("0", 1), (1, 2))])
def test_entries_that_count_from_another_number_than_images(tmp_path, ids, listed):
    path = both(tmp_path / "r.json", entries(*ids), listing(ids=listed))
    with pytest.raises(InputError, match=r"seems to count from 0 and the other from 1"):
        open_predictions(path, IDS)
    check(open_predictions(both(path, entries(*listed), listing(ids=listed)), IDS))


LARGE = np.zeros((80, 120), np.uint8)
LARGE[10:50, 20:60], LARGE[40:70, 80:110] = 1, 2
BOXES = [[20, 10, 40, 40], [80, 40, 30, 30]]
CORNERS = np.array([[20, 10, 60, 50], [80, 40, 110, 70]])


def boxed(labels, boxes, image_id=IDS[0]):
    """Objects with boxes of their own."""
    masks = list(objects(labels, image_id))[1:]  # without 0
    return [one | {"bbox": box} for one, box in zip(masks, boxes, strict=True)]


@pytest.mark.parametrize("step", [2, 4, 5])
def test_boxes_in_px_of_the_photograph_beside_smaller_masks(tmp_path, capsys, step):
    small, size = LARGE[::step, ::step], LARGE.shape[::-1]
    path = write_json(tmp_path / "r.json", boxed(small, BOXES))
    predictions = open_predictions(path, IDS)
    for _ in range(2):
        found = predictions.of(IDS[0], size)
        np.testing.assert_allclose(found.boxes * step, CORNERS, atol=0.01)
    width, height = small.shape[::-1]
    said = f"masks are {width}x{height} px, and bboxes fit 120x80 px, the photograph's"
    assert capsys.readouterr().err.count(said) == 1
    # Where the photograph's size is unknown, that of the listing tells.
    own = both(
        tmp_path / "own.json",
        boxed(small, BOXES, 7),
        listing(width=120, height=80),
    )
    np.testing.assert_allclose(
        open_predictions(own, IDS).of(IDS[0], None).boxes * step, CORNERS, atol=0.01
    )


@pytest.mark.parametrize("step", [1, 2, 4])
def test_boxes_in_px_of_their_masks(tmp_path, capsys, step):
    small, boxes = LARGE[::step, ::step], (np.array(BOXES) / step).tolist()
    path = write_json(tmp_path / "r.json", boxed(small, boxes))
    found = open_predictions(path, IDS).of(IDS[0], LARGE.shape[::-1])
    np.testing.assert_array_equal(found.boxes, CORNERS / step)
    assert "bbox" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "boxes",
    [
        CORNERS.tolist(),  # x0, y0, x1, y1
        [[one / 120 for one in box] for box in BOXES],
        [[3 * one for one in box] for box in BOXES],  # px of another size
        [[y, x, height, width] for x, y, width, height in BOXES],
    ],
)
def test_boxes_that_do_not_fit_their_masks_are_said(tmp_path, capsys, boxes):
    predictions = open_predictions(write_json(tmp_path / "r.json", boxed(LARGE, boxes)), IDS)
    for _ in range(2):
        predictions.of(IDS[0], LARGE.shape[::-1])
    assert capsys.readouterr().err.count("000139: the bboxes do not fit the masks; in COCO's") == 1


@pytest.mark.faults
@pytest.mark.parametrize(
    "other", [{"bbox": BOXES[1]}, {"segmentation": [[80, 40, 110, 40, 110, 70, 80, 70]]}]
)
def test_small_masks_beside_objects_in_px_of_the_photograph(tmp_path, other):
    mask = list(objects(LARGE[::2, ::2], IDS[0]))[1]
    path = write_json(tmp_path / "r.json", [mask, {"image_id": IDS[0]} | other])
    with pytest.raises(InputError, match=r"RLE masks are 60x40 px, its photograph 120x80.* as RLE"):
        open_predictions(path, IDS).of(IDS[0], (120, 80))
    assert open_predictions(path, IDS).of(IDS[0], (60, 40)).labels.any()  # as large as the masks


@pytest.mark.parametrize(
    "polygon, said",
    [
        ([0.1, 0.1, 0.9, 0.1, 0.9, 0.9], "a polygon has no pixel; in COCO's format it is x, y, x,"),
        ([1, 1, 11, 1, 11, 3, 1, 3], "a polygon reaches out of its photograph"),
    ],
)
def test_polygons_of_another_convention_are_noticed(tmp_path, capsys, polygon, said):
    entry = {"image_id": IDS[0], "segmentation": [polygon]}
    open_predictions(write_json(tmp_path / "r.json", [entry] * 2), IDS).of(IDS[0], SIZE)
    assert capsys.readouterr().err.count(said) == 1
