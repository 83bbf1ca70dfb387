# COCO's layout is opened in test_coco.py.
import pytest

from mmqsa.config.data import DatasetConfig
from mmqsa.data.layouts import LAYOUTS, open_folder
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError


def test_a_folder_is_opened_in_its_layout(own_voc, tmp_path):
    assert open_folder(own_voc.parent) == VocFolder(own_voc)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match=r"empty: no VOC2012 folder here.*; no COCO 2017 folder here"
    ):
        open_folder(tmp_path / "empty")


def test_every_kind_of_data_set_has_a_layout():
    for kind in LAYOUTS:
        assert DatasetConfig(kind=kind).kind == kind
    schema = DatasetConfig.model_json_schema()["properties"]["kind"]
    assert set(schema["enum"]) == set(LAYOUTS)
