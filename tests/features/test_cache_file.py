"""The door of feature caches: whatever an HDF5 file holds, a cache or one line."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mmqsa.errors import InputError, MachineError
from mmqsa.features.cache import FeatureCache
from mmqsa.features.cache_writer import CacheWriter

IMAGES, GRID, SIDE, DIM = 3, 2, 8, 4
ATTRIBUTES = {
    **{"dataset": "made", "split": "val", "geometry": "crop", "corruption": None},
    **{"backbone": "vit", "feature": "key", "blocks": [0], "combine": "concatenate"},
    **{"position_rule": "timm", "precision": "fp32", "image_size": SIDE, "grid": GRID},
    **{"mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 20},
    **dict.fromkeys(("ids_sha256", "weights_sha256"), "0" * 64),
}


def write_cache(path, ids=("a", "b", "c")):
    """A small labelled cache."""
    writer = CacheWriter(path, list(ids), ATTRIBUTES, {}, (GRID**2, DIM))
    maps = [np.full((SIDE, SIDE), label, np.uint8) for label in (0, 1, 255)]
    boxes = [np.array([[0.0, 0, 4, 4]]), None, np.array([[1.0, 1, 2, 2]])]
    features = np.arange(IMAGES * GRID**2 * DIM).reshape(IMAGES, GRID**2, DIM)
    writer.write(writer.pending, features, {"classes": maps, "instances": maps}, boxes)
    writer.finish()
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_cache(tmp_path_factory.mktemp("cache") / "whole.h5")


def read_all(path):
    """All that any stage reads of a cache."""
    cache = FeatureCache(path)
    return cache.ids, cache.name, cache.features[:], cache.classes[:], cache.boxes


def replaced(name, *arguments, **options):
    def change(file):
        del file[name]
        file.create_dataset(name, *arguments, **options)

    return change


def linked(name, link):
    def change(file):
        del file[name]
        file[name] = link

    return change


def attribute(value):
    return lambda file: file.attrs.__setitem__("attributes", value)


def told(**changes):
    return attribute(json.dumps(ATTRIBUTES | changes))


def with_external_storage(file):
    del file["features"]
    outside = [("/etc/passwd", 0, 96)]
    file.create_dataset("features", (IMAGES, GRID**2, DIM), "f2", external=outside)


def with_virtual_storage(file):
    del file["features"]
    layout = h5py.VirtualLayout((IMAGES, GRID**2, DIM), "f2")
    layout[:] = h5py.VirtualSource("other.h5", "features", (IMAGES, GRID**2, DIM))
    file.create_virtual_dataset("features", layout)


def with_boxes_never_written(file):
    """Millions of them in a small file: HDF5 would fill the memory with zeros."""
    for name in ("boxes", "box_image"):
        file[name].resize(9_000_000, axis=0)


def with_images_never_written(file):
    for name, shape in (("features", (10**9, 4, DIM)), ("done", (10**9,)), ("image_id", (10**9,))):
        dtype = file[name].dtype
        del file[name]
        file.create_dataset(name, shape, dtype)
    for name in ("classes", "instances", "boxes", "box_image"):
        del file[name]


def label(value):
    return lambda file: file["classes"].__setitem__((1, 0, 0), value)


BAD = {
    "another group": (lambda file: file.move("features", "keys"), "it has no features"),
    "a group for an array": (linked("features", h5py.SoftLink("/")), "is a link to another place"),
    "a soft link": (linked("features", h5py.SoftLink("/done")), "is a link to another place"),
    "a broken link": (linked("done", h5py.SoftLink("/x")), "done is a link"),
    "an external link": (linked("done", h5py.ExternalLink("x.h5", "/done")), "done is a link"),
    "raw storage elsewhere": (with_external_storage, "are in another file"),
    "a virtual array": (with_virtual_storage, "are in another file"),
    "integer keys": (replaced("features", (IMAGES, 4, DIM), "i2"), "features is 3-d int16"),
    "fewer keys": (replaced("features", (2, 4, DIM), "f2"), "classes is (3, 8, 8), not (2, 8, 8)"),
    "flat keys": (replaced("features", (IMAGES, 16), "f2"), "features is 2-d"),
    "another grid": (replaced("features", (IMAGES, 9, DIM), "f2"), "features is (3, 9, 4), not"),
    "nothing in it": (
        replaced("features", (0, 4, DIM), "f2"),
        "not (0, 8, 8)",
    ),
    "no bytes": (replaced("features", (IMAGES, 4, DIM), "f2"), "bytes of features are missing"),
    "boxes never written": (with_boxes_never_written, "bytes of box_image are missing"),
    "images never written": (with_images_never_written, "more than any stage could read"),
    "ids never written": (replaced("image_id", (IMAGES,), "S1"), "bytes of image_id are missing"),
    "features too wide": (replaced("features", (IMAGES, 4, 10**9), "f2"), "more than any stage"),
    "wide labels": (replaced("classes", data=np.full((3, 8, 8), 300)), "classes is 3-d int64"),
    "other labels": (replaced("classes", (IMAGES, 9, 9), "u1"), "classes is (3, 9, 9), not"),
    "a label of 21": (label(21), "of b the labels are of unknown classes"),
    "not finite": (
        lambda file: file["features"].__setitem__((2, 0, 0), np.nan),
        "of c the features are not finite",
    ),
    "repeated ids": (replaced("image_id", data=np.array([b"a", b"b", b"a"])), "'a' is there twice"),
    "an id that is a path": (
        replaced("image_id", data=np.array([b"a", b"b", b"../c"])),
        "no image",
    ),
    "ids that are numbers": (replaced("image_id", data=np.arange(3)), "image_id is 1-d int64"),
    "a box elsewhere": (lambda file: file["box_image"].__setitem__(0, 7), "is not there"),
    "a box without end": (lambda file: file["boxes"].__setitem__((0, 0), np.inf), "not finite"),
    "one of the boxes": (lambda file: file.__delitem__("boxes"), "and one is missing"),
    "compressed": (
        replaced("done", data=np.ones(3, bool), chunks=(3,), compression="gzip"),
        "done is compressed",
    ),
    "not done": (lambda file: file["done"].__setitem__(1, False), "has not finished"),
    "no attributes": (lambda file: file.attrs.__delitem__("attributes"), "no JSON text but None"),
    "attributes that are no JSON": (attribute("{"), "no JSON text but '{'"),
    "a list of attributes": (attribute("[1]"), "its attributes are [1]"),
    "empty attributes": (attribute(""), "no JSON text"),
    "attributes that are an array": (attribute(np.arange(3)), "no JSON text"),
    "a dataset that is a path": (told(dataset="../../x"), "attributes: dataset"),
    "a split of its own": (told(split="/tmp/x"), "attributes: split"),
    "a corruption of its own": (told(corruption="../fog3"), "attributes: corruption"),
    "a grid as text": (told(grid="2"), "attributes: grid"),
    "a huge grid": (told(grid=10**30), "attributes: grid"),
    "patches that are not whole": (told(image_size=9), "not divided by a grid of 2 patches"),
    "a mean of 0 to 255": (told(mean=[123.7, 116.3, 103.5]), "attributes: mean.0"),
    "a mean without end": (told(mean=[1e300] * 3), "attributes: mean.0"),
    "a std of nothing": (told(std=[0.0] * 3), "attributes: std.0"),
}


@pytest.mark.faults
@pytest.mark.parametrize("what", BAD)
def test_what_is_no_cache_is_refused_in_a_line(tmp_path, whole, what):
    change, said = BAD[what]
    path = shutil.copy(whole, tmp_path / "bad.h5")
    with h5py.File(path, "a", locking=False) as file:
        change(file)
    with pytest.raises(InputError) as refused:
        read_all(path)
    line = str(refused.value)
    assert line.startswith(f"{path}: ") and said in line and "\n" not in line and len(line) < 400


def test_a_cache_of_a_network_with_rotary_positions(tmp_path, whole):
    path = shutil.copy(whole, tmp_path / "rotary.h5")
    with h5py.File(path, "a", locking=False) as file:
        told(position_rule="rotary")(file)
    assert FeatureCache(path).network["position_rule"] == "rotary"


def test_ids_beyond_ascii(tmp_path):
    path = write_cache(tmp_path / "ids.h5", ["café", "жук", "a b'$(x)"])
    assert FeatureCache(path).ids == ["café", "жук", "a b'$(x)"]


@pytest.mark.faults
@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"\x89HDF\r\n\x1a\n" + b"\0" * 500])
def test_what_is_no_hdf5(tmp_path, content):
    path = tmp_path / "bad.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable feature cache"):
        FeatureCache(path)


@pytest.mark.faults
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    for path in (tmp_path / "pipe.h5", tmp_path):
        with pytest.raises(InputError, match="not a regular file"):
            FeatureCache(path)


@pytest.mark.faults
def test_an_unfinished_cache_that_is_something_else(tmp_path, whole):
    """It is neither continued nor overwritten."""
    partial = tmp_path / "val.h5.partial"
    shutil.copy(whole, partial)
    with h5py.File(partial, "a", locking=False) as file:
        del file["features"]
    before = partial.read_bytes()
    with pytest.raises(InputError, match="it has no features"):
        CacheWriter(tmp_path / "val.h5", ["a", "b", "c"], ATTRIBUTES, {}, (GRID**2, DIM))
    assert partial.read_bytes() == before


def of_another_kind(path):
    with h5py.File(path, "w", libver="latest") as file:
        file["mine"] = np.arange(9)


def without_boxes(path):
    """It would be finished without those of the images that are done."""
    with h5py.File(path, "a", locking=False) as file:
        del file["boxes"], file["box_image"]
        file["done"][1] = False


def with_damage(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b"SNOD", b"GONE"))


@pytest.mark.faults
@pytest.mark.parametrize(
    "spoil, ids, said",
    [
        (of_another_kind, "abc", "its attributes are no JSON text"),
        (without_boxes, "abc", "it has no boxes"),
        (with_damage, "abc", "delete it"),
        (lambda path: None, "abd", "of other images"),
        (lambda path: path.write_bytes(b"mine"), "abc", "delete it to start over"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "abc", "not a regular file"),
    ],
)
def test_an_unfinished_cache_is_continued_only_if_it_is_one(tmp_path, whole, spoil, ids, said):
    partial = tmp_path / "val.h5.partial"
    shutil.copy(whole, partial)
    spoil(partial)
    before = partial.read_bytes() if partial.is_file() else None
    with pytest.raises(InputError, match=said):
        CacheWriter(tmp_path / "val.h5", list(ids), ATTRIBUTES, {}, (GRID**2, DIM))
    assert before is None or partial.read_bytes() == before


def test_a_cache_without_boxes_that_only_lacks_its_name(tmp_path, whole):
    """It was killed after the arrays of boxes, which hold none, were taken away."""
    partial = tmp_path / "val.h5.partial"
    shutil.copy(whole, partial)
    with h5py.File(partial, "a", locking=False) as file:
        del file["boxes"], file["box_image"]
    writer = CacheWriter(tmp_path / "val.h5", ["a", "b", "c"], ATTRIBUTES, {}, (GRID**2, DIM))
    assert not len(writer.pending)
    writer.finish()
    assert FeatureCache(tmp_path / "val.h5").boxes is None


def test_each_image_has_its_own_boxes(whole):
    boxes = FeatureCache(whole).boxes
    assert [of_image.tolist() for of_image in boxes] == [[[0, 0, 4, 4]], [], [[1, 1, 2, 2]]]


@pytest.mark.fuzz
@given(data=some.data())
def test_a_cache_with_any_bytes_changed(whole, tmp_path_factory, data):
    """HDF5 has no checksums here: the same ids and shapes, other numbers, or one line."""
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(some.integers(1, 4))):
        place = data.draw(some.integers(0, len(content) - 8))
        content[place : place + 8] = data.draw(some.binary(min_size=8, max_size=8))
    if data.draw(some.booleans()):
        del content[data.draw(some.integers(0, len(content))) :]
    # A name of its own: HDF5 knows a file that is open by its inode.
    path = tmp_path_factory.getbasetemp() / f"spoiled-{os.getpid()}.h5"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        ids, _, features, classes, _ = read_all(path)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert len(ids) == len(features) == len(classes) and np.isfinite(features).all()


def test_boxes_of_a_batch_that_failed_are_written_once_and_of_their_images(tmp_path, monkeypatch):
    """The disk fills up between the boxes and the images that they are of; then there is room."""
    path, features = tmp_path / "val.h5", np.zeros((IMAGES, GRID**2, DIM))
    boxes = [np.array([[index, 0.0, 4, 4]] * 2) for index in range(IMAGES)]

    def write(batches):
        writer = CacheWriter(path, ["a", "b", "c"], ATTRIBUTES, {}, (GRID**2, DIM))
        try:
            for batch in batches:
                rows = np.array(batch)
                writer.write(rows, features[rows], {}, [boxes[row] for row in rows])
            writer.finish()
        finally:
            writer.close()

    stored = h5py.Dataset.__setitem__

    def full(self, rows, values):
        if self.name == "/box_image" and 2 in np.asarray(values):
            raise OSError("no space left")
        stored(self, rows, values)

    with monkeypatch.context() as patched, pytest.raises(MachineError, match="no space left"):
        patched.setattr(h5py.Dataset, "__setitem__", full)
        write([[0], [1, 2]])
    write([[1, 2]])
    assert [own[:, 0].tolist() for own in FeatureCache(path).boxes] == [[0, 0], [1, 1], [2, 2]]


SIZES = np.array([[8, 6], [4, 8], [9, 3]], np.int32)  # 4, 2 and 3 patches of 4 px
NATIVE = ATTRIBUTES | {"geometry": "native"}


def write_native(path):
    """A small cache of photographs at their own size."""
    writer = CacheWriter(path, ["a", "b", "c"], NATIVE, {}, (GRID**2, DIM), SIZES)
    for index, patches in enumerate((4, 2, 3)):
        boxes = [np.array([[0.0, 0, index + 1, 3]])]
        writer.write(np.array([index]), np.full((1, patches, DIM), index), {}, boxes)
    writer.finish()
    return path


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    return write_native(tmp_path_factory.mktemp("cache") / "native.h5")


@pytest.mark.fuzz
@given(data=some.data())
def test_photographs_at_their_own_size_with_any_bytes_changed(native, tmp_path_factory, data):
    content = bytearray(native.read_bytes())
    for _ in range(data.draw(some.integers(1, 4))):
        place = data.draw(some.integers(0, len(content) - 8))
        content[place : place + 8] = data.draw(some.binary(min_size=8, max_size=8))
    path = tmp_path_factory.getbasetemp() / f"spoiled-native-{os.getpid()}.h5"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        cache = FeatureCache(path)
        images = [cache.of_image(index) for index in range(len(cache.ids))]
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert [len(image) for image in images] == cache.grids.prod(axis=1).tolist()
        assert all(np.isfinite(image).all() for image in images)


NATIVE_BAD = {
    "no sizes": (lambda file: file.__delitem__("size"), "it has no size"),
    "other sizes": (lambda file: file["size"].__setitem__((1, 0), 5), "have 11 patches"),
    "a size of nothing": (lambda file: file["size"].__setitem__((1, 0), 0), "1 to 65535 px"),
    "sizes of others": (replaced("size", data=SIZES[:2]), "size is (2, 2), not (3, 2)"),
    "features of squares": (replaced("features", (3, 4, DIM), "f2"), "features is 3-d"),
    "a square's attributes": (told(geometry="crop"), "features is 2-d"),
    "not finite": (
        lambda file: file["features"].__setitem__((5, 0), np.nan),
        "of b the features are not finite",
    ),
    "bytes that are missing": (replaced("features", (9, DIM), "f2"), "bytes of features"),
}


@pytest.mark.faults
@pytest.mark.parametrize("what", NATIVE_BAD)
def test_what_is_no_cache_of_photographs_at_their_own_size(tmp_path, what):
    path = write_native(tmp_path / "own.h5")
    assert [FeatureCache(path).of_image(index).shape for index in range(3)] == [
        (4, DIM),
        (2, DIM),
        (3, DIM),
    ]
    change, said = NATIVE_BAD[what]
    with h5py.File(path, "a", locking=False) as file:
        change(file)
    with pytest.raises(InputError) as refused:
        cache = FeatureCache(path)
        [cache.of_image(index) for index in range(3)]
    line = str(refused.value)
    assert line.startswith(f"{path}: ") and said in line and "\n" not in line
