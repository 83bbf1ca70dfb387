"""Archives, tar or zip: looked through safely, and unpacked."""

import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Self

from mmqsa.atomic import is_disk_fault, whole_file
from mmqsa.config.files import quoted
from mmqsa.data.fetch import BLOCK, check_free
from mmqsa.errors import InputError
from mmqsa.progress import progress_bar

MAX_HEADER = 1 << 20  # bytes, of a tar's long name or attributes, which is read whole
# What the readers of archives raise on a damaged one.
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(OSError, ValueError, OverflowError, NotImplementedError, RuntimeError),
)


def unpack(archive: Path, root: Path) -> set[Path]:
    """Unpack files and folders into ``root``; links and paths that leave it are refused.

    Returns the files. tarfile's own ``filter`` needs Python 3.11.4.
    """
    inside, unpacked = root.resolve(), set[Path]()

    def write(name: str, size: int, source: IO[bytes] | None) -> None:
        path = (inside / name.lstrip("/")).resolve()
        if not path.is_relative_to(inside):
            raise tarfile.TarError(f"{name!r} leads out of the folder")
        if source is None:
            path.mkdir(parents=True, exist_ok=True)
            return
        _unpack_file(source, size, path)
        unpacked.add(path)

    with damage_named(archive):
        _check_space(archive, inside)
    look_through(archive, write, "unpack")
    return unpacked


def look_through(
    archive: Path, take: Callable[[str, int, IO[bytes] | None], None], doing: str
) -> None:
    """Give every member of an archive to ``take``: its name, size and content, None for a folder.

    Raises InputError that names the archive where it is damaged; ``take`` may raise what tarfile
    does for a member that it refuses.
    """
    members = _zip_members if archive.suffix == ".zip" else _tar_members
    with damage_named(archive):
        for name, size, source in progress_bar(members(archive), desc=doing, unit=" files"):
            with source or nullcontext():
                take(name, size, source)


@contextmanager
def damage_named(archive: Path) -> Iterator[None]:
    """What a damaged archive makes its readers raise becomes an InputError that names it."""
    try:
        yield
    except DAMAGE as error:
        if is_disk_fault(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{archive}: cannot be unpacked safely ({reason})") from None


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
    check_free(archive, size, root)


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
