"""Fetch a VOC archive from the first source that has it, check it, unpack it."""

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path
from urllib.parse import unquote, urlparse

import requests

from mmqsa.atomic import write_text
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.progress import progress_bar
from mmqsa.settings import Dataset, expand

RECEIPT = "receipt.json"  # written last: where it stands, the folder is whole
BLOCK = 1 << 16  # bytes: at most this much is lost when a connection breaks
TIMEOUT = 30  # seconds without a byte


def download(dataset: Dataset, root: Path) -> str:
    """Make ``root`` hold a VOC folder, from the first of ``dataset.sources`` that works.

    A source is an http(s) or file URL of the archive, or a folder that already holds VOC; such a
    folder is linked, never copied or changed. An archive is resumed from ``*.part`` after an
    interruption, and unpacked only when its md5 is right.

    Returns the source that was used. Raises InputError that tells what became of each source.
    """
    root.mkdir(parents=True, exist_ok=True)
    faults = []
    for source in dataset.sources:
        try:
            source = expand(source, "dataset.sources")
            if "://" in source:
                archive = root / Path(urlparse(source).path).name
                _fetch(source, archive, dataset.md5)
                _unpack(archive, root)
            else:
                _link(Path(source), root)
        except InputError as error:
            faults.append(str(error))
            continue
        finish(root, {"source": source, "md5": dataset.md5 if "://" in source else None})
        return source
    raise InputError(
        "no source gave the data set: "
        + "; ".join(faults)
        + f". Put the archive at a file:// source, or name a VOC folder, in dataset.sources "
        f"(partial downloads stay in {root})"
    )


def finish(root: Path, provenance: dict) -> None:
    """Write the receipt that says ``root`` is whole: provenance and image counts."""
    voc = VocFolder.find(root)
    photographs = sum(1 for _ in (voc.path / "JPEGImages").glob("*.jpg"))
    receipt = provenance | {"photographs": photographs}
    write_text(root / RECEIPT, json.dumps(receipt, indent=2) + "\n")


def _link(folder: Path, root: Path) -> None:
    target = VocFolder.find(folder).path.resolve()
    link = root / "VOC2012"
    if link.is_symlink():
        link.unlink()
    if link.exists():
        if link.resolve() == target:
            return
        raise InputError(f"{link}: already holds other data; remove it or choose another root")
    link.symlink_to(target, target_is_directory=True)


def _fetch(source: str, archive: Path, md5: str) -> None:
    """Download ``source`` to ``archive`` with progress, resuming ``archive.part``."""
    if archive.is_file() and _md5(archive) == md5:
        return
    part = archive.with_name(archive.name + ".part")
    parsed = urlparse(source)
    try:
        if parsed.scheme == "file":
            _copy_file(Path(unquote(parsed.path)), part)
        elif parsed.scheme in ("http", "https"):
            _copy_http(source, part)
        else:
            raise InputError(f"{source}: not an http, https or file URL")
    except (requests.RequestException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{source}: {reason}") from None
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise InputError(f"{source}: md5 {found}, expected {md5}; another or a damaged file")
    os.replace(part, archive)


def _copy_file(origin: Path, part: Path) -> None:
    size = origin.stat().st_size
    with origin.open("rb") as source, part.open("wb") as sink, _progress(size, 0) as bar:
        while block := source.read(BLOCK):
            sink.write(block)
            bar.update(len(block))


def _copy_http(source: str, part: Path) -> None:
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(source, headers=headers, stream=True, timeout=TIMEOUT) as reply:
        if reply.status_code == 416:  # nothing beyond what we have: the md5 will judge it
            return
        reply.raise_for_status()
        resumed = reply.status_code == 206
        have = have if resumed else 0
        total = have + int(reply.headers.get("Content-Length", 0))
        with part.open("ab" if resumed else "wb") as sink, _progress(total, have) as bar:
            for block in reply.iter_content(BLOCK):
                sink.write(block)
                bar.update(len(block))
    if total and part.stat().st_size < total:
        raise InputError(f"{source}: the connection ended early; run again to resume")


def _progress(total: int, initial: int):
    return progress_bar(
        total=total or None, initial=initial, unit="B", unit_scale=True, desc="download"
    )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _unpack(archive: Path, root: Path) -> None:
    """Unpack files and folders into ``root``; no member may leave it, and nothing else may come.

    Not tarfile's own ``filter``, which Python 3.11 has from 3.11.4 on alone.
    """
    inside = root.resolve()
    try:
        with tarfile.open(archive) as tar:
            for member in progress_bar(tar, desc="unpack", unit=" files"):
                path = (inside / member.name.lstrip("/")).resolve()
                if not path.is_relative_to(inside):
                    raise tarfile.TarError(f"{member.name!r} leads out of the folder")
                if member.isdir():
                    path.mkdir(parents=True, exist_ok=True)
                elif member.isfile():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with tar.extractfile(member) as source, path.open("wb") as sink:
                        shutil.copyfileobj(source, sink)
                else:
                    raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{archive}: cannot be unpacked safely ({error})") from None
