"""The text of config.yaml, of its JSON schema and of the list of all knobs.

``make config`` writes them from the typed configuration: ``python -m mmqsa.config.render .``.
"""

import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from mmqsa.config.base import KNOBS
from mmqsa.config.files import dump_yaml
from mmqsa.config.workflow import Config

MARKER = (
    "# ---- settings of the ablation: edit below; `make config` writes what stands above ----\n"
)
HEADER = """\
# Every knob of the paper's experiment, once. Defaults, bounds and descriptions are those of
# src/mmqsa/config; a file of yours on top of this one holds only what differs:
#   snakemake --cores all --configfile my.yaml
"""
COLUMN = 34  # of the comments


def knobs_yaml() -> str:
    """The generated part of config.yaml: every knob with its default and its description."""
    config, fields = Config(), Config.model_fields
    lines = [line for key in KNOBS for line in _lines(key, getattr(config, key), fields[key], 0)]
    return HEADER + "\n".join(lines) + "\n\n" + MARKER


def _lines(key: str, value: Any, field: Any, depth: int) -> list[str]:
    """``key: value  # description``, section by section."""
    indent, description = "  " * depth, field.description or ""
    if isinstance(value, BaseModel):
        about = (type(value).__doc__ or "").strip()
        lines = [_commented(f"{indent}{key}:", about.splitlines()[0])]
        for name, inner in type(value).model_fields.items():
            lines += _lines(name, getattr(value, name), inner, depth + 1)
        return [*([""] if depth == 0 else []), *lines]
    text = _plain(value)
    if isinstance(value, list) and len(text) > 70:
        items = [f"{indent}  - {item}" for item in value]
        return [_commented(f"{indent}{key}:", description), *items]
    return [_commented(f"{indent}{key}: {text}", description)]


def _commented(line: str, description: str) -> str:
    return f"{line:<{COLUMN - 1}} # {' '.join(description.split())}" if description else line


def schema() -> dict[str, Any]:
    """The JSON schema of config.yaml, without references: catalogs do not resolve them."""
    raw = Config.model_json_schema()
    definitions = raw.pop("$defs")

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            target = definitions[node["$ref"].rsplit("/", 1)[1]]
            return inline({**target, **{key: node[key] for key in node if key != "$ref"}})
        # Nothing is required: a file on top of another one holds only what differs.
        return {key: inline(value) for key, value in node.items() if key != "required"}

    whole = inline(raw)
    for key in ("tables", "other_datasets"):  # null takes away one of the config below
        entries = whole["properties"][key]["patternProperties"]
        for pattern, entry in entries.items():
            entries[pattern] = {"anyOf": [entry, {"type": "null"}]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}


def knobs_markdown() -> str:
    """The text of config/README.md: every key of config.yaml and of config/tables.yaml."""
    properties = schema()["properties"]
    (tables,) = properties.pop("tables")["patternProperties"].values()
    sections = {f"`{key}`": properties.pop(key) for key in KNOBS if "properties" in properties[key]}
    sections |= {"The workflow": {"properties": properties}, "A table": tables["anyOf"][0]}
    parts = [KNOBS_HEADER]
    for title, section in sections.items():
        parts += [f"## {title}", section.get("description", ""), "| key | default | meaning |"]
        parts[-1] += "\n|---|---|---|\n" + "\n".join(_rows(section["properties"]))
    return "\n\n".join(filter(None, parts)) + "\n"


KNOBS_HEADER = """\
# Configuration

`config.yaml` holds the knobs and the settings of the ablation, `config/tables.yaml` holds what is
printed. The other files here change them: `snakemake --cores all --configfile config/demo.yaml`. A
file of yours holds only what differs; `--config 'training={"steps": 1000}'` changes single values.

| file | what it runs |
|---|---|
| [demo.yaml](demo.yaml) | the whole chain on synthetic scenes, offline, in minutes |
| [voc-subset.yaml](voc-subset.yaml) | photographs on a CPU, in hours |
| [voc-vits14.yaml](voc-vits14.yaml) | the same photographs, with a ViT-S/14 |
| [voc-vits14-trials.yaml](voc-vits14-trials.yaml) | how the settings of voc-vits14 were found |
| [voc-vits14-blocks.yaml](voc-vits14-blocks.yaml) | four blocks of the ViT-S/14 at once |
| [voc-vits14-methods.yaml](voc-vits14-methods.yaml) | recipes of other methods on its features |
| [voc-vits14-layers.yaml](voc-vits14-layers.yaml) | a head per block (MUFASA) |
| [voc-vits14-long.yaml](voc-vits14-long.yaml) | long trainings of it from random weights |
| [coco.yaml](coco.yaml) | COCO 2017 instead of PASCAL VOC 2012 |
| [voc2007.yaml](voc2007.yaml) | one box an image on VOC 2007, beside LOST and TokenCut |
| [coco20k.yaml](coco20k.yaml) | the same on COCO 20k |
| [rehearsal.yaml](rehearsal.yaml) | config.yaml at full size on made photographs |

Below is every key with its default (`make config` writes this page from src/mmqsa/config)."""


def _rows(properties: dict[str, Any], prefix: str = "") -> list[str]:
    rows = []
    for key, node in properties.items():
        if "properties" in node:
            rows += _rows(node["properties"], f"{prefix}{key}.")
            continue
        text = _plain(node["default"]) if "default" in node else "required"
        about = " ".join(node.get("description", "").split()).replace("|", "\\|")
        values = [str(value) for value in node.get("enum", [])]
        about += f" ({', '.join(values)})" if any(value not in about for value in values) else ""
        rows.append(f"| `{prefix}{key}` | `{text}` | {about} |")
    return rows


def _plain(value: Any) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).strip().removesuffix("\n...")


def write(root: Path) -> None:
    """Write the generated part of config.yaml, the schema and config/README.md below ``root``."""
    settings = (root / "config.yaml").read_text().partition(MARKER)[2]
    (root / "config.yaml").write_text(knobs_yaml() + settings)
    note = "# Written by `make config` from src/mmqsa/config.\n"
    (root / "workflow/schemas/config.schema.yaml").write_text(note + dump_yaml(schema()))
    (root / "config/README.md").write_text(knobs_markdown())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
