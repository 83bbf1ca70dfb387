"""Predictions in HDF5: whatever a file promises, a label map or one line, before much is read."""

import time
import tracemalloc

import h5py
import numpy as np
import pytest
from test_prediction_files import IDS, MAP, SIZE, check, write_h5

from mmqsa.errors import InputError
from mmqsa.evaluation.prediction_files import open_predictions

NAMES = [name.encode() for name in IDS]
WHOLE = np.stack([MAP, MAP])


def made(path, make):
    """A file that ``make`` fills."""
    with h5py.File(path, "w") as file:
        make(file)
    return path


def listed(make):
    """Beside ``image_id``, what ``make`` puts there."""

    def fill(file):
        file["image_id"] = NAMES
        make(file)

    return fill


def by_image(**options):
    """A whole array of the first image, and one of the second as the options say."""

    def fill(file):
        file[IDS[0]] = MAP
        file.create_dataset(IDS[1], **options)

    return fill


def rows(written, **options):
    """An array of both images of which some rows were written."""

    def fill(file):
        array = file.create_dataset("x", WHOLE.shape, "u1", **options)
        for row in written:
            array[row] = MAP

    return listed(fill)


def left_half(file):
    array = file.create_dataset(IDS[0], SIZE[::-1], "u1", chunks=(4, 3))
    array[:, :3] = MAP[:, :3]
    file[IDS[1]] = MAP


@pytest.mark.faults
@pytest.mark.parametrize(
    "make, said",
    [
        (rows([]), "x: 000000000139: was never written"),
        (rows([0], chunks=(1, 4, 6)), "x: 2007_000032: was never written"),
        (rows([1], chunks=(1, 2, 6), compression="gzip"), "x: 000000000139: was never written"),
        (by_image(shape=(4, 6), dtype="u1"), "2007_000032: was never written"),
        (left_half, "000000000139: was never written, or in part"),
        (by_image(data=h5py.Empty("u1")), "2007_000032: is empty .a data space without elements"),
        (by_image(data=np.uint8(3)), r"shape \(\) is no label map"),
        (by_image(shape=(0, 6), maxshape=(None, 6), dtype="u1"), r"shape \(0, 6\) is no label map"),
        (by_image(data=np.zeros((4, 6), [("slot", "u1"), ("score", "f4")])), "is no label map; st"),
        (by_image(shape=(4, 6), dtype=h5py.ref_dtype), "object is no label map"),
        (by_image(data=[["a"] * 6] * 4), "object is no label map"),
        (by_image(data=np.zeros((4, 6), "c8")), "complex64 is no label map"),
        (by_image(data=MAP.astype("f4")), "float32 is no label map .soft masks"),
        (by_image(shape=(4, 6), dtype="u1", external=[("x.raw", 0, 24)]), "bytes are in another f"),
        (lambda file: [file.create_group(name) for name in IDS], "139: is no array; store the lab"),
        (listed(lambda file: file.update({"y": h5py.SoftLink("/no")})), r"holds no array \(N, h"),
        (rows([0, 1], maxshape=(None, 4, 6)), None),
        (listed(lambda file: file.create_dataset("x", data=h5py.Empty("u1"))), "holds no array"),
        (
            listed(lambda file: file.create_dataset("x", (0, 4, 6), "u1", maxshape=(None, 4, 6))),
            r"whose N is 2 .'x \(0, 4, 6\)'",
        ),
    ],
)
def test_an_array_that_is_not_there_as_it_should_be(tmp_path, make, said):
    path = made(tmp_path / "p.h5", make)
    if said is None:
        return check(open_predictions(path, IDS))
    with pytest.raises(InputError, match=said) as error:
        open_predictions(path, IDS)
    assert "\n" not in str(error.value)


@pytest.mark.faults
@pytest.mark.parametrize(
    "listing, said",
    [
        (h5py.Empty("S3"), r"expected a list of names \(N,\), text, not \|S3 None"),
        (np.array([[b"139"], [b"2007_000032"]]), r"not \|S11 \(2, 1\)"),
        (b"139", r"not object \(\)"),
        ([1.0, 2.0], r"not float64 \(2,\)"),
    ],
)
def test_a_listing_that_is_none(tmp_path, listing, said):
    path = write_h5(tmp_path / "p.h5", x=WHOLE, image_id=listing)
    with pytest.raises(InputError, match=said):
        open_predictions(path, IDS)


@pytest.mark.faults
@pytest.mark.parametrize("dtype", ["S11", h5py.string_dtype()])
def test_a_listing_that_was_never_written(tmp_path, dtype):
    path = write_h5(tmp_path / "p.h5", x=WHOLE)
    with h5py.File(path, "a") as file:
        file.create_dataset("image_id", (2,), dtype)
    with pytest.raises(InputError, match="image_id: was never written"):
        open_predictions(path, IDS)


def test_rows_of_other_images_need_not_be_written(tmp_path):
    def make(file):
        file["image_id"] = [b"other", *NAMES]
        file.create_dataset("x", (3, 4, 6), "u1", chunks=(1, 4, 6))[1:] = WHOLE

    check(open_predictions(made(tmp_path / "p.h5", make), IDS))


def test_two_names_of_one_array(tmp_path):
    """Hard and soft links inside the file are names like any other."""

    def all_images(file):
        file["image_id"], file["x"] = NAMES, WHOLE
        file["best"], file["also"] = file["x"], h5py.SoftLink("/x")
        file["ids"] = file["image_id"]

    def each_image(file):
        file["a"], file[IDS[1]] = MAP, h5py.SoftLink("a")
        file[IDS[0]] = file["a"]
        file["group/inner"] = h5py.SoftLink("/")  # a circle
        file["group/up"] = file["group"]

    path = made(tmp_path / "all.h5", all_images)
    for array in (None, "x", "best", "also", "/x"):
        check(open_predictions(path, IDS, array))
    path = made(tmp_path / "each.h5", each_image)
    for array in (None, "group/inner", "group/up/up/inner"):
        check(open_predictions(path, IDS, array))


@pytest.mark.faults
@pytest.mark.parametrize(
    "link",
    [
        h5py.SoftLink("/nothing"),
        h5py.SoftLink(f"/{IDS[0]}"),  # itself
        h5py.SoftLink("/elsewhere/000000000139"),
        h5py.ExternalLink("other.h5", IDS[0]),
    ],
)
def test_a_link_to_nothing_or_into_another_file(tmp_path, link):
    write_h5(tmp_path / "other.h5", **dict.fromkeys(IDS, MAP))
    path = write_h5(tmp_path / "p.h5", **{IDS[1]: MAP})
    with h5py.File(path, "a") as file:
        file[IDS[0]], file["elsewhere"] = link, h5py.ExternalLink("other.h5", "/")
    with pytest.raises(InputError, match="no prediction of 000000000139: 000000000139 is a link t"):
        open_predictions(path, IDS)


@pytest.mark.faults
def test_a_small_file_with_a_chunk_of_gigabytes(tmp_path):
    """To read one map, HDF5 would unpack all of it."""
    maps, side = 2, 20_000

    def make(file):
        shape = (maps, side, side)
        array = file.create_dataset("x", shape, "u1", chunks=shape, compression="gzip")
        array.id.write_direct_chunk((0, 0, 0), b"x")  # it is not unpacked

    path = made(tmp_path / "p.h5", listed(make))
    tracemalloc.start()
    start = time.monotonic()
    with pytest.raises(InputError, match=r"compressed in chunks of 0.8 GB, more than 0.256 GB"):
        open_predictions(path, IDS)
    assert time.monotonic() - start < 1 and tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@pytest.mark.faults
def test_a_compression_that_is_not_installed(tmp_path):
    """Bytes of Blosc: the filter is named in the file, and h5py lacks it."""

    def make(file):
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(WHOLE.shape)
        properties.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple(WHOLE.shape)
        array = h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT8, space, properties)
        array.write_direct_chunk((0, 0, 0), b"packed")

    path = made(tmp_path / "p.h5", listed(make))
    with pytest.raises(InputError, match=r"x: is compressed by filter 32001 .* store it with gzip"):
        open_predictions(path, IDS)
    check(open_predictions(made(path, rows([0, 1], compression="gzip")), IDS))


@pytest.mark.faults
def test_arrays_in_a_group_are_found_with_the_option_that_is_advised(tmp_path):
    path = write_h5(tmp_path / "p.h5", **{f"best__{name}": MAP for name in IDS})
    with pytest.raises(InputError, match=r"best is a group; give --array best$"):
        open_predictions(path, IDS)
    check(open_predictions(path, IDS, "best"))
    with pytest.raises(InputError, match="--array worst: is no group of this file"):
        open_predictions(path, IDS, "worst")


def test_a_map_of_one_value_is_noticed_once(tmp_path, capsys):
    """An array in one piece has all of its bytes as soon as one map is written."""
    check(predictions := open_predictions(made(tmp_path / "p.h5", rows([0])), IDS), IDS[:1])
    assert not capsys.readouterr().err
    for _ in range(2):
        assert not predictions.of(IDS[1], SIZE).labels.any()
    assert capsys.readouterr().err.count("2007_000032: one value alone, so one slot; was it") == 1
