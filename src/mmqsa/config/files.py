"""The door for YAML and JSON: text that a person or another program wrote, as plain data."""

import io
import json
import os
import reprlib
import select
import time
from pathlib import Path
from typing import Any

import yaml

from mmqsa.errors import InputError

# Far above any real file; a file beyond them would be slow to read, or a trap.
MAX_BYTES = 2_000_000  # of a file
MAX_DEPTH = 32  # of values inside of one another
MAX_VALUES = 200_000  # with aliases written out
MAX_QUOTED = 80  # characters of a value in a message
PATIENCE = 10.0  # seconds for what comes through a pipe

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = MAX_QUOTED


def quoted(value: Any) -> str:
    """A value as a message shows it: at most MAX_QUOTED characters, however large it is."""
    try:
        text = _REPR.repr(value)
    except ValueError:  # Python writes out no number of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 1]}…"


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file's mapping. Raises InputError on a missing, malformed or oversized file."""
    text = read_text(path)
    try:
        data = yaml.load(_Named(text, Path(path).name), _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: not valid YAML ({_one_line(error)})") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputError(f"{path}: a config file is a mapping of sections")
    return data


def read_json(path: str | Path) -> Any:
    """A JSON file's value. Raises InputError on a missing, malformed or oversized file."""
    check_regular(path)
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=without_repeats)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({_one_line(error)})") from None


def check_regular(path: str | Path) -> None:
    """Raises InputError on a pipe, a device or a folder: reading one may never end."""
    if Path(path).exists() and not Path(path).is_file():
        raise InputError(f"{path}: not a regular file; name the file itself")


def read_text(path: str | Path) -> str:
    """A text file in UTF-8. Raises InputError when it is missing, binary or oversized."""
    try:
        return read_bytes(path).decode()
    except UnicodeError as error:
        raise InputError(f"{path}: cannot be read ({_one_line(error)})") from None


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a small file. Raises InputError when it is missing or oversized."""
    try:
        content = _content(path)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise InputError(f"{path}: cannot be read ({_one_line(error)})") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES:,} bytes; is it the right file?")
    return content


def _content(path: str | Path) -> bytes:
    """The bytes of a file, at most one too many; those of a pipe, if some come in good time."""

    def without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)

    content, latest = b"", time.monotonic() + PATIENCE
    with open(path, "rb", buffering=0, opener=without_waiting) as file:
        while len(content) <= MAX_BYTES:
            part = file.read(MAX_BYTES + 1 - len(content))
            if part:
                content += part
            elif part is not None:
                break
            elif not select.select([file], [], [], max(0.0, latest - time.monotonic()))[0]:
                raise TimeoutError(f"nothing comes through this pipe for {PATIENCE:.0f} seconds")
    if not content and Path(path).is_fifo():
        raise ValueError("nothing comes through this pipe")
    return content


def dump_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML, keys in their given order."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


class _Named(io.StringIO):
    """A text that PyYAML's messages name."""

    def __init__(self, text: str, name: str):
        super().__init__(text)
        self.name = name


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError on a key that is there twice: the last would win."""
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {quoted(repeated)} is there twice")
    return data


class _Loader(yaml.SafeLoader):
    """Plain data alone; keys once, depth and number of values bounded before anything is built."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self._refuse(f"values inside of one another more than {MAX_DEPTH} deep", parent)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """PyYAML raises anything on a date that does not exist, or an ``!!int`` that is none."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError):
            kind = node.tag.rpartition(":")[2]
            self._refuse(f"{quoted(node.value)} is no {quoted(kind)}", node)

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _values(node, {}) > MAX_VALUES:
            self._refuse(f"more than {MAX_VALUES:,} values", node)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        if isinstance(node, yaml.MappingNode):
            keys = set()
            for key, _ in node.value:  # those of a `<<` come later, and may be there as well
                if not isinstance(key, yaml.ScalarNode):
                    self._refuse("a list or a mapping as a key", key)
                if key.value in keys:
                    self._refuse(f"the key {quoted(key.value)} is there twice", key)
                keys.add(key.value)
        return super().construct_mapping(node, deep)

    def _refuse(self, reason: str, node: Any) -> None:
        raise yaml.MarkedYAMLError(problem=reason, problem_mark=node and node.start_mark)


def _values(node: Any, known: dict[int, float]) -> float:
    """How many values a node holds, an alias counted at each of its places."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")  # while it is counted: a node inside of itself has no end
        nodes = (
            node.value
            if isinstance(node, yaml.SequenceNode)
            else [one for pair in node.value for one in pair]
        )
        known[id(node)] = 1 + sum(_values(one, known) for one in nodes)
    return known[id(node)]
