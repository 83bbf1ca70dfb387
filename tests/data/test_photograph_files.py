"""Which files are photographs: one rule for discover, VOC's folder and COCO's."""

import io
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mmqsa.data import photograph_files
from mmqsa.data.coco import CocoFolder
from mmqsa.data.photograph import read_photograph
from mmqsa.data.photograph_files import CONVERTED, is_photograph, kind_of, photographs_by_id
from mmqsa.data.voc import VocFolder
from mmqsa.discover.photographs import find_photographs
from mmqsa.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40
VIDEO = b"\0\0\0\x18ftypqt  " + b"\0" * 40


def content(format):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, format)
    return file.getvalue()


JPEG = content("JPEG")
FILES = {
    **{"a.JPG": JPEG, "b.jpeg": JPEG, "c.Png": content("PNG"), "d.tif": content("TIFF")},
    **{"e.webp": content("WEBP"), "f.mpo": JPEG, "with a blank.jpg": JPEG, "no_suffix": JPEG},
}
OTHERS = {
    **{"g.HEIC": HEIC, "h.NEF": content("TIFF"), "i.cr2": content("TIFF"), "j.mov": VIDEO},
    **{"k.mp4": VIDEO, "l.jxl": b"\xff\x0a", "notes.txt": b"a", "README": b"a", "m.heif": HEIC},
    **{"._a.JPG": b"\0\5\x16\7", ".DS_Store": b"\0", "a.jpg.bak": JPEG, "n.thm": JPEG},
}


def fill(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (FILES | OTHERS).items():
        (folder / name).write_bytes(data)
    return folder


def test_every_command_takes_the_same_files_and_counts_the_others(tmp_path, capsys):
    voc = VocFolder(tmp_path / "voc")
    (voc.path / "ImageSets/Segmentation").mkdir(parents=True)
    (voc.path / "ImageSets/Segmentation/val.txt").write_text("b\n")
    folder, stems = (
        fill(voc.path / "JPEGImages"),
        {name.rpartition(".")[0] or name for name in FILES},
    )
    assert {path.name for path, _ in find_photographs([folder], tmp_path / "out")} == set(FILES)
    said = capsys.readouterr().err
    assert set(voc.ids("all-but-val")) == stems - {"b"}
    assert capsys.readouterr().err == said
    assert f"{folder}: 12 files left out" in said and said.count("\n") == 1
    for counted in (
        "1 .nef",
        "1 .heic",
        "1 .mov",
        "1 .thm",
        "1 .txt",
        "1 without a suffix",
        "1 .*",
    ):
        assert counted in said or "…" in said
    assert all(advice in said for advice in CONVERTED.values())
    assert {path.name for path in voc.photographs()} == set(FILES)
    assert [voc.image_path(one).name for one in ("a", "b", "c", "no_suffix")] == [
        *("a.JPG", "b.jpeg", "c.Png", "no_suffix")
    ]
    voc.check(voc.ids("all-but-val"))
    assert all(np.asarray(voc.image(one)).shape == PIXELS.shape for one in stems)
    coco = CocoFolder(tmp_path / "coco")
    fill(coco.path / "train2017")
    assert {path.name for path in coco.photographs()} == set(FILES)
    assert coco.image_path("a").name == "a.JPG"


def test_a_folder_of_photographs_alone_is_nothing_to_speak_of(own_voc, capsys):
    (own_voc / "JPEGImages/.DS_Store").touch()
    capsys.readouterr()
    VocFolder(own_voc).ids("all-but-val")
    find_photographs([own_voc / "JPEGImages"], own_voc / "out")
    assert capsys.readouterr().err == ""


def test_folders_among_photographs_are_counted(own_voc, capsys):
    for name in ("album.jpg", "more", ".thumbnails"):
        (own_voc / "JPEGImages" / name).mkdir()
        (own_voc / "JPEGImages" / name / "a.jpg").write_bytes(JPEG)
    capsys.readouterr()
    ids = VocFolder(own_voc).ids("all-but-val")
    assert "not searched, such as album.jpg (of 2)" in capsys.readouterr().err
    assert len(ids) == 3
    (own_voc / "JPEGImages/more/a.jpg").rename(own_voc / "JPEGImages/a.jpg")  # as it says
    assert set(VocFolder(own_voc).ids("all-but-val")) == {*ids, "a"}


@pytest.mark.faults
def test_two_photographs_of_one_id_are_refused(own_voc):
    voc = VocFolder(own_voc)
    (own_voc / "JPEGImages/val_00000.PNG").write_bytes(content("PNG"))
    for use in (lambda: voc.ids("val"), lambda: voc.ids("all-but-val"), voc.photographs):
        with pytest.raises(InputError, match=r"val_00000.PNG and val_00000.jpg are two .*remove"):
            use()
    (own_voc / "JPEGImages/val_00000.jpg").unlink()  # as it says
    assert voc.image(voc.ids("val")[0]).size == (30, 20)


@pytest.mark.faults
@pytest.mark.parametrize(
    "name, data, said",
    [
        ("a.heic", HEIC, "pip install pillow-heif"),
        ("a.jpg", HEIC, "pip install pillow-heif"),
        ("a.dng", content("TIFF"), "make JPEG files of raw ones"),
        ("a.raf", b"FUJIFILM", "make JPEG files of raw ones"),
        ("a.mov", VIDEO, "take frames out of videos"),
        ("a.jpg", VIDEO, "take frames out of videos"),
        ("a.jxl", b"\xff\x0a", "djxl FILE FILE.jpg"),
        ("a.avif", b"\0\0\0\x18ftypavif" + b"\0" * 40, ""),
        ("a.txt", b"text", "no image that Pillow can read"),
    ],
)
def test_a_file_that_is_named_gets_a_line_that_says_what_to_do(tmp_path, name, data, said):
    """In discover, and as a photograph of a list."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}: cannot be decoded \(.*{said}"):
        read_photograph(tmp_path / name)


@pytest.mark.faults
def test_a_photograph_that_is_there_in_another_format_is_named(own_voc):
    voc = VocFolder(own_voc)
    image_id = voc.ids("val")[0]
    voc.image_path(image_id).unlink()
    (own_voc / f"JPEGImages/{image_id}.HEIC").write_bytes(HEIC)
    with pytest.raises(InputError, match=rf"{image_id}.HEIC is there: HEIC files are read once"):
        voc.check(voc.ids("val"))


@pytest.mark.faults
def test_a_folder_without_photographs_and_a_pipe(tmp_path, capsys):
    fill(tmp_path / "in")
    for name in FILES:
        (tmp_path / "in" / name).unlink()
    ((path, _),) = find_photographs([tmp_path / "in"], tmp_path / "out")
    with pytest.raises(InputError, match="in: holds no photograph that can be read"):
        read_photograph(path)
    assert "files left out" in capsys.readouterr().err
    os.mkfifo(tmp_path / "in/pipe")
    assert not is_photograph(tmp_path / "in/pipe") and kind_of(tmp_path / "in/pipe") is None


@pytest.fixture
def heif(monkeypatch):
    """A stand-in for pillow-heif that registers its format as that does, and reads a JPEG."""
    caches = (
        *(photograph_files.image_formats, photograph_files.suffixes),
        photograph_files._by_id,
    )
    extensions = dict(Image.EXTENSION)

    def register():
        Image.register_open("HEIF", lambda file, name: Image.open(io.BytesIO(JPEG)), _is_heic)
        Image.register_mime("HEIF", "image/heif")
        Image.register_extensions("HEIF", [".heic", ".heif"])

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    for one in caches:
        one.cache_clear()
    yield
    Image.OPEN.pop("HEIF")
    Image.ID.remove("HEIF")
    Image.EXTENSION.clear()
    Image.EXTENSION.update(extensions)
    for one in caches:
        one.cache_clear()


def _is_heic(head):
    return head[4:8] == b"ftyp" and head[8:12] == b"heic"


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path, heif, capsys):
    folder = fill(tmp_path / "in")
    assert photographs_by_id(folder).keys() >= {"a", "g", "m"}
    assert read_photograph(folder / "g.HEIC").size == (30, 20)
    (tmp_path / "damaged.heic").write_bytes(HEIC[:6])
    with pytest.raises(InputError, match=r"damaged.heic: cannot be decoded \(no image that Pillow"):
        read_photograph(tmp_path / "damaged.heic")
    find_photographs([folder], tmp_path / "out")
    said = capsys.readouterr().err
    assert "10 files left out" in said and "heif" not in said
