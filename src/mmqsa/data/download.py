"""Fetch a data set's archives from the first source that has them, check them, unpack them."""

import hashlib
import json
import lzma
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Self
from urllib.parse import unquote, urlparse

import requests

from mmqsa.atomic import is_disk_fault, whole_file, write_text
from mmqsa.config.base import expand
from mmqsa.config.data import DatasetConfig
from mmqsa.config.files import check_regular, quoted, read_json
from mmqsa.data.layouts import LAYOUTS
from mmqsa.errors import InputError, MachineError
from mmqsa.progress import progress_bar

RECEIPT = "receipt.json"  # written last: its folder is complete
BLOCK = 1 << 16  # bytes: at most this much is lost when a connection breaks
SCENES = "synthetic scenes"  # a receipt's source
TIMEOUT = 30  # seconds without a byte
MAX_HEADER = 1 << 20  # bytes, of a tar's long name or attributes, which is read whole
# What the readers of archives raise on a damaged one.
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(OSError, ValueError, OverflowError, NotImplementedError, RuntimeError),
)


def download(dataset: DatasetConfig, root: Path) -> str:
    """Fetch the data set to ``root`` from the first of ``dataset.sources`` that works.

    A source is an http(s) or file URL of the archive (of the folder of several archives), or a
    folder that already holds the data set; such a folder is linked, never copied or changed. An
    archive is resumed from ``*.part`` after an interruption, and unpacked only when its md5 is
    right. Returns the source that was used. Raises InputError that says why each source failed.
    """
    receipt = read_receipt(root)
    if receipt.get("source") == SCENES:
        raise InputError(f"{root}: holds synthetic scenes; choose another root")
    root.mkdir(parents=True, exist_ok=True)
    archives, faults = dataset.archives, []
    sums = archives or dataset.md5
    for source in dataset.sources:
        try:
            source = expand(source, "dataset.sources")
            if "://" in source:
                if receipt.get("md5") not in (None, sums):
                    raise InputError(
                        f"{root}: holds another data set ({RECEIPT} says which); choose another "
                        "root, or remove it"
                    )
                below = {f"{source.rstrip('/')}/{path}": md5 for path, md5 in archives.items()}
                unpacked = set[Path]()
                for url, md5 in (below or {source: dataset.md5}).items():
                    archive = root / _name(url)
                    _fetch(url, archive, md5)
                    unpacked |= _unpack(archive, root)
                _check_alone(unpacked, root, dataset.kind)
            else:
                _link(Path(source), root, dataset.kind)
        except (InputError, OSError) as error:
            if isinstance(error, MachineError) or is_disk_fault(error):
                raise
            faults.append(str(error))
            continue
        md5s = sums if "://" in source else None
        finish(root, {"source": source, "md5": md5s}, dataset.kind)
        return source
    raise InputError(
        f"no source has the data set: {'; '.join(faults)}. {_by_hand(dataset)}, or name a folder "
        f"that holds the data set unpacked (partial downloads stay in {root})"
    )


def _by_hand(dataset: DatasetConfig) -> str:
    """What to do on a machine without network."""
    if dataset.archives:
        return (
            f"Put {', '.join(dataset.archives)} below a folder and name it file:///FOLDER in "
            "dataset.sources"
        )
    urls = (source for source in dataset.sources if "://" in source)
    name = next(urls, "archive").rpartition("/")[2]
    return f"Fetch {name} elsewhere and name it file:///FOLDER/{name} in dataset.sources"


def _name(url: str) -> str:
    """What an archive's file is called."""
    try:
        name = PurePosixPath(unquote(urlparse(url).path)).name
    except ValueError as error:
        raise InputError(f"{url}: no URL ({error})") from None
    if name in ("", "..") or not name.isprintable():
        raise InputError(f"{url}: names no file; name the archive itself")
    return name


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


def _fetch(source: str, archive: Path, md5: str) -> None:
    """Download ``source`` to ``archive`` with progress, resuming ``archive.part``."""
    if os.path.lexists(archive):
        if archive.is_file() and _md5(archive) == md5:
            return
        raise InputError(
            f"{archive}: exists and is another file than that of md5 {md5}; remove it or choose "
            "another root"
        )
    part = archive.with_name(f"{archive.name}.{md5[:8]}.part")  # nobody else's
    parsed = urlparse(source)
    try:
        if parsed.scheme == "file":
            origin = Path(unquote(parsed.path))
            check_regular(origin)
            with origin.open("rb") as file:
                blocks = iter(lambda: file.read(BLOCK), b"")
                _write(blocks, part, have=0, total=origin.stat().st_size)
        elif parsed.scheme in ("http", "https"):
            _copy_http(source, part)
        else:
            raise InputError(f"{source}: not an http, https or file URL")
    except (OSError, ValueError) as error:  # of requests as well; ValueError: no such URL
        if isinstance(error, OSError) and is_disk_fault(error):
            error.filename = str(part)
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{source}: {reason}") from None
    actual = _md5(part)
    if actual != md5:
        part.unlink()
        raise InputError(f"{source}: md5 {actual}, expected {md5}; another or a damaged file")
    os.replace(part, archive)


def _copy_http(source: str, part: Path) -> None:
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(source, headers=headers, stream=True, timeout=TIMEOUT) as reply:
        if have and reply.status_code == 416:  # nothing beyond what we have: the md5 decides
            return
        reply.raise_for_status()
        have = have if reply.status_code == 206 else 0
        total = have + int(reply.headers.get("Content-Length", 0))
        _write(reply.iter_content(BLOCK), part, have, total)
    if total and part.stat().st_size < total:
        raise InputError(f"{source}: the connection ended early; run again to resume")


def _write(blocks: Iterable[bytes], part: Path, have: int, total: int) -> None:
    """Append to the ``have`` bytes of ``part`` with progress; 0 begins the file anew."""
    options = {"unit": "B", "unit_scale": True, "desc": "download"}
    _check_free(part, total - have, part.parent)
    bar = progress_bar(total=total or None, initial=have, **options)
    with part.open("ab" if have else "wb") as sink, bar:
        for block in blocks:
            sink.write(block)
            bar.update(len(block))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _unpack(archive: Path, root: Path) -> set[Path]:
    """Unpack files and folders into ``root``; links and paths that leave it are refused.

    Returns the files. tarfile's own ``filter`` needs Python 3.11.4.
    """
    inside, unpacked = root.resolve(), set[Path]()
    members = _zip_members if archive.suffix == ".zip" else _tar_members
    try:
        _check_space(archive, inside)
        for name, size, source in progress_bar(members(archive), desc="unpack", unit=" files"):
            path = (inside / name.lstrip("/")).resolve()
            if not path.is_relative_to(inside):
                raise tarfile.TarError(f"{name!r} leads out of the folder")
            if source is None:
                path.mkdir(parents=True, exist_ok=True)
                continue
            with source:
                _unpack_file(source, size, path)
            unpacked.add(path)
    except DAMAGE as error:
        if is_disk_fault(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{archive}: cannot be unpacked safely ({reason})") from None
    return unpacked


def _unpack_file(source: IO[bytes], size: int, path: Path) -> None:
    """Write a file of an archive, whole or not at all; another file that is there stays."""
    if path.exists():
        if path.is_file() and path.stat().st_size == size and _same(source, path):
            return  # of an attempt that was interrupted
        raise tarfile.TarError(
            f"{path} exists and is another file; remove it, or choose another root"
        )
    with whole_file(path) as temporary, temporary.open("wb") as sink:
        shutil.copyfileobj(source, sink)


def _same(source: IO[bytes], path: Path) -> bool:
    with path.open("rb") as file:
        blocks = iter(lambda: source.read(BLOCK), b"")
        return all(block == file.read(len(block)) for block in blocks)


def _check_space(archive: Path, root: Path) -> None:
    """Raises MachineError when what is in an archive does not fit on the disk of ``root``."""
    size = 0
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as members:
            size = sum(member.file_size for member in members.infolist())
    else:
        with tarfile.open(archive, tarinfo=_TarMember) as tar:
            for member in tar:
                size += _checked_size(member)  # attributes may change that of its head
    _check_free(archive, size, root)


def _check_free(file: Path, size: int, root: Path) -> None:
    """Raises MachineError when the ``size`` bytes of a file do not fit on the disk of ``root``."""
    free = shutil.disk_usage(root).free
    if size > free:
        raise MachineError(
            f"{file}: holds {size / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free at {root}; "
            "make room, or choose another root"
        )


class _TarMember(tarfile.TarInfo):
    """A member of a tar, whose head is checked before more is read.

    tarfile takes a damaged head for the archive's end, and goes back by a size below zero.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf and not any(buf):
                raise  # the end
            raise tarfile.ReadError(f"unexpected end of data: {error}") from None
        if not member.isreg() and member.size > MAX_HEADER:
            raise tarfile.ReadError(f"{quoted(member.name)} has a head of {member.size} bytes")
        _checked_size(member)
        return member


def _checked_size(member: tarfile.TarInfo) -> int:
    if member.size < 0:
        raise tarfile.ReadError(f"{quoted(member.name)} has a size of {member.size}")
    return member.size


def _tar_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """Names, sizes and contents; None for a folder."""
    with tarfile.open(archive, tarinfo=_TarMember) as tar:
        for member in tar:
            if not (member.isdir() or member.isfile()):
                raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder")
            yield member.name, member.size, None if member.isdir() else tar.extractfile(member)


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """The same of a zip; a link in it becomes a file that holds its target's name."""
    with zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            source = None if member.is_dir() else members.open(member)
            yield member.filename, member.file_size, source
