import shutil

import numpy as np
import pytest
from PIL import Image

from mmqsa.data.layouts import open_folder
from mmqsa.data.voc import Voc2007Folder, VocFolder
from mmqsa.errors import InputError


def first(voc: VocFolder) -> str:
    return voc.ids("train")[0]


def test_found_from_any_folder_above(own_voc):
    assert VocFolder.find(own_voc).path == own_voc
    assert VocFolder.find(own_voc.parent).path == own_voc


def test_each_year_has_its_folder(own_voc):
    """A VOCdevkit may hold both."""
    both = own_voc.parent / "VOCdevkit"
    for year in ("VOC2007", "VOC2012"):
        shutil.copytree(own_voc, both / year)
    assert VocFolder.find(both).path == both / "VOC2012"
    assert Voc2007Folder.find(both.parent).path == both / "VOC2007"
    shutil.rmtree(own_voc)
    shutil.rmtree(both / "VOC2012")
    assert open_folder(both.parent) == Voc2007Folder(both / "VOC2007")
    with pytest.raises(InputError, match=r"no VOC2012 folder here"):
        VocFolder.find(both.parent)


def test_no_voc_here(tmp_path):
    with pytest.raises(InputError, match=r"no VOC2012 folder here.*JPEGImages"):
        VocFolder.find(tmp_path)


def test_missing_split_names_those_that_are_there(own_voc):
    (own_voc / "ImageSets/Segmentation/train.txt").unlink()
    with pytest.raises(InputError, match=r"train.txt: split list missing.*trainval, val"):
        VocFolder(own_voc).ids("train")


def test_trainaug_needs_the_sbd_masks(own_voc):
    with pytest.raises(InputError, match=r"SegmentationClassAug: missing.*dataset.train_split"):
        VocFolder(own_voc).ids("trainaug")


def test_label_map_of_another_size_is_named(own_voc):
    voc = VocFolder(own_voc)
    path = own_voc / "SegmentationClass" / f"{first(voc)}.png"
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(path)
    size = voc.image(first(voc)).size
    with pytest.raises(InputError, match=rf"7x9 px, but its photograph is {size[0]}x{size[1]}"):
        voc.classes(first(voc), size)


@pytest.mark.parametrize("mode, said", [("RGB", "palette or grey PNG"), ("L", "label 77")])
def test_label_map_that_is_none(own_voc, mode, said):
    voc = VocFolder(own_voc)
    size = voc.image(first(voc)).size
    grey = Image.new("L", size, 77)
    grey.convert(mode).save(own_voc / "SegmentationClass" / f"{first(voc)}.png")
    with pytest.raises(InputError, match=said):
        voc.classes(first(voc), size)


def test_unlabelled_photograph_has_no_labels(own_voc):
    voc = VocFolder(own_voc)
    for folder, suffix in (
        ("SegmentationClass", "png"),
        ("SegmentationObject", "png"),
        ("Annotations", "xml"),
    ):
        (own_voc / folder / f"{first(voc)}.{suffix}").unlink()
    size = voc.image(first(voc)).size
    assert voc.classes(first(voc), size) is None
    assert voc.instances(first(voc), size) is None
    assert voc.boxes(first(voc)) is None


def test_suffixes_of_labels_in_capitals(own_voc):
    voc = VocFolder(own_voc)
    size, before = voc.image(first(voc)).size, voc.boxes(first(voc)).tolist()
    labels = voc.classes(first(voc), size)
    for folder, suffix in (("SegmentationClass", ".png"), ("Annotations", ".xml")):
        file = own_voc / folder / f"{first(voc)}{suffix}"
        file.rename(file.with_suffix(suffix.upper()))
    assert (voc.classes(first(voc), size) == labels).all()
    assert voc.boxes(first(voc)).tolist() == before


def annotation(encoding, declared, name="cat"):
    text = f"<annotation><object><name>{name}</name><bndbox><xmin>1</xmin><ymin>2</ymin>"
    text += "<xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    return (head + text).encode(encoding)


@pytest.mark.parametrize(
    "encoding, declared, name",
    [
        ("utf-8", None, "piñata"),
        ("utf-8-sig", "UTF-8", "piñata"),
        ("latin-1", "ISO-8859-1", "piñata"),
        ("cp1252", "windows-1252", "piñata"),
        ("koi8-r", "KOI8-R", "кот"),
        ("gbk", "GBK", "猫"),
        ("gb18030", "GB18030", "猫"),
        ("big5", "Big5", "貓"),
        ("shift_jis", "Shift_JIS", "猫"),
        ("euc-kr", "EUC-KR", "고양이"),
        ("utf-16", "UTF-16", "猫"),
        ("utf-16", "utf-16le", "猫"),
        ("utf-16", None, "猫"),
        ("utf-16-le", "UTF-16LE", "猫"),
        ("utf-16-be", "UTF-16", "猫"),
        ("utf-8", "utf-16", "猫"),  # as .NET writes a string
        ("utf-8", "gb2312", "猫"),
    ],
)
def test_annotations_in_the_encoding_that_they_declare(own_voc, encoding, declared, name):
    voc = VocFolder(own_voc)
    path = own_voc / "Annotations" / f"{first(voc)}.xml"
    path.write_bytes(annotation(encoding, declared, name))
    assert voc.boxes(first(voc)).tolist() == [[0, 1, 30, 40]]


def entities(levels, of_each):
    """A document whose entities unfold to ``of_each`` ** ``levels`` characters."""
    declared = '<!ENTITY a0 "x">' + "".join(
        f'<!ENTITY a{level} "{f"&a{level - 1};" * of_each}">' for level in range(1, levels + 1)
    )
    return f"<!DOCTYPE a [{declared}]><annotation>&a{levels};</annotation>".encode()


@pytest.mark.faults
@pytest.mark.parametrize(
    "content, said",
    [
        (annotation("utf-8", None)[:-20], "no element found|unclosed|not well-formed"),
        (annotation("latin-1", None, "piñata"), "save it as UTF-8"),
        (annotation("utf-8", "klingon"), None),
        (annotation("latin-1", "klingon", "piñata"), "unknown encoding: klingon"),
        (annotation("gbk", "Big5", "猫猫")[:90], "not a VOC annotation"),
        (
            annotation("utf-8", None).replace(b"</annotation>", b"<object/></annotation>"),
            "1 objects have no bndbox",
        ),
        (annotation("utf-8", None).replace(b"ymax", b"yend"), "ymax is '', which is no number"),
        (b"", "no element found"),
        (b"\0" * 100, "not a VOC annotation"),
        (entities(9, 10), "amplification|not a VOC annotation"),
        (annotation("utf-8", None, "x" * 2_000_000), "more than 2,000,000 bytes"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_annotations_that_cannot_be_read_are_named(own_voc, content, said):
    voc = VocFolder(own_voc)
    path = own_voc / "Annotations" / f"{first(voc)}.xml"
    path.write_bytes(content)
    if said is None:  # text that all encodings share
        assert len(voc.boxes(first(voc))) == 1
        return
    with pytest.raises(InputError, match=rf"{first(voc)}.xml: .*({said})") as refused:
        voc.boxes(first(voc))
    assert "\n" not in str(refused.value)
    path.write_bytes(annotation("utf-8", None, "piñata"))  # as it says
    assert len(voc.boxes(first(voc))) == 1
