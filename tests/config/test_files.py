"""The door of YAML and JSON: the right value or one line, in little time and memory."""

import copy
import json
import os
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as some

from mmqsa.config.base import StageConfig, merged
from mmqsa.config.files import MAX_QUOTED, dump_yaml, quoted, read_json, read_yaml
from mmqsa.config.training import RunConfig
from mmqsa.config.workflow import Config
from mmqsa.errors import InputError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture
def refused(tmp_path):
    """Reads a text as a config and returns the line that refuses it."""

    def read(text, reader=RunConfig.load):
        path = tmp_path / "bad.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(InputError) as error:
            reader(path)
        line = str(error.value)
        assert line.startswith(f"{path}: ") and "\n" not in line and len(line) < 600
        return line.removeprefix(f"{path}: ")

    return read


@pytest.mark.parametrize(
    "text, said",
    [
        ("training: {steps: 10, steps: 20}", "the key 'steps' is there twice"),
        ("training: {steps: true}", "training.steps: expected a number, not True"),
        ("backbone: {blocks: [-1, true]}", "backbone.blocks: expected a number"),
        ("training: {learning_rate: .nan}", "training.learning_rate"),
        ("training: {gradient_clip: .inf}", "training.gradient_clip"),
        ("slots: {slot_dim: 1000000000}", "slots.slot_dim"),
        ("training: {steps: 9" + "0" * 60 + "}", "training.steps"),
        ("training: {steps: " + "9" * 5000 + "}", "not valid YAML"),
        ("backbone: {name: hf-hub:timm/vit_tiny}", "backbone.name"),
        ("backbone: {name: ../vit}", "backbone.name"),
        ('dataset: {root: "a\\nb"}', "dataset.root"),
        ("when: 2024-99-99", "'2024-99-99' is no 'timestamp' in \"bad.yaml\", line 1"),
        ('a: !!int ""', "'' is no 'int'"),
        ('a: !!bool "x"', "'x' is no 'bool'"),
        ('a: !!timestamp "9"', "'9' is no 'timestamp'"),
        ("training: {steps: 0x" + "f" * 9000 + "}", "training.steps"),
        ("a: \0", 'not allowed in "bad.yaml"'),
        ("1: 2", "1: Keys should be strings"),
        ("training: {steps: 10, null: 3}", "training.None"),
        ("a: " + "[" * 1000 + "]" * 1000, "more than 32 deep"),
        ("a: &a [*a]", "more than 200,000 values"),
        (BOMB, "more than 200,000 values"),
        ("a: " + "x" * 3_000_000, "more than 2,000,000 bytes"),
        ("backbone: {title: [" + "y, " * 500 + "]}", "backbone.title"),
        ("- 1\n- 2", "a mapping of sections"),
        (b"\xff\xfe\x00", "cannot be read"),
        ("!!python/object/apply:os.system ['touch x']", "not valid YAML"),
        ("? [a, b]\n: 1", "not valid YAML"),
    ],
)
def test_bad_yaml(refused, text, said):
    begun = time.monotonic()
    assert said in refused(text)
    assert time.monotonic() - begun < 5


def test_a_pipe_is_read_as_long_as_something_comes(tmp_path, monkeypatch):
    """``--config <(…)`` is one; one that nobody writes into would be waited for without end."""
    monkeypatch.setattr("mmqsa.config.files.PATIENCE", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=r"pipe: cannot be read \(nothing comes through"):
        read_yaml(pipe)
    with open(os.open(pipe, os.O_RDWR), "wb", buffering=0) as writer:
        with pytest.raises(InputError, match=r"nothing comes through this pipe for"):
            read_yaml(pipe)
        writer.write(b"a: 1")
        threading.Timer(0.05, writer.close).start()
        assert read_yaml(pipe) == {"a": 1}
    with pytest.raises(InputError, match="not a regular file"):
        read_json(pipe)


def test_a_key_twice_in_json(refused):
    assert "the key 'seed' is there twice" in refused('{"seed": 0, "seed": 1}', read_json)
    assert "not valid JSON" in refused("[" * 100_000, read_json)
    assert "not valid JSON" in refused("", read_json)


def test_what_is_quoted_is_short():
    assert quoted("a" * 10**6).startswith("'aaa") and len(quoted("a" * 10**6)) <= MAX_QUOTED
    nested = [["x" * 100] * 100] * 100
    assert len(quoted(nested)) <= MAX_QUOTED and quoted("short") == "'short'"


def test_merge_keys_still_work(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert read_yaml(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


plain = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=20),
    lambda inside: (
        some.lists(inside, max_size=4)
        | some.dictionaries(some.text(max_size=8), inside, max_size=4)
    ),
    max_leaves=20,
)
ROOT = Path(__file__).parents[2]
PROJECT = [read_yaml(ROOT / name) for name in ("config.yaml", "config/tables.yaml")]


@some.composite
def spoiled(draw):
    """The project's config with one value, anywhere, put in the place of another."""
    data = inside = copy.deepcopy(merged(*PROJECT))
    while True:
        key = draw(
            some.sampled_from(list(inside) if isinstance(inside, dict) else range(len(inside)))
        )
        below = inside[key]
        if not isinstance(below, dict | list) or not below or draw(some.booleans()):
            inside[key] = draw(plain)
            return data
        inside = below


sections = some.dictionaries(
    some.sampled_from(["training", "slots", "backbone", "dataset", "tables", "settings", "grid"])
    | some.text(max_size=5),
    some.dictionaries(
        some.sampled_from(["steps", "num_slots", "blocks", "name", "root", "full", "schedule"]),
        plain,
        max_size=3,
    )
    | plain,
    max_size=3,
)


@pytest.mark.fuzz
@given(text=some.binary(max_size=200) | sections.map(lambda data: dump_yaml(data).encode()))
@example(text=b"settings: {a: {? '\n\n' : 1}}")
def test_any_yaml_is_a_config_or_one_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text)
    for stage in (RunConfig, Config):
        read_or_refused(stage, path)


@pytest.mark.fuzz
@given(data=spoiled())
def test_the_config_with_any_value_in_a_wrong_place(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "spoiled.yaml"
    path.write_text(dump_yaml(data))
    read_or_refused(Config, path)


def read_or_refused(stage: type[StageConfig], path) -> None:
    tracemalloc.start()
    try:
        taken = stage.load(path)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
    else:
        again = yaml.safe_load(dump_yaml(taken.model_dump(mode="json")))
        assert stage.model_validate(again) == taken
    finally:
        assert tracemalloc.get_traced_memory()[1] < 1e8
        tracemalloc.stop()


@pytest.mark.fuzz
@given(value=plain)
def test_any_json_is_read_as_it_was_written(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(value), encoding="utf-8", errors="surrogatepass")
    try:
        assert json.dumps(read_json(path)) == json.dumps(value)
    except InputError as error:
        assert "cannot be read" in str(error)
