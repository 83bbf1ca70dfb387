"""Fetch a file from an address: resumed after an interruption, and whole only with its md5."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

import requests

from mmqsa.atomic import is_disk_fault
from mmqsa.config.files import check_regular
from mmqsa.errors import InputError, MachineError
from mmqsa.progress import progress_bar

BLOCK = 1 << 16  # bytes: at most this much is lost when a connection breaks
TIMEOUT = 30  # seconds without a byte
BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def fetch(source: str, root: Path, md5: str) -> Path:
    """Download an http(s) or file URL into ``root`` with progress, resuming its ``.part``.

    Returns the file; one that is there with that md5 is taken as it is. Raises InputError.
    """
    archive = root / file_name(source)
    if os.path.lexists(archive):
        if archive.is_file() and _md5(archive) == md5:
            return archive
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
    return archive


def _copy_http(source: str, part: Path) -> None:
    """Get what is missing, as long as every connection brings some of it. Raises OSError."""
    while True:
        have = part.stat().st_size if part.is_file() else 0
        try:
            return _copy_rest(source, part, have)
        except BROKEN:
            if not part.is_file() or part.stat().st_size <= have:
                raise


def _copy_rest(source: str, part: Path, have: int) -> None:
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(source, headers=headers, stream=True, timeout=TIMEOUT) as reply:
        if have and reply.status_code == 416:  # nothing beyond what we have: the md5 decides
            return
        reply.raise_for_status()
        have = have if reply.status_code == 206 else 0
        total = have + int(reply.headers.get("Content-Length", 0))
        _write(reply.iter_content(BLOCK), part, have, total)
    if total and part.stat().st_size < total:
        raise requests.ConnectionError("the connection ended early; run again to resume")


def _write(blocks: Iterable[bytes], part: Path, have: int, total: int) -> None:
    """Append to the ``have`` bytes of ``part`` with progress; 0 begins the file anew."""
    options = {"unit": "B", "unit_scale": True, "desc": "download"}
    check_free(part, total - have, part.parent)
    bar = progress_bar(total=total or None, initial=have, **options)
    with part.open("ab" if have else "wb") as sink, bar:
        for block in blocks:
            sink.write(block)
            bar.update(len(block))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def check_free(file: Path, size: int, root: Path) -> None:
    """Raises MachineError when the ``size`` bytes of a file do not fit on the disk of ``root``."""
    free = shutil.disk_usage(root).free
    if size > free:
        raise MachineError(
            f"{file}: holds {size / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free at {root}; "
            "make room, or choose another root"
        )


def file_name(url: str) -> str:
    """What an archive's file is called."""
    try:
        name = PurePosixPath(unquote(urlparse(url).path)).name
    except ValueError as error:
        raise InputError(f"{url}: no URL ({error})") from None
    if name in ("", "..") or not name.isprintable():
        raise InputError(f"{url}: names no file; name the archive itself")
    return name
