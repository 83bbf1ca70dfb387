"""A command handed to a waiting process, which runs it in a copy of itself.

Importing torch and timm takes longer than most stages of a small workflow. The waiting process
(mmqsa/cli/waiting.py) imports them once; each command is then a fork of it, with the arguments, the
folder, the environment and the open files of the process that asked. Linux only.
"""

import atexit
import fcntl
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir
from typing import TextIO

FOLDER = "MMQSA_WORKER"  # the environment variable that names the folder of the sockets
LOST = 71  # EX_OSERR of BSD's sysexits.h: what ran the command is gone
NAME = re.compile(r"mmqsa-([0-9]+)-[0-9a-f]+")  # of such a folder, with the process that it is for
FILES = re.compile(r"[0-9a-f]{12}(\.(lock|log|new))?")  # in it: a socket, and what belongs to it
# Read once, when a library is loaded: a command with other values needs another waiting process.
READ_AT_START = ("PYTHONPATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def hand_over(folder: Path, arguments: list[str]) -> int | None:
    """Run a command in a copy of the waiting process, and pass signals on to it.

    Returns its exit code; None while the waiting process starts, and where there can be none: the
    caller runs the command.
    """
    connection = _connect(folder)
    if connection is None:
        return None
    request = {
        "arguments": arguments,
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "umask": _umask(),
    }
    code = ""
    with suppress(ConnectionError), connection, connection.makefile("rw") as stream:
        socket.send_fds(connection, [b"\n"], [0, 1, 2])
        stream.write(json.dumps(request) + "\n")
        stream.flush()
        copy = stream.readline()
        if copy:
            _pass_signals_on(int(copy))
        code = stream.readline()
    if not code:
        print("mmqsa: the waiting process ended; run it again", file=sys.stderr)
    return int(code or LOST)


def _pass_signals_on(process: int) -> None:
    def pass_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(process, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)


def _connect(folder: Path) -> socket.socket | None:
    """A connection to the waiting process of this Python; None while it starts, or if it cannot."""
    path = socket_of(folder)
    try:
        if NAME.fullmatch(folder.name):
            folder.mkdir(mode=0o700, exist_ok=True)
        check_own(folder)
        connection = _connect_to(path)
        if connection is None:
            with path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(
                    lock, fcntl.LOCK_EX | fcntl.LOCK_NB
                )  # of several commands, one starts it
                connection = _connect_to(path)
                if connection is None:
                    _start(path, lock)
    except BlockingIOError:  # it is starting: its imports would take as long as the caller's own
        return None
    except OSError as error:
        print(f"mmqsa: no waiting process ({error}); this one imports all itself", file=sys.stderr)
        return None
    return connection


def _connect_to(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


def _start(path: Path, lock: TextIO) -> None:
    """Start the waiting process, which keeps the lock, its standard input, until it listens.

    Raises OSError if one was started before and ended while it imported.
    """
    log = path.with_suffix(".log")
    if log.exists() and not path.exists():
        last = "".join(log.read_text(errors="replace").strip().splitlines()[-1:])
        raise OSError(f"it does not start: {last or 'it was killed'}")
    if path.exists() and not path.is_socket():
        raise OSError(f"{path}: is no socket")
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "mmqsa.cli.waiting", str(path), str(owner(path.parent))]
    with log.open("wb") as output:
        subprocess.Popen(command, stdin=lock, stdout=output, stderr=output, start_new_session=True)


def new_folder() -> Path:
    """A folder for the sockets of the commands below this process; made when one is needed."""
    folder = Path(gettempdir()) / f"mmqsa-{os.getpid()}-{os.urandom(8).hex()}"
    atexit.register(_remove_folder, folder)
    return folder


def check_own(folder: Path) -> None:
    """Raises OSError unless ``folder`` is one that was made for sockets, by this user."""
    named = NAME.fullmatch(folder.name)
    if not named:
        raise OSError(f"{FOLDER}={str(folder)[:80]!r}: is no folder of mmqsa-PROCESS-NUMBER's name")
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(f"{folder}: is a link or a file, not a folder")
    if found.st_uid != os.getuid():
        raise OSError(f"{folder}: is another user's")
    if found.st_mode & 0o777 != 0o700:
        raise OSError(f"{folder}: others may use it (its mode is not 700)")
    if not Path("/proc", named[1]).exists():
        raise OSError(f"{folder}: process {named[1]}, which it was made for, has ended")


def remove_socket(path: Path) -> None:
    """Remove a socket with its lock and log, and their folder if nothing else is in it."""
    for file in (path, *(path.with_suffix(suffix) for suffix in (".lock", ".log", ".new"))):
        with suppress(OSError):
            file.unlink()
    with suppress(OSError):
        path.parent.rmdir()


def _remove_folder(folder: Path) -> None:
    """Remove what was made in a folder of sockets, at the end of the process that it is for."""
    with suppress(OSError):
        check_own(folder)
        for name in [name for name in os.listdir(folder) if FILES.fullmatch(name)]:
            remove_socket(folder / name)
        folder.rmdir()


def socket_of(folder: Path) -> Path:
    """The socket of the waiting process for this Python and for what libraries read when loaded."""
    key = json.dumps([sys.executable, [os.environ.get(name) for name in READ_AT_START]])
    return folder / sha256(key.encode()).hexdigest()[:12]


def owner(folder: Path) -> int:
    """The process that the folder was named by; the waiting processes end with it."""
    return int(folder.name.split("-")[1])


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
