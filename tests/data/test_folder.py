import pytest

from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError

pytestmark = pytest.mark.faults


def first(voc: VocFolder) -> str:
    return voc.ids("train")[0]


def test_renamed_image_is_named(own_voc):
    voc = VocFolder(own_voc)
    voc.image_path(first(voc)).rename(own_voc / "JPEGImages/other.jpg")
    with pytest.raises(InputError, match=r"train_00000.jpg: missing, but the split list names it"):
        voc.check(voc.ids("train"))


@pytest.mark.parametrize("keep", [0, 300])
def test_truncated_jpeg_is_named(own_voc, keep):
    voc = VocFolder(own_voc)
    path = voc.image_path(first(voc))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"train_00000.jpg: cannot be decoded"):
        voc.image(first(voc))
