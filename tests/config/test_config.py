from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from mmqsa.config.base import CONFIG_KEYS
from mmqsa.config.files import dump_yaml, read_yaml
from mmqsa.config.render import MARKER, knobs_markdown, knobs_yaml, schema
from mmqsa.config.stages import STAGES
from mmqsa.config.tables import ImageSet
from mmqsa.config.training import RunConfig
from mmqsa.config.workflow import Config
from mmqsa.data.corruptions import KINDS
from mmqsa.errors import InputError

ROOT = Path(__file__).parents[2]
CONFIGS = [
    [ROOT / "config.yaml", ROOT / "config/tables.yaml", *extra]
    for extra in (
        [],
        *([p] for p in sorted((ROOT / "config").glob("*.yaml")) if p.stem != "tables"),
    )
]


@pytest.mark.parametrize("paths", CONFIGS, ids=lambda paths: paths[-1].stem)
def test_every_shipped_config_is_sound(paths):
    config = Config.load(*paths)
    for name in config.names:
        config.setting(name)


def test_config_yaml_and_schema_are_written_from_the_typed_config():
    """A value stands once: whoever changes a default runs `make config`."""
    assert (ROOT / "config.yaml").read_text().startswith(knobs_yaml()), "run `make config`"
    written = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    assert written == schema(), "run `make config`"
    assert (ROOT / "config/README.md").read_text() == knobs_markdown(), "run `make config`"


def test_the_generated_text_holds_every_knob_with_its_default():
    knobs = yaml.safe_load(knobs_yaml())
    defaults = Config().model_dump(mode="json", include=set(knobs))
    assert knobs == defaults and set(knobs) > set(RunConfig.model_fields)
    assert MARKER in knobs_yaml()


def test_the_schema_stands_alone():
    """The workflow catalog follows no reference and reads the top-level properties."""
    assert "$ref" not in str(schema())
    training = schema()["properties"]["training"]["properties"]
    assert training["batch_size"]["default"] == 64 and training["batch_size"]["description"]


@pytest.mark.parametrize("paths", CONFIGS, ids=lambda paths: paths[-1].stem)
def test_editors_that_read_the_schema_accept_every_shipped_config(paths):
    for path in paths:
        jsonschema.validate(read_yaml(path), schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"masking": {"ratio": 1.2}}, schema())


def test_stages_know_every_key_of_the_whole_config():
    """So that a stage reads config.yaml; a key that is not there would be refused as unknown."""
    assert set(CONFIG_KEYS) == set(Config.model_fields)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_reads_the_whole_config_file(stage):
    """Other stages' sections are skipped, so one file does for all of them."""
    STAGES[stage].load(ROOT / "config.yaml")
    assert STAGES[stage].load(None) == STAGES[stage]()
    assert STAGES[stage]().dependencies()


@pytest.mark.parametrize(
    "text, said",
    [
        ("masking: {ratio: 1.2}", r"masking.ratio: .*less than 1, not 1.2"),
        ("slots: {num_heads: 0}", r"slots.num_heads: .*greater than or equal to 1, not 0"),
        ("slots: {head: 4}", r"slots.head: no such key"),
        ("masking: {strategy: sky}", r"masking.strategy: .*'background'.*not 'sky'"),
        (
            "settings: {full: {backbone: {name: x}}}",
            r"settings.full.backbone: a setting may change",
        ),
        ("settings: {full: {slots: {num_heads: 0}}}", r"settings.full.slots.num_heads: "),
        ("settings: {full: {seeds: [0, -1]}}", r"settings.full.seeds.1: .*or equal to 0, not -1"),
        ("settings: {full: {seeds: []}}", r"settings.full.seeds: .*at least 1"),
        (
            "training: {steps: 9, snapshots: [3, 9]}",
            r"training.snapshots: 9 is not below",
        ),
        ("settings: {full: {}}\ngrid: [fulll]", r"grid: unknown setting 'fulll'; .* full"),
        (
            "tables: {t: {caption: x, settings: [full], images: {a: [scene/val]}}}",
            r"tables.t.images: unknown data set 'scene'; expected one of voc2012",
        ),
        (
            "tables: {t: {caption: x, settings: [full], images: {a: [val-rain1]}}}",
            r"unknown image set 'val-rain1'; expected \[DATASET/\]SPLIT\[-VARIANT\]",
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


def test_a_setting_may_have_seeds_of_its_own():
    settings = {"full": {}, "long": {"seeds": [7], "training": {"steps": 9}}}
    config = Config.model_validate({"seeds": [0, 1], "settings": settings})
    assert config.seeds_of("full") == [0, 1] and config.seeds_of("long") == [7]
    assert config.setting("long").training.steps == 9


def test_a_setting_changes_what_it_names_and_nothing_else():
    config = Config.load(ROOT / "config.yaml")
    full, random = (config.setting(name).dependencies() for name in ("full", "random"))
    assert random["masking"].pop("strategy") == "random"
    assert full["masking"].pop("strategy") == "background"
    assert full == random


def test_a_group_of_the_grid_adds_to_the_others(tmp_path):
    """A setting of one's own takes no row away from the tables of the others."""
    path = tmp_path / "mine.yaml"
    path.write_text("settings: {half: {masking: {ratio: 0.5}}}\ngrid: {mine: [half]}")
    base = [ROOT / "config.yaml", ROOT / "config/tables.yaml"]
    before, after = Config.load(*base), Config.load(*base, path)
    assert after.names == [*before.names, "half"]
    for name, table in before.tables.items():
        if table.settings:
            assert after.rows(after.tables[name]) == before.rows(table)
    everything = Config.parse({**read_yaml(base[0]), "grid": None})
    assert everything.names == list(everything.settings)


def test_values_as_snakemake_reads_them_from_the_command_line():
    """--config gives every number and every null inside of braces as text."""
    given = {"training": {"learning_rate": "0.002", "steps": "10", "compile": "false"}}
    config = Config.parse({**given, "grid": "null", "tables": {"boxes": "null"}})
    assert (config.training.learning_rate, config.training.steps) == (0.002, 10)
    assert config.training.compile is False and config.grid is None and config.tables == {}


def test_image_sets():
    names = {
        "val": ("voc", "val", ""),
        "all-but-val": ("voc", "all-but-val", ""),
        "trainval-squash": ("voc", "trainval", "squash"),
        "detection-trainval-native": ("voc", "detection-trainval", "native"),
        "detection-trainval-squash": ("voc", "detection-trainval", "squash"),
        "my-scenes/val-released": ("my-scenes", "val", "released"),
        **{f"val-{kind}5": ("voc", "val", f"{kind}5") for kind in KINDS},
    }
    for name, parts in names.items():
        assert ImageSet.parse(name, "voc") == ImageSet(*parts)
    for name in ("test", "val-rain3", "val-fog6", "val-crop", "a/b/val", "/val", "val-"):
        with pytest.raises(ValueError, match="unknown image set"):
            ImageSet.parse(name, "voc")
    assert ImageSet.parse("val-native", "voc").printed == ("boxes",)
    with pytest.raises(ValueError, match="not scored by the protocol 'paper'; expected boxes or"):
        ImageSet.parse("val-native:paper", "voc")  # a cache of them has no label maps


def test_a_table_has_its_images_in_one_order_and_null_takes_away(tmp_path):
    path = tmp_path / "config.yaml"
    images = {"fog": ["val-fog1"], "blur": None, "as it is": ["val"], "a": ["val-released"]}
    table = {"caption": "Shift", "settings": ["full"], "images": images}
    path.write_text(dump_yaml({"tables": {"shift": table, "other": None}}))
    config = Config.load(path)
    assert list(config.tables) == ["shift"]
    assert list(config.image_sets(config.tables["shift"])) == ["as it is", "a", "fog"]


def test_only_the_tables_in_printed_are_made_and_checked():
    elsewhere = {"caption": "Elsewhere", "settings": ["not-tried"]}
    tables = {"elsewhere": elsewhere, "mine": {"caption": "Mine"}}
    assert list(Config.parse({"printed": ["mine"], "tables": tables}).tables) == ["mine"]
    for printed in (None, ["elsewhere"]):
        with pytest.raises(InputError, match=r"tables\.elsewhere.*unknown setting 'not-tried'"):
            Config.parse({"printed": printed, "tables": tables})
    with pytest.raises(InputError, match=r"unknown table 'other' in printed; expected .* mine"):
        Config.parse({"printed": ["other"], "tables": tables})
    with pytest.raises(InputError, match=r"unknown table 'other' in printed; expected .* 1"):
        Config.parse({"printed": ["other"], "tables": {1: tables["mine"]}})


def test_a_setting_has_one_name_in_all_tables():
    """An error's advice on a name in a table is followed: then it is the name in every table."""
    data = {
        "settings": {"full": {}, "random": {}},
        "tables": {"a": {"caption": "A", "labels": {"full": "Ours"}}, "b": {"caption": "B"}},
    }
    with pytest.raises(InputError, match=r"tables.a.labels.full: .*; write it as labels.full of"):
        Config.parse(data)
    tables = {"a": {"caption": "A"}}
    config = Config.parse(data | {"tables": tables, "labels": {"full": "Ours"}})
    assert config.printed_names == {"full": "Ours", "random": "random"}
    with pytest.raises(InputError, match="labels: unknown setting 'other'"):
        Config.parse(data | {"tables": tables, "labels": {"other": "X"}})
    tables["a"]["labels"] = {"hungary": "X"}
    with pytest.raises(InputError, match=r"tables.a.labels: unknown matching 'hungary'"):
        Config.parse(data | {"tables": tables})


def test_a_name_says_by_which_score_its_setting_is_masked():
    other = {"masking": {"score": "principal-component"}}
    labels = dict.fromkeys(("full", "other"), "Masked by the {score}")
    config = {"settings": {"full": {}, "other": other}, "labels": labels}
    paper, ours = "Masked by the mean (the paper)", "Masked by the principal component"
    assert Config.parse(config).printed_names == {"full": paper, "other": ours}
    # Two that are alike keep rows of their own.
    alike = {"full": f"{ours} (full)", "other": f"{ours} (other)"}
    assert Config.parse(config | other).printed_names == alike


def test_data_sets_have_names_and_roots_of_their_own(tmp_path):
    other = {"kind": "scenes", "root": "resources/scenes"}
    Config.parse({"other_datasets": {"scenes": other}})
    with pytest.raises(InputError, match=r"voc2012: has the name of the data set that is trained"):
        Config.parse({"other_datasets": {"voc2012": other}})
    same = {"kind": "scenes", "root": "resources/../resources/voc2012/"}
    with pytest.raises(InputError, match="and voc2012 have one root"):
        Config.parse({"other_datasets": {"scenes": same}})
    (tmp_path / "link").symlink_to(tmp_path / "data")
    linked = {"scenes": same | {"root": str(tmp_path / "link")}}
    with pytest.raises(InputError, match="and voc2012 have one root"):
        Config.parse({"dataset": {"root": str(tmp_path / "data")}, "other_datasets": linked})
    assert Config.parse({"other_datasets": {"voc2012": None}}).other_datasets == {}
    for name, split in (("detection", "detection-val"), ("all-but", "all-but-val")):
        with pytest.raises(InputError, match=f"the split {split} of voc2012 and val of"):
            Config.parse({"other_datasets": {f"voc2012-{name}": other}})
    Config.parse({"other_datasets": {"voc2012-b": other}})


def numbers(model, where=()):
    """Every number of the config, as the path of its key."""
    for name, value in model:
        if isinstance(value, BaseModel):
            yield from numbers(value, (*where, name))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield *where, name


@pytest.mark.parametrize("key", list(numbers(Config())), ids=".".join)
def test_every_number_has_bounds(key):
    """What no machine could carry out is refused by its own key, before anything is computed."""
    for value in (-1, 1e300, 10**30, float("nan"), float("inf")):
        data = value
        for name in reversed(key):
            data = {name: data}
        with pytest.raises(InputError, match=f"config: {'.'.join(key)}: "):
            Config.parse(data)


@pytest.mark.parametrize(
    "text",
    [
        *("seeds: [0, 1, 0]", "settings: {full: {seeds: [3, 3]}}", "evaluation: {seeds: [1, 1]}"),
        *("evaluation: {baselines: [lost, lost]}", "evaluation: {kmeans_clusters: [2, 2]}"),
        *("evaluation: {sweep: {num_slots: [2, 2]}}", "training: {snapshots: [1, 1]}"),
        *("matching: {strategies: [mask, mask]}", "evaluation: {mask_sources: [decoder, decoder]}"),
    ],
)
def test_what_is_listed_twice_would_count_twice(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match="is there twice; name each once"):
        Config.load(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    "section", [{"kmeans_clusters": []}, {"cut_segments": []}, {"sweep": {"iterations": []}}]
)
def test_what_is_scored_is_not_empty(section):
    with pytest.raises(InputError, match="at least 1 item"):
        Config.parse({"evaluation": section})


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"patches_per_step": 8}, "patches_per_step: a transformer predicts all patches"),
        ({"hidden_dim": 100}, "heads: 6 do not divide hidden_dim"),
    ],
)
def test_a_transformer_decoder_that_cannot_be(changes, fault):
    with pytest.raises(InputError, match=f"decoder.{fault}"):
        Config.parse({"decoder": {"kind": "transformer", "hidden_dim": 384} | changes})


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")
