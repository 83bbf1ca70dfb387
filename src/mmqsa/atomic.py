"""Files that are either whole or absent."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmqsa.errors import InputError

DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def is_disk_fault(error: Exception) -> bool:
    """Whether the disk is at fault. Any other error may come from the source or the photograph."""
    return isinstance(error, OSError) and error.errno in DISK_FAULTS


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it onto ``path`` when the block succeeds.

    On an error the temporary file is removed and an earlier ``path`` stays. An OSError names
    ``path``, which the one of a full disk does not by itself.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays at the end: writers such as matplotlib choose the format by it.
    # A long name leaves no room for more: of the name 50 characters, which are at most 200 bytes.
    temporary = path.with_name(f".{path.stem[:50]}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_new(path: Path, content: bytes) -> None:
    """Write ``path``, whole or not at all; the same content may be there already.

    Raises InputError when something else is, which stays.
    """
    if path.is_file():
        if path.read_bytes() == content:
            return
        raise InputError(
            f"{path}: exists and was made otherwise (its content differs); it stays: name another "
            "folder, or remove it"
        )
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
