import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmqsa.data import photograph
from mmqsa.data.photograph import as_rgb, read_photograph
from mmqsa.discover.photographs import find_photographs
from mmqsa.errors import InputError

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def reopened(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return Image.open(io.BytesIO(file.getvalue()))


def test_an_image_is_shown_upright():
    turned = Image.Exif()
    turned[274] = 6  # to be turned by 90 degrees clockwise
    image = reopened(Image.fromarray(RGB), "PNG", exif=turned)
    assert np.array_equal(as_rgb(image), np.rot90(RGB, -1))
    assert np.array_equal(as_rgb(as_rgb(image)), np.rot90(RGB, -1))  # once


def test_transparency_lies_over_white():
    image = Image.fromarray(RGB)
    image.putalpha(Image.fromarray(np.repeat([[0] * 15 + [255] * 15], 20, 0).astype(np.uint8)))
    converted = np.asarray(as_rgb(image))
    assert (converted[:, :15] == 255).all() and np.array_equal(converted[:, 15:], RGB[:, 15:])
    palette = Image.fromarray(RGB).quantize(4)
    palette.info["transparency"] = 0
    hidden = np.asarray(palette) == 0
    assert (np.asarray(as_rgb(palette))[hidden] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB", "HSV"])
def test_every_mode_becomes_rgb(mode):
    converted = as_rgb(Image.fromarray(RGB).convert(mode if mode != "LAB" else "RGB"))
    assert converted.mode == "RGB" and converted.size == (30, 20)


def test_deep_grey_keeps_its_range():
    deep = np.array([[0, 128 * 257, 65535]], dtype=np.uint16)
    for image in (Image.fromarray(deep), reopened(Image.fromarray(deep), "PNG")):
        assert np.asarray(as_rgb(image))[0, :, 0].tolist() == [0, 128, 255]
    floats = np.array([[-1.0, 0.0, 1.0]], dtype=np.float32)
    assert np.asarray(as_rgb(Image.fromarray(floats)))[0, :, 0].tolist() == [0, 127, 255]


def test_tiles_are_as_the_whole(monkeypatch):
    deep = np.arange(600, dtype=np.uint16).reshape(20, 30) * 109
    layer = Image.fromarray(RGB)
    layer.putalpha(Image.fromarray(RGB[..., 0]))
    images = [layer, *(Image.fromarray(deep.astype(kind)) for kind in ("u2", ">u2", "i4", "f4"))]
    whole = [np.asarray(as_rgb(image)) for image in images]
    monkeypatch.setattr(photograph, "TILE", 7)
    for image, expected in zip(images, whole, strict=True):
        assert np.array_equal(as_rgb(image), expected)
    assert np.array_equal(whole[1][..., 0], deep // 257)


def test_what_is_no_image_is_refused_by_name(tmp_path):
    (tmp_path / "text.jpg").write_text("nothing")
    whole = io.BytesIO()
    Image.fromarray(RGB).save(whole, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[:300])
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("text.jpg", "cut.jpg", "empty.png", "absent.jpg", "."):
        with pytest.raises(InputError, match=str(tmp_path / name)):
            read_photograph(tmp_path / name)


def test_files_and_folders_are_listed_with_names_of_their_own(tmp_path):
    inside, out = tmp_path / "in", tmp_path / "in/out"
    names = ("a.jpg", "a.png", "a-png.jpg", "sub/a.jpg", ".hidden/b.jpg", "notes.txt", "out/c.jpg")
    names += ("features.h5", "paper.pdf", "film.mpg")
    for name in names:
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        (inside / name).touch()
    absent = tmp_path / "absent.jpg"
    listed = find_photographs([inside, inside / "a.jpg", absent], besides=out)
    assert [str(path.relative_to(tmp_path)) for path, _ in listed] == [
        *("in/a-png.jpg", "in/a.jpg", "in/a.png", "in/sub/a.jpg", "in/a.jpg", "absent.jpg")
    ]
    names = [str(name) for _, name in listed]
    assert names == ["a-png", "a", "a-2", "sub/a", "a-jpg", "absent"]


def test_names_are_names_of_files(tmp_path, monkeypatch):
    """Also of paths that have none, and of two whose bytes are written out alike."""
    monkeypatch.chdir(tmp_path)
    odd, written = os.fsdecode(b"\xff.jpg"), "\\xff.png"
    paths = [Path(name) for name in (".", "..jpg", "a" * 300, odd, written)]
    names = [str(name) for _, name in find_photographs(paths, besides=Path("out"))]
    assert names == ["photographs", "--jpg", "a" * 300, "\\xff", "\\xff-png"]


def test_a_link_that_leads_nowhere_ends_no_listing(tmp_path):
    inside, out = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    (inside / "b.jpg").touch()
    for link, target in ((inside / "a.jpg", "a.jpg"), (inside / "sub", "sub"), (out, "out")):
        link.symlink_to(target)
    for link in (inside / "c.jpg", inside / "d"):
        link.symlink_to("nowhere")
    listed = [path for path, _ in find_photographs([inside, inside / "sub"], besides=out)]
    assert [path.name for path in listed] == ["a.jpg", "b.jpg", "c.jpg", "sub"]
    for path in (listed[0], listed[2], listed[3], tmp_path / ("a" * 300)):
        with pytest.raises(InputError, match=path.name):
            read_photograph(path)


def test_linked_folders_are_followed_once(tmp_path):
    inside, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    for path in (inside / "a.jpg", elsewhere / "b.jpg"):
        path.parent.mkdir()
        path.touch()
    (inside / "link").symlink_to(elsewhere)
    (inside / "same").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(inside)
    listed = find_photographs([inside], besides=tmp_path / "out")
    assert [path.name for path, _ in listed] == ["a.jpg", "b.jpg"]


def test_what_discover_wrote_is_no_photograph(tmp_path, capsys):
    """A second run on a folder takes no masks and overlays of the first."""
    for name in ("a.jpg", "out/masks/a.png", "out/overlays/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    for name in ("objects.csv", "coco.json"):
        (tmp_path / "out" / name).write_text("")
    listed = find_photographs([tmp_path], besides=tmp_path / "other")
    assert [path.name for path, _ in listed] == ["a.jpg"]
    assert "out: left out, for it holds what `mmqsa discover` wrote" in capsys.readouterr().err
