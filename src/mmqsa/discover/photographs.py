"""The photographs among files and folders."""

import os
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path

from mmqsa.data.photograph_files import photographs_among
from mmqsa.progress import notice


def find_photographs(paths: Iterable[Path], besides: Path) -> list[tuple[Path, Path]]:
    """List files, and photographs below folders: (file, name without suffix for its results).

    Names are unique, and UTF-8: below a folder a file keeps its place, and two of one name are told
    apart by their suffix, then by a number. Files below ``besides`` are left out. A path that does
    not exist, or a folder without images, stays in the list for its reader to refuse. Raises
    PermissionError on a folder that may not be listed.
    """
    excluded = _real(besides)
    photographs: list[tuple[Path, Path]] = []  # file, path below the folder that was given
    for path in paths:
        files = (
            file
            for file in (_files(path) if os.path.isdir(path) else [])
            if not any(part.startswith(".") for part in file.relative_to(path).parts[:-1])
            and excluded not in _real(file).parents
        )
        inside = sorted(photographs_among(files, path))
        photographs += [(file, Path(shown(file.relative_to(path)))) for file in inside] or [
            (path, Path(shown(Path(path.name or "photographs"))))
        ]
    named: dict[Path, Path] = {}  # name of the results -> file
    for path, name in photographs:
        numbered = (f"{name.stem}-{number}" for number in count(2))
        stems = chain([name.stem, name.name.replace(".", "-")], numbered)
        free = next(
            stem for stem in stems if stem not in (".", "..") and name.with_name(stem) not in named
        )
        named[name.with_name(free)] = path
    return [(path, name) for name, path in named.items()]


def shown(path: Path) -> str:
    """A path as text: bytes of its name that are no UTF-8 are written out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _real(path: Path) -> Path:
    """As ``path.resolve()``, which fails where links lead in a circle."""
    return Path(os.path.realpath(path))


def _not_in_silence(error: OSError) -> None:
    if isinstance(error, PermissionError):
        raise error


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder; linked folders are followed, each folder once."""
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=_not_in_silence):
        if root != str(folder) and {"objects.csv", "coco.json"} <= {*names}:
            notice(f"{root}: left out, for it holds what `mmqsa discover` wrote")
            folders.clear()
            continue
        status = os.stat(root)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()  # a link to a folder that it is in, or a second one
            continue
        seen.add((status.st_dev, status.st_ino))
        yield from (Path(root, name) for name in names)
