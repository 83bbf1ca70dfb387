"""The door of predictions, each format of it (evaluation/prediction_files.py and others).

What is particular to COCO's json and to HDF5 is in test_coco_predictions.py and
test_hdf5_predictions.py.
"""

import io
import json
import re

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image
from pycocotools import mask as run_lengths

from mmqsa.errors import InputError
from mmqsa.evaluation.prediction_files import OfCoco, open_predictions
from mmqsa.evaluation.prediction_names import matched

IDS = ["000000000139", "2007_000032"]
SIZE = (6, 4)
MAP = np.array([[0, 0, 7, 7, 7, 255]] * 3 + [[0, 0, 0, 0, 9, 9]], dtype=np.uint8)
SLOTS = np.array([[0, 0, 1, 1, 1, 3]] * 3 + [[0, 0, 0, 0, 2, 2]])


def write_png(folder, labels=MAP, ids=IDS, mode="L"):
    folder.mkdir(exist_ok=True)
    for image_id in ids:
        image = Image.fromarray(labels)
        if mode == "P":
            image = image.convert("P")
            image.putpalette(list(range(256)) * 3)
        image.save(folder / f"{image_id}.png")
    return folder


def write_h5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name.replace("__", "/")] = values
    return path


def write_json(path, data):
    path.write_text(json.dumps(data))
    return path


def objects(labels, image_id, **more):
    """A result for every value of a label map, in the order of the values."""
    for value in np.unique(labels):
        runs = run_lengths.encode(np.asfortranarray(labels == value, dtype=np.uint8))
        mask = {"size": list(labels.shape), "counts": runs["counts"].decode()}
        yield {"image_id": image_id, "category_id": 1, "segmentation": mask} | more


def check(predictions, ids=IDS, size=SIZE):
    for image_id in ids:
        found = predictions.of(image_id, size)
        assert found.labels.dtype == np.uint8 and found.boxes is None
        np.testing.assert_array_equal(found.labels, SLOTS)


@pytest.mark.parametrize("mode, kind", [("L", "u1"), ("P", "u1"), ("I;16", "u2")])
def test_png(tmp_path, mode, kind):
    values = MAP.astype(kind) * (256 if kind == "u2" else 1)  # values above 255 as well
    folder = write_png(tmp_path / "maps", values, mode=mode)
    check(open_predictions(folder, IDS))


def test_suffixes_in_capitals_and_files_whose_name_begins_with_a_dot(tmp_path, capsys):
    folder = write_png(tmp_path / "maps")
    for file in folder.iterdir():
        file.rename(file.with_suffix(".PNG"))
        (folder / f"._{file.stem}.png").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    check(open_predictions(folder, IDS))
    assert not capsys.readouterr().err
    write_png(folder, ids=IDS[:1])
    with pytest.raises(InputError, match=r"139.PNG and 000000000139.png are both of 000000000139"):
        open_predictions(folder, IDS)


def test_a_black_and_white_png_has_two_slots(tmp_path):
    folder = write_png(tmp_path / "maps", MAP > 0)
    assert open_predictions(folder, IDS).of(IDS[0], SIZE).labels.max() == 1


@pytest.mark.parametrize("kind", ["u1", "i8", "u4"])
def test_hdf5_with_a_data_set_for_each_image(tmp_path, kind):
    path = write_h5(tmp_path / "p.h5", **dict.fromkeys(IDS, MAP.astype(kind)))
    check(open_predictions(path, IDS))
    nested = write_h5(tmp_path / "n.h5", **{f"best__{name}": MAP for name in IDS}, other=MAP)
    check(open_predictions(nested, IDS, "best"))


def test_hdf5_of_all_images_in_their_own_order(tmp_path):
    stacked = {"image_id": [b"other", *(name.encode() for name in IDS)]}
    arrays = {"labels": [MAP * 0, MAP, MAP], "visible": np.ones((3, 2))}
    path = write_h5(tmp_path / "p.h5", **arrays, **stacked)
    check(open_predictions(path, IDS))
    several = write_h5(
        tmp_path / "s.h5",
        **{"a/decoder": [MAP] * 3, "b": [MAP * 0] * 3, "heads/1": [MAP * 0] * 3},
        **stacked,
    )
    check(open_predictions(several, IDS, "a/decoder"))
    with pytest.raises(InputError, match=r"several arrays; choose one with --array: a/decoder, b$"):
        open_predictions(several, IDS)
    with pytest.raises(InputError, match="--array c: expected one of a/decoder, b, heads/1"):
        open_predictions(several, IDS, "c")


@pytest.mark.parametrize("ids", [IDS, [139, "2007_000032"], ["139", "2007_000032"]])
def test_a_list_of_coco_results(tmp_path, ids):
    results = [one for name in ids for one in objects(MAP, name, score=0.5)]
    # All pixels are an object's, so slot 0, which is what no object covers, has none.
    check(open_predictions(write_json(tmp_path / "r.json", results), IDS))


def test_coco_annotations_beside_images_that_name_the_photographs(tmp_path):
    images = [
        {"id": number, "file_name": f"train/{name}.jpg", "width": 6, "height": 4}
        for number, name in enumerate(IDS, start=7)
    ]
    results = [one for number in (7, 8) for one in objects(MAP, number)]
    both = write_json(tmp_path / "both.json", {"images": images, "annotations": results})
    check(open_predictions(both, IDS))
    listing = write_json(tmp_path / "images.json", {"images": images})
    path = write_json(tmp_path / "results.json", results)
    check(open_predictions(path, IDS, of_coco=OfCoco(listing)))
    with pytest.raises(InputError, match=r"its image ids are like 7; name the json .* --images"):
        open_predictions(path, IDS)


def test_the_object_of_the_highest_score_is_on_top(tmp_path):
    left, right = (np.zeros((4, 6), dtype=bool) for _ in range(2))
    left[:, :4], right[:, 2:5] = True, True
    entries = [
        next(objects(np.where(mask, 1, 2), IDS[0])) | {"score": score}
        for mask, score in ((left, 0.2), (right, 0.9), (~(left | right), 0.1))
    ]
    path = write_json(tmp_path / "r.json", entries)
    rows = open_predictions(path, IDS).of(IDS[0], None).labels
    assert rows[0].tolist() == [1, 1, 0, 0, 0, 2]  # numbered by score
    fewer = open_predictions(path, IDS, of_coco=OfCoco(least_score=0.15))
    assert fewer.of(IDS[0], None).labels[0].tolist() == [2, 2, 1, 1, 1, 0]  # 0: of no object
    assert (fewer.of(IDS[1], SIZE).labels == 0).all()  # nothing is found in the other image


def test_polygons_and_boxes_are_in_px_of_the_photograph(tmp_path):
    square = {"image_id": IDS[0], "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]]}
    box = {"image_id": IDS[0], "bbox": [1.0, 1.0, 3.0, 2.0]}
    for entry in (square, box):
        found = open_predictions(write_json(tmp_path / "r.json", [entry]), IDS).of(IDS[0], SIZE)
        assert found.labels.tolist() == [[0] * 6, *[[0, 1, 1, 1, 0, 0]] * 2, [0] * 6]
    np.testing.assert_array_equal(found.boxes, [[1, 1, 4, 3]])


def test_scores_may_be_below_zero(tmp_path):
    """Logits and log-probabilities: nothing is left out unless it is asked for."""
    results = [one for name in IDS for one in objects(MAP, name, score=-3.5)]
    path = write_json(tmp_path / "r.json", results)
    check(open_predictions(path, IDS))
    with pytest.raises(
        InputError, match=r"a score >= 0.0, the highest is -3.5; lower --least-score"
    ):
        open_predictions(path, IDS, of_coco=OfCoco(least_score=0.0))


def test_ids_that_only_count_the_images_are_refused(tmp_path):
    """1, 2, 3 are photographs of the split here, but not the first three."""
    ids = ["000001", "000003", "000005"]
    counted = [one for number in (1, 2, 3) for one in objects(MAP, number)]
    with pytest.raises(InputError, match=r"ids 1 to 3 seem to count the images; .* --images"):
        open_predictions(write_json(tmp_path / "counted.json", counted), ids)
    named = [one for number in (1, 3, 5, 8) for one in objects(MAP, number)]
    assert open_predictions(write_json(tmp_path / "named.json", named), ids)


@pytest.mark.parametrize(
    "box, said",
    [([3, 1, 9, 3], "reaches out of its photograph"), ([0.1, 0.1, 0.4, 0.3], "no pixel")],
)
def test_boxes_of_another_convention_are_noticed(tmp_path, capsys, box, said):
    path = write_json(tmp_path / "r.json", [{"image_id": IDS[0], "bbox": box}] * 2)
    open_predictions(path, IDS).of(IDS[0], SIZE)
    assert capsys.readouterr().err.count(said) == 1


def test_nothing_was_found_anywhere(tmp_path):
    predictions = open_predictions(write_json(tmp_path / "r.json", []), IDS)
    assert not predictions.of(IDS[0], SIZE).labels.any()


def test_boxes_are_in_the_order_of_scores(tmp_path):
    entries = [
        {"image_id": IDS[0], "bbox": [0, 0, 2, 2], "score": 0.3},
        {"image_id": IDS[0], "bbox": [2, 2, 4, 1.5], "score": 0.4},
    ]
    found = open_predictions(write_json(tmp_path / "r.json", entries), IDS).of(IDS[0], SIZE)
    np.testing.assert_array_equal(found.boxes, [[2, 2, 6, 3.5], [0, 0, 2, 2]])
    mixed = [*entries, *objects(MAP, IDS[0])]
    assert open_predictions(write_json(tmp_path / "m.json", mixed), IDS).of(IDS[0], SIZE)[1] is None


def test_what_is_of_no_image_is_ignored_with_one_notice(tmp_path, capsys):
    folder = write_png(tmp_path / "maps", ids=[*IDS, "a", "b", "c"])
    check(open_predictions(folder, IDS))
    assert (
        capsys.readouterr().err.count("'a' and 2 more are of no image of the split; ignored") == 1
    )


def test_images_without_objects_are_counted(tmp_path, capsys):
    path = write_json(tmp_path / "r.json", list(objects(MAP, IDS[0])))
    images = [{"id": 1, "file_name": "139.jpg"}]  # MaskCut lists those where it finds something
    own = write_json(tmp_path / "m.json", {"images": images, "annotations": list(objects(MAP, 1))})
    for one in (path, own):
        predictions = open_predictions(one, IDS)
        assert "no object in 1 of 2 images: all background" in capsys.readouterr().err
        assert (predictions.of(IDS[1], SIZE).labels == np.zeros((4, 6))).all()


@pytest.mark.faults
def test_a_missing_prediction_is_named(tmp_path):
    folder = write_png(tmp_path / "maps", ids=IDS[1:])
    with pytest.raises(InputError, match="no prediction of 000000000139, of 2 images; expected 0"):
        open_predictions(folder, IDS)
    path = write_h5(tmp_path / "p.h5", x=MAP)
    with pytest.raises(InputError, match="of 000000000139 and of 1 others, of 2 images; expected"):
        open_predictions(path, IDS)
    path = write_h5(tmp_path / "s.h5", x=[MAP], image_id=[b"139"])
    with pytest.raises(InputError, match="no prediction of 2007_000032"):
        open_predictions(path, IDS)
    images = write_json(tmp_path / "i.json", {"images": [{"id": 1, "file_name": "139.jpg"}]})
    path = write_json(tmp_path / "r.json", list(objects(MAP, 1)))
    with pytest.raises(InputError, match=r"i.json: has no prediction of 2007_000032.*file names"):
        open_predictions(path, IDS, of_coco=OfCoco(images))
    with pytest.raises(InputError, match="'0139' and '139' are both of 000000000139"):
        matched(["0139", "139"], IDS, tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize(
    "labels, said",
    [
        (np.zeros((4, 6, 3), np.uint8), "this one is RGB; store the number of each pixel's slot"),
        (np.arange(400, dtype=np.uint16).reshape(20, 20), "400 different values, more than 255"),
    ],
)
def test_a_png_that_is_no_label_map(tmp_path, labels, said):
    predictions = open_predictions(write_png(tmp_path / "maps", labels), IDS)
    with pytest.raises(InputError, match=said):
        predictions.of(IDS[0], SIZE)
    (tmp_path / "maps" / f"{IDS[0]}.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(InputError, match=r"139.png: cannot be read as PNG"):
        predictions.of(IDS[0], SIZE)


def save_animation(file):
    frames = [Image.fromarray(labels) for labels in (MAP, MAP[::-1].copy())]
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])


@pytest.mark.faults
@pytest.mark.parametrize(
    "save, said",
    [
        (save_animation, "an animated PNG of 2 frames, and a label map is one image; save the"),
        (lambda file: Image.fromarray(MAP).save(file, "JPEG"), "is no PNG, whatever its name says"),
        (lambda file: Image.fromarray(MAP).save(file, "TIFF"), "is no PNG, whatever its name says"),
        (lambda file: Image.fromarray(MAP).convert("RGBA").save(file), "this one is RGBA"),
        (lambda file: Image.fromarray(MAP).convert("LA").save(file), "this one is LA"),
        (lambda file: file.write_bytes(b""), "cannot be read as PNG"),
        (lambda file: file.mkdir(), "not a regular file"),
    ],
)
def test_a_file_that_is_called_png(tmp_path, save, said):
    folder = write_png(tmp_path / "maps", ids=IDS[1:])
    save(folder / f"{IDS[0]}.png")
    with pytest.raises(InputError, match=said):
        open_predictions(folder, IDS).of(IDS[0], SIZE)
    if (folder / f"{IDS[0]}.png").is_file():
        check(open_predictions(write_png(folder), IDS))  # as advised


@pytest.mark.faults
@pytest.mark.parametrize("height, width", [(1, 1), (1, 4), (3, 3), (3, 5)])
def test_a_map_too_small_to_have_an_aspect_ratio(tmp_path, height, width):
    small = np.zeros((height, width), np.uint8)
    folder, size = write_png(tmp_path / "maps", small), (500, 375)
    path = write_h5(tmp_path / "p.h5", **dict.fromkeys(IDS, small))
    results = [one for name in IDS for one in objects(small, name)]
    for one in (folder, path, write_json(tmp_path / "r.json", results)):
        with pytest.raises(InputError, match=r"px are too few .* of 500x375 px, .* 4 px a side"):
            open_predictions(one, IDS).of(IDS[0], size)
    assert open_predictions(folder, IDS).of(IDS[0], (width, height))  # of a photograph as small


@pytest.mark.faults
def test_a_folder_of_something_else(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    with pytest.raises(InputError, match=r"holds no PNG label map; expected 0+139.png and so on$"):
        open_predictions(folder, IDS)
    np.save(folder / "000000000139.npy", MAP)
    with pytest.raises(InputError, match=r"and so on .there is '000000000139.npy'."):
        open_predictions(folder, IDS)
    inner = write_png(folder / "val")
    with pytest.raises(InputError, match=f"holds no PNG label map; {inner} does: name that folder"):
        open_predictions(folder, IDS)
    check(open_predictions(inner, IDS))


@pytest.mark.faults
def test_what_was_added_to_a_name_is_to_be_left_out(tmp_path):
    """Names that a program made of the photograph's: each format says which, and what to do."""
    folder, name = tmp_path / "maps", "2007_000032"
    for added in (".jpg", ".JPG", "_jpg.rf.0a1b2c3d", ".jpg.png", " "):
        write_png(folder, ids=[IDS[0], name + added])
        with pytest.raises(InputError, match=f"{name} is; leave out '{re.escape(added)}'"):
            open_predictions(folder, IDS)
        (folder / f"{name}{added}.png").rename(folder / f"{name}.png")
        check(open_predictions(folder, IDS))
        (folder / f"{name}.png").unlink()
    path = write_h5(tmp_path / "p.h5", x=[MAP] * 2, image_id=[b"139", b"voc/2007_000032.jpg"])
    with pytest.raises(InputError, match=r"2007_000032 is; leave out 'voc/' and '.jpg'"):
        open_predictions(path, IDS)
    write_h5(path, x=[MAP] * 2, image_id=[b"139", b"mask of 32"])
    with pytest.raises(InputError, match="image_id, where there is 'mask of 32'"):
        open_predictions(path, IDS)


@pytest.mark.faults
def test_255_slots_are_the_most(tmp_path):
    labels = np.arange(255, dtype=np.uint8).reshape(15, 17) + 1
    predictions = open_predictions(write_png(tmp_path / "maps", labels), IDS)
    assert predictions.of(IDS[0], None).labels.max() == 254
    write_png(tmp_path / "maps", np.arange(256, dtype=np.uint8).reshape(16, 16))
    with pytest.raises(InputError, match="256 different values"):
        predictions.of(IDS[0], None)


@pytest.mark.faults
@pytest.mark.parametrize(
    "values, said",
    [
        (np.zeros((2, 4, 6), np.float32), "float32 is no label map .soft masks"),
        (np.zeros((2, 3, 4, 6), np.uint8), r"shape \(3, 4, 6\) is no label map, which is \(h, w\)"),
        (np.zeros((2, 0, 6), np.uint8), r"shape \(0, 6\)"),
    ],
)
def test_an_array_that_is_no_label_map(tmp_path, values, said):
    path = write_h5(tmp_path / "p.h5", x=values, image_id=[name.encode() for name in IDS])
    with pytest.raises(InputError, match=said):
        open_predictions(path, IDS).of(IDS[0], SIZE)


@pytest.mark.faults
def test_hdf5_from_elsewhere(tmp_path):
    path = tmp_path / "p.h5"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"p.h5: cannot be read as HDF5"):
        open_predictions(path, IDS)
    other = write_h5(tmp_path / "other.h5", **dict.fromkeys(IDS, MAP))
    with h5py.File(path, "w") as file:
        for name in IDS:
            file[name] = h5py.ExternalLink(other, name)
    with pytest.raises(InputError, match="has no prediction"):
        open_predictions(path, IDS)
    write_h5(path, x=[MAP] * 2, image_id=[b"139", b"139"])
    with pytest.raises(InputError, match="an image_id is there twice"):
        open_predictions(path, IDS)
    write_h5(path, x=MAP, image_id=[name.encode() for name in IDS])
    with pytest.raises(InputError, match=r"holds no array \(N, h, w\) beside image_id"):
        open_predictions(path, IDS)


GOOD = next(objects(MAP, IDS[0]))


@pytest.mark.faults
@pytest.mark.parametrize(
    "data, said",
    [
        ({}, "expected a list of results, or annotations and images"),
        ({"annotations": [], "images": {}}, "expected a list of results"),
        ([3], "entry 0: .*not 3"),
        ([{"image_id": True}], "entry 0: image_id"),
        ([GOOD | {"score": float("nan")}], "entry 0: score"),
        ([GOOD | {"bbox": [1, 2, 3]}], "entry 0: bbox"),
        ([{"image_id": 139}], "entry 0: neither segmentation nor bbox"),
        ([{"image_id": 139, "bbox": [1, 1, -1, 1]}], "a bbox .* has a negative size"),
        ([{"image_id": 139, "segmentation": {"counts": "x"}}], "a mask whose size is None"),
        ([{"image_id": 139, "segmentation": {"size": [4, 6], "counts": "x"}}], "no readable shape"),
        ([{"image_id": 139, "segmentation": {"size": [9**9, 6], "counts": "x"}}], "megapixels"),
        ([{"image_id": 139, "segmentation": [[1, 2, 3]]}], "a polygon has 3 numbers"),
        ([GOOD, next(objects(MAP[:2], 139))], r"different sizes, \[\(6, 2\), \(6, 4\)\]"),
        ([GOOD, next(objects(MAP[:2], IDS[0]))], r"different sizes, \[\(6, 2\), \(6, 4\)\]"),
        ({"annotations": [GOOD], "images": [{"id": 1}]}, "images: entry 0: file_name"),
        (
            {"annotations": [], "images": [{"id": 1, "file_name": f"{n}.jpg"} for n in (1, 139)]},
            "images: two have the id '1'; correct it",
        ),
    ],
)
def test_json_from_elsewhere(tmp_path, data, said):
    with pytest.raises(InputError, match=said):
        open_predictions(write_json(tmp_path / "r.json", data), IDS).of(IDS[0], SIZE)


@pytest.mark.faults
def test_options_of_another_format_and_files_of_none(tmp_path):
    folder = write_png(tmp_path / "maps")
    with pytest.raises(InputError, match="--array x: of an HDF5 file"):
        open_predictions(folder, IDS, "x")
    with pytest.raises(InputError, match="--images, --least-score: of COCO's json"):
        open_predictions(folder, IDS, of_coco=OfCoco(least_score=0.5))
    own = write_json(tmp_path / "own.json", {"annotations": [], "images": []})
    with pytest.raises(InputError, match="has images of its own, and its ids are those"):
        open_predictions(own, IDS, of_coco=OfCoco(own))
    with pytest.raises(InputError, match=r"list.json: has no list of images"):
        listing = write_json(tmp_path / "list.json", [])
        open_predictions(listing, IDS, of_coco=OfCoco(listing))
    with pytest.raises(InputError, match="no such folder or file of predictions"):
        open_predictions(tmp_path / "nothing.h5", IDS)
    with pytest.raises(InputError, match=r"expected a folder of PNG label maps, FILE.h5 or"):
        open_predictions(folder / f"{IDS[0]}.png", IDS)
    (tmp_path / "bad.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"bad.json: cannot be read as JSON"):
        open_predictions(tmp_path / "bad.json", IDS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("door")


def read_or_refuse(path):
    """A label map, or one line."""
    try:
        found = open_predictions(path, IDS[:1]).of(IDS[0], SIZE)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert found.labels.dtype == np.uint8 and found.labels.ndim == 2 and found.labels.size


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=5),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=4), inner),
    max_leaves=8,
)
NUMBER = some.integers(-3, 10) | some.floats()


@pytest.mark.fuzz
@given(
    entry=some.fixed_dictionaries(
        {"image_id": some.sampled_from([139, IDS[0], "x"]) | JSON},
        optional={
            "score": NUMBER | JSON,
            "bbox": some.lists(NUMBER, min_size=3, max_size=5) | JSON,
            "segmentation": some.lists(some.lists(NUMBER, max_size=9), max_size=2)
            | some.fixed_dictionaries(
                {"size": some.sampled_from([[4, 6], [0, 6]]) | JSON},
                optional={"counts": some.text(max_size=9) | some.lists(NUMBER, max_size=5)},
            )
            | JSON,
        },
    )
    | JSON,
    listed=some.booleans(),
)
def test_any_json(place, entry, listed):
    path = place / "r.json"
    read_or_refuse(write_json(path, [entry] if listed else entry))


@pytest.mark.fuzz
@given(
    shape=some.lists(some.integers(0, 4), max_size=4),
    kind=some.sampled_from(["?", "u1", "i2", "u8", "f2", "c8", "S3", "O"]),
    name=some.sampled_from([IDS[0], "139", "x", "image_id"]),
)
def test_any_array(place, shape, kind, name):
    path = place / "p.h5"
    with h5py.File(path, "w") as file:
        dtype = h5py.string_dtype() if kind == "O" else kind
        file.create_dataset(name, shape, dtype)
        if name == "x":
            file["image_id"] = [b"139"]
    read_or_refuse(path)


PNG = io.BytesIO()
Image.fromarray(MAP).save(PNG, "PNG")


@pytest.mark.fuzz
@given(cut=some.integers(0, len(PNG.getvalue())), change=some.binary(max_size=6))
def test_any_png(place, cut, change):
    folder = place / "maps"
    folder.mkdir(exist_ok=True)
    content = PNG.getvalue()
    content = content[:cut] + change + content[cut + len(change) :]
    (folder / f"{IDS[0]}.png").write_bytes(content)
    read_or_refuse(folder)
