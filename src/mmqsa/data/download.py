"""Fetch a data set's archives from the first source that has them, or link a folder."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from mmqsa.atomic import claimed, is_disk_fault, write_text
from mmqsa.config.base import expand
from mmqsa.config.data import DatasetConfig
from mmqsa.config.files import read_json
from mmqsa.data.archives import unpack
from mmqsa.data.fetch import fetch
from mmqsa.data.layouts import LAYOUTS
from mmqsa.errors import InputError, MachineError

RECEIPT = "receipt.json"  # written last: its folder is complete
SCENES = "synthetic scenes"  # a receipt's source


def download(dataset: DatasetConfig, root: Path) -> str:
    """Fetch the data set to ``root`` from the first of ``dataset.sources`` that works.

    A source is an http(s) or file URL of the archive (of the folder of several archives), or a
    folder that already holds the data set; such a folder is linked, never copied or changed. An
    archive is resumed from ``*.part`` after an interruption, and unpacked only when its md5 is
    right. Returns the source that was used. Raises InputError that says why each source failed.
    """
    with claimed(root):
        return _download(dataset, root)


def _download(dataset: DatasetConfig, root: Path) -> str:
    """Fetch a data set into a root that no other process writes to; returns the source."""
    receipt = read_receipt(root)
    if receipt.get("source") == SCENES:
        raise InputError(f"{root}: holds synthetic scenes; choose another root")
    root.mkdir(parents=True, exist_ok=True)
    archives = dataset.archives
    sums = archives or dataset.md5

    def use(source: str) -> None:
        if "://" not in source:
            return _link(Path(source), root, dataset.kind)
        if receipt.get("md5") not in (None, sums):
            raise InputError(
                f"{root}: holds another data set ({RECEIPT} says which); choose another root, or "
                "remove it"
            )
        below = {f"{source.rstrip('/')}/{path}": md5 for path, md5 in archives.items()}
        unpacked = set[Path]()
        for url, md5 in (below or {source: dataset.md5}).items():
            unpacked |= unpack(fetch(url, root, md5), root)
        _check_alone(unpacked, root, dataset.kind)

    try:
        source = first_that_works(dataset.sources, "dataset.sources", use)
    except NoSource as error:
        raise InputError(
            f"no source has the data set: {error}. {_by_hand(dataset)}, or name a folder that "
            f"holds the data set unpacked (partial downloads stay in {root})"
        ) from None
    finish(root, {"source": source, "md5": sums if "://" in source else None}, dataset.kind)
    return source


class NoSource(Exception):
    """Why each of several sources failed."""


def first_that_works(sources: list[str], key: str, use: Callable[[str], object]) -> str:
    """The first source that ``use`` takes; ``key`` is where the config lists them.

    Raises NoSource when none works.
    """
    faults = []
    for source in sources:
        try:
            source = expand(source, key)
            use(source)
        except (InputError, OSError) as error:
            if isinstance(error, MachineError) or is_disk_fault(error):
                raise
            faults.append(str(error))
        else:
            return source
    raise NoSource("; ".join(faults))


def _by_hand(dataset: DatasetConfig) -> str:
    """What to do on a machine without network."""
    if dataset.archives:
        return (
            f"Put {', '.join(dataset.archives)} below a folder and name it file:///FOLDER in "
            "dataset.sources"
        )
    return fetch_elsewhere(dataset.sources, "dataset.sources")


def fetch_elsewhere(sources: list[str], key: str) -> str:
    """The same for one file of several sources, which the config lists as ``key``."""
    urls = (source for source in sources if "://" in source)
    name = next(urls, "archive").rpartition("/")[2]
    return f"Fetch {name} elsewhere and name it file:///FOLDER/{name} in {key}"


def finish(root: Path, provenance: dict, kind: str) -> None:
    """Write the receipt that says ``root`` is complete: provenance and number of photographs."""
    receipt = provenance | {"photographs": len(LAYOUTS[kind].find(root).photographs())}
    write_text(root / RECEIPT, json.dumps(receipt, indent=2) + "\n")


def read_receipt(root: Path) -> dict:
    """What a data set's folder was made of; empty where it is not complete."""
    path = root / RECEIPT
    if not os.path.lexists(path):
        return {}
    receipt = read_json(path)
    if not isinstance(receipt, dict) or "source" not in receipt:
        raise InputError(f"{path}: no receipt of a data set; remove it")
    return receipt


def _link(folder: Path, root: Path, kind: str) -> None:
    layout = LAYOUTS[kind]
    target = layout.find(folder).path.resolve()
    link = root / layout.link
    if not os.path.lexists(link):
        link.symlink_to(target, target_is_directory=True)
    found = link if os.path.realpath(link) != str(target) else layout.find(root).path
    if os.path.realpath(found) != str(target):
        raise InputError(
            f"{found}: already holds, or leads to, other data; remove it or choose another root"
        )


def _check_alone(unpacked: set[Path], root: Path, kind: str) -> None:
    """Raises InputError when photographs that were not ``unpacked`` would be read at ``root``."""
    layout = LAYOUTS[kind]
    for path in layout(layout.find(root).path.resolve()).photographs():
        if path not in unpacked:
            raise InputError(f"{path}: is not of this data set; remove it or choose another root")
