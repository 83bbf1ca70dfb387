"""Methods of other code: what a results folder says of those whose predictions are scored in it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from mmqsa.config.base import Name, Section, Text, validated
from mmqsa.config.evaluation import BASELINES
from mmqsa.config.files import dump_yaml, quoted, read_yaml
from mmqsa.errors import InputError
from mmqsa.paths import Paths

RESERVED = (*BASELINES, "controls", "premise")
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class MethodRecord(Section):
    """One method of other code, ``results/methods/NAME.yaml``; ``methods/NAME/`` has its scores.

    Scores and label maps do not hold the title, so a title or a source may be edited at any time.
    """

    name: Name
    """in the names of files"""
    title: Text
    """in tables and figures"""
    kind: Literal["method", "supervised"] = "method"
    """supervised: has seen labels of these classes"""
    image_size: Annotated[int, Field(ge=1)] | None = None
    """side of the squares that it was scored on, px"""
    source: Text | None = None
    """where the method, or its predictions, are from: a citation or an address"""
    colour: Colour | None = None
    """in figures and on the page; null: that of its kind"""

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError(f"{quoted(name)} is a method of mmqsa itself; choose another")
        if name.endswith(".yaml"):  # its folder would have the name of another's record
            raise ValueError(f"{quoted(name)} ends in .yaml; leave that out")
        return name

    def text(self) -> str:
        """The YAML text of the record."""
        return dump_yaml(self.model_dump(mode="json"))


def read_methods(paths: Paths, again: str = "") -> dict[str, MethodRecord]:
    """The records below a results folder, by name. Raises InputError that names the file.

    ``again``: a method that is scored now, which makes its record if that is missing.
    """
    records: dict[str, MethodRecord] = {}
    for folder in sorted(path for path in paths.methods.glob("*") if path.is_dir()):
        record_file = folder.with_name(f"{folder.name}.yaml")
        if folder.name != again and any(folder.glob("*.csv")) and not record_file.exists():
            raise InputError(
                f"{record_file}: missing, though {folder} has scores; restore it, score again "
                f"(`mmqsa score --name {folder.name}`), or remove that folder"
            )
    for path in sorted(paths.methods.glob("*.yaml")):
        record = _read(path)
        if record.title in [other.title for other in records.values()]:
            raise InputError(f"{path}: title: {quoted(record.title)} is another's; rename one")
        records[record.name] = record
    return records


def _read(path: Path) -> MethodRecord:
    record = validated(MethodRecord, read_yaml(path), path)
    if record.name != path.stem:
        raise InputError(f"{path}: name: {quoted(record.name)} is not the file's; rename one")
    return record
