from pathlib import Path

import pytest
import yaml

from mmqsa.config import Config, config_schema
from mmqsa.errors import InputError
from mmqsa.settings import Settings, read_yaml

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


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")


def test_pins_agree():
    """constraints.txt (pip) and environment.yml (conda) install the same versions."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pip = dict(line.split("==") for line in lines if not line.startswith("#"))
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = dict(line.split("==") for line in environment["dependencies"][-1]["pip"])
    tests_only = {"hypothesis", "pytest", "ruff", "snakefmt", "torchmetrics"}
    assert conda == {name: pin for name, pin in pip.items() if name not in tests_only}
