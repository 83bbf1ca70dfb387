"""Files that are either whole or absent, also where two processes write them at once."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from filecmp import cmp
from hashlib import sha256
from pathlib import Path

from mmqsa.errors import InputError

DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
# What file systems say that know no locks, or no second name for a file.
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EBADF, errno.EINVAL)
MAX_NOTE = 1 << 20  # bytes of the names of files that are written together
NO_LINKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK)


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
    with temporary_file(path) as temporary:
        yield temporary
        os.replace(temporary, path)


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` for a file that the block moves away, or that is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays at the end: writers such as matplotlib choose the format by it.
    # A long name leaves no room for more: of the name 50 characters, which are at most 200 bytes.
    temporary = path.with_name(f".{path.stem[:50]}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_new(path: Path, content: bytes) -> None:
    """Write ``path``, whole or not at all; the same content may be there already.

    Raises InputError when something else is, which stays.
    """
    write_together({path: content})


def write_together(files: Mapping[Path, bytes | Path]) -> None:
    """Write several new files, all of them or none; any may be there with the same content.

    The content is bytes, or a temporary file in the folder of its path, which is moved. The last
    path is written last, so that it vouches for the others. What a killed process had written with
    this last path, but without it, is removed first, or by who claims the last path. Raises
    InputError when something else is in the place of a file, which stays.
    """
    *_, last = files
    with _publishing(last) as note:
        missing = [path for path, content in files.items() if not _is_there(path, content)]
        temporaries = {path: _hidden(path, "new", last) for path in missing}
        note(missing)
        try:
            for path in missing:
                _write(files[path], temporaries[path], path)
            _put_in_place(temporaries)
        finally:
            _settle(temporaries)


@contextmanager
def _publishing(last: Path) -> Iterator[Callable[[list[Path]], None]]:
    """Be the only one that writes files with ``last``; what a killed one left is removed.

    Yields what notes the files that are written now, in the lock file, which a killed process
    leaves. It names no temporary file: their names follow from it, so nothing else can be removed.
    """
    folder = Path(os.path.realpath(last)).parent
    with _locked(last, "publish", wait=True) as lock:
        left = b"" if lock is None else os.pread(lock, MAX_NOTE, 0)
        paths = [folder / os.fsdecode(name) for name in left.split(b"\0") if name]
        _settle({path: _hidden(path, "new", last) for path in paths})

        def note(paths: list[Path]) -> None:
            names = [os.path.relpath(path, folder) for path in paths]
            if lock is not None and names:
                try:
                    os.ftruncate(lock, 0)
                    os.pwrite(lock, b"\0".join(map(os.fsencode, names)), 0)
                except OSError as error:
                    error.filename = str(last)
                    raise

        yield note


def _is_there(path: Path, content: bytes | Path) -> bool:
    """Whether a file is there. Raises InputError where it has other content."""
    if not os.path.lexists(path):
        return False
    if path.is_file():
        if isinstance(content, Path):
            same = cmp(path, content, shallow=False)
        else:
            same = path.stat().st_size == len(content) and path.read_bytes() == content
        if same:
            return True
    raise InputError(
        f"{path}: exists and was made otherwise (its content differs); it stays: name another "
        "folder, or remove it"
    )


def _write(content: bytes | Path, temporary: Path, path: Path) -> None:
    """Write a temporary file for ``path``, which an error names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if isinstance(content, Path):
            os.replace(content, temporary)
        else:
            temporary.write_bytes(content)
    except OSError as error:
        error.filename = str(path)
        raise


def _put_in_place(temporaries: Mapping[Path, Path]) -> None:
    """Give each temporary file its name as well, which tells `_settle` how far this came."""
    renamed: list[Path] = []
    try:
        for path, temporary in temporaries.items():
            try:
                os.link(temporary, path)  # which replaces nothing
            except OSError as error:
                if error.errno not in (*NO_LINKS, errno.EEXIST):
                    raise
                if _is_there(path, temporary):  # another process has been faster
                    temporary.unlink()
                else:  # a file system where a file has one name
                    renamed.append(path)
                    os.rename(temporary, path)
    except BaseException:
        for path in renamed:
            path.unlink(missing_ok=True)
        raise


def _settle(temporaries: Mapping[Path, Path]) -> None:
    """Remove temporary files, and the files that were made of them if the last was not."""
    there = [(path, temporary) for path, temporary in temporaries.items() if temporary.exists()]
    whole = bool(there) and _same_file(*there[-1])
    for path, temporary in there:
        if not whole and _same_file(path, temporary):
            path.unlink()
        temporary.unlink()


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and one.samefile(other)


@contextmanager
def claimed(target: str | Path, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Keep other processes from a file, or from a folder and what is in it, during the block.

    ``shared``: others may have it as well, as long as all of them share it; readers do. The claim
    ends with the process, however that ends. Raises InputError where another process has it, or
    waits for that with ``wait``.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(target, "lock", shared, wait))
        except BlockingIOError:
            raise InputError(
                f"{target}: another process is at work on it; wait for it, or name another"
            ) from None
        if not shared and _hidden(Path(os.path.realpath(target)), "publish").exists():
            with _publishing(Path(target)):
                pass  # what a killed process left is removed
        yield


@contextmanager
def _locked(
    target: str | Path, purpose: str, shared: bool = False, wait: bool = False
) -> Iterator[int | None]:
    """Hold the lock of a file or folder; its hidden file beside ``target`` is removed at the end.

    Yields that file, open; None where ``target`` itself is locked. The kernel ends it with the
    process. Raises BlockingIOError where another process holds it, unless ``wait``.
    """
    target = Path(os.path.realpath(target))
    lock = _hidden(target, purpose)
    made = [folder for folder in (lock.parent, *lock.parent.parents) if not folder.exists()]
    mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    held = -1
    try:
        while held < 0:
            held = _opened_lock(lock, target, mode)
        yield held if _is_open(held, lock) else None
    finally:
        if held >= 0:
            # Only who has it alone may remove it: another would no longer meet those who share it.
            with suppress(OSError):
                _lock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock.unlink()
            os.close(held)
        for folder in made:  # nothing was written there
            with suppress(OSError):
                folder.rmdir()


def _opened_lock(lock: Path, target: Path, mode: int) -> int:
    """An open lock file with its lock; -1 where another process has just removed that file."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        # Beside a mount point is another disk, which processes elsewhere do not share.
        path = target if target.is_dir() and os.path.ismount(target) else lock
        how = os.O_RDONLY if path == target else os.O_RDWR | os.O_CREAT
        file = os.open(path, flags | how, 0o666)
    except FileNotFoundError:
        return -1  # its folder was removed as well
    except OSError as error:
        if error.errno not in NOT_ALLOWED or not target.exists():
            if error.errno in (*NOT_ALLOWED, *DISK_FAULTS):
                error.filename = str(target)
            raise
        path, file = target, os.open(target, flags)
        if not target.is_dir():
            return file  # nobody can write beside it, or in its place, so there is nothing to lock
    try:
        _lock(file, mode)
        if path == target or _is_open(file, lock):
            return file
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return -1


def _is_open(file: int, path: Path) -> bool:
    """Whether an open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _lock(file: int, mode: int) -> None:
    """Lock an open file, where its file system knows locks."""
    try:
        fcntl.flock(file, mode)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def _hidden(path: Path, ending: str, group: Path | None = None) -> Path:
    """A hidden file beside ``path``, whose name no other path has, however long its own is."""
    key = os.fsencode(path.name) + b"/" + os.fsencode(group.name if group else "")
    return path.parent / f".{path.name[:50]}.{sha256(key).hexdigest()[:12]}.{ending}"
