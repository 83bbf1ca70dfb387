from pathlib import Path

import pytest
import yaml

from mmqsa.config import Config, ImageSet, config_schema
from mmqsa.data.corruptions import KINDS
from mmqsa.errors import InputError
from mmqsa.settings import Settings, dump_yaml, read_yaml

ROOT = Path(__file__).parents[1]
CONFIGS = [
    [ROOT / "config.yaml", *extra]
    for extra in ([], *([p] for p in sorted((ROOT / "config").glob("*.yaml"))))
]


@pytest.mark.parametrize("paths", CONFIGS, ids=lambda paths: paths[-1].stem)
def test_every_shipped_config_is_sound(paths):
    config = Config.load(*paths)
    for name in config.names:
        config.setting(name)


def test_config_and_defaults_are_the_same_paper():
    """config.yaml and settings.py both hold the paper's values: they must not drift apart."""
    written = Config.load(ROOT / "config.yaml").sections()
    defaults = Settings().sections()
    written["evaluation"].pop("seeds"), defaults["evaluation"].pop("seeds")
    assert written == defaults


def test_schema_is_written_from_the_settings():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    assert schema == config_schema(), "run `make schema`"


@pytest.mark.parametrize(
    "text, said",
    [
        ("masking: {ratio: 1.2}", r"masking.ratio: .*less than 1, not 1.2"),
        ("slots: {heads: 0}", r"slots.heads: .*greater than or equal to 1, not 0"),
        ("slots: {head: 4}", r"slots.head: no such key"),
        ("masking: {strategy: sky}", r"masking.strategy: .*'background'.*not 'sky'"),
        (
            "settings: {full: {backbone: {name: x}}}",
            r"settings.full.backbone: a setting may change",
        ),
        ("settings: {full: {slots: {heads: 0}}}", r"settings.full.slots.heads: "),
        ("settings: {full: {}}\ngrid: [fulll]", r"grid: no setting is called 'fulll'; .* full"),
        (
            "tables: {t: {caption: x, settings: [full], images: {a: [scene/val]}}}",
            r"tables.t.images: no data set is called 'scene'; there are voc2012",
        ),
        (
            "tables: {t: {caption: x, settings: [full], images: {a: [val-rain1]}}}",
            r"'val-rain1' is no set of images; say \[DATASET/\]SPLIT\[-VARIANT\]",
        ),
        (
            "tables: {t: {caption: x, settings: [full], matchings: [mask]}}\n"
            "matching: {strategies: [greedy]}",
            r"tables.t.matchings: mask is not scored; add it to matching.strategies",
        ),
        ("masking: [", r"not valid YAML"),
        ("- a", r"a mapping of sections"),
    ],
)
def test_bad_config_names_file_and_key(tmp_path, text, said):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as error:
        Config.load(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_setting_changes_what_it_names_and_nothing_else():
    config = Config.load(ROOT / "config.yaml")
    full, random = config.setting("full").sections(), config.setting("random").sections()
    assert random["masking"].pop("strategy") == "random"
    assert full["masking"].pop("strategy") == "background"
    assert full == random


def test_image_sets():
    names = {
        "val": ("voc", "val", ""),
        "all-but-val": ("voc", "all-but-val", ""),
        "trainval-squash": ("voc", "trainval", "squash"),
        "detection-trainval-squash": ("voc", "detection-trainval", "squash"),
        "my-scenes/val-released": ("my-scenes", "val", "released"),
        **{f"val-{kind}5": ("voc", "val", f"{kind}5") for kind in KINDS},
    }
    for name, parts in names.items():
        assert ImageSet.parse(name, "voc") == ImageSet(*parts)
    for name in ("test", "val-rain3", "val-fog6", "val-crop", "a/b/val", "/val", "val-"):
        with pytest.raises(ValueError, match="is no set of images"):
            ImageSet.parse(name, "voc")


def test_a_table_has_its_images_in_one_order_and_null_takes_away(tmp_path):
    path = tmp_path / "config.yaml"
    images = {"fog": ["val-fog1"], "blur": None, "as it is": ["val"], "a": ["val-released"]}
    table = {"caption": "Shift", "settings": ["full"], "images": images}
    path.write_text(dump_yaml({"tables": {"shift": table, "other": None}}))
    config = Config.load(path)
    assert list(config.tables) == ["shift"]
    assert list(config.image_sets(config.tables["shift"])) == ["as it is", "a", "fog"]


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")
