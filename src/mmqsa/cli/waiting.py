"""The waiting process: it has imported what stages need, and runs each command in a copy of itself.

``python -m mmqsa.cli.waiting SOCKET PID`` is started by mmqsa/worker.py and ends with process PID.
No thread and no GPU is used before the fork, so a copy is as good as a process of its own.
"""

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import IO, Any, TextIO

from mmqsa.cli.entry import main as run_command_line
from mmqsa.worker import check_own, remove_socket

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
# What stages import when they are called.
STAGES = (
    *("mmqsa.data.layouts", "mmqsa.data.scenes", "mmqsa.features.extract", "mmqsa.training.loop"),
    *("mmqsa.training.learned_merging", "mmqsa.evaluation.evaluate", "mmqsa.evaluation.baselines"),
    *("mmqsa.evaluation.controls", "mmqsa.evaluation.probe", "mmqsa.evaluation.label_map_file"),
    *("mmqsa.evaluation.premise_figure", "mmqsa.evaluation.gallery", "mmqsa.reporting.tables"),
    *("mmqsa.reporting.figures", "mmqsa.page.build", "scipy.stats", "seaborn"),
)


def main() -> None:
    """Import, then wait for commands until process PID has ended and all of them have."""
    path, owner = Path(sys.argv[1]), int(sys.argv[2])
    check_own(path.parent)
    began = _began(owner)
    for name in STAGES:
        import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a copy would touch, and so copy, all of the memory that is shared
    with socket.socket(socket.AF_UNIX) as listener:
        unready = path.with_suffix(".new")
        listener.bind(str(unready))
        listener.listen(128)
        unready.rename(path)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)  # it was the lock of those who would start another
        _wait(listener, lambda: began is not None and _began(owner) == began)
    remove_socket(path)


def _wait(listener: socket.socket, owner_lives: Callable[[], bool]) -> None:
    """Start a copy for each that asks, and answer with the exit code of its command."""
    copies: dict[int, ForkProcess] = {}  # by the file that tells its end
    asking: dict[int, socket.socket] = {}  # who asked for each
    events = select.poll()
    events.register(listener, select.POLLIN)
    while copies or owner_lives():
        for file, _ in events.poll(1000):
            if file == listener.fileno():
                connection, _ = listener.accept()
                others = [listener, *asking.values()]
                copy = get_context("fork").Process(
                    target=_run, args=(connection, others, os.getpid())
                )
                copy.start()
                copies[copy.sentinel], asking[copy.sentinel] = copy, connection
                events.register(copy.sentinel, select.POLLIN)
                events.register(connection, select.POLLRDHUP)
            elif file in copies:  # its command has ended
                copy, connection = copies.pop(file), asking.pop(file)
                copy.join()
                events.unregister(file)
                with suppress(KeyError):  # who asked was gone before
                    events.unregister(connection)
                code = copy.exitcode or 0
                with connection, suppress(OSError):
                    connection.sendall(b"%d\n" % (code if code >= 0 else 128 - code))
                copy.close()
            else:  # who asked is gone, and takes the command along, unless it has just ended
                for sentinel, connection in asking.items():
                    if connection.fileno() == file:
                        events.unregister(connection)
                        copies[sentinel].kill()


def _began(process: int) -> str | None:
    """When a process began, in ticks; None if it has ended. The kernel uses numbers again."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def _run(connection: socket.socket, others: list[socket.socket], parent: int) -> None:
    """Run a command with the arguments, folder, environment and open files of who asked for it."""
    for other in others:  # held here, they would outlive the waiting process
        other.close()
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it has died already
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection, connection.makefile("rw") as stream:
        request = json.loads(stream.readline())
        stream.write(f"{os.getpid()}\n")
    for target, (file, name) in enumerate(zip(files, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(file, target)
        os.close(file)
        setattr(sys, name, _reopened(target, getattr(sys, f"__{name}__")))
    sys.argv[1:] = request["arguments"]
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    os.umask(request["umask"])
    run_command_line()


def _reopened(file: int, stream: TextIO) -> IO[Any]:
    """A standard stream anew: the old one remembers of what kind its file was."""
    buffering = 1 if file == 2 or os.isatty(file) else -1  # by lines, as Python opens them
    mode = "r" if file == 0 else "w"
    return open(file, mode, buffering, stream.encoding, stream.errors, closefd=False)


if __name__ == "__main__":
    main()
