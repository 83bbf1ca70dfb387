"""SIGTERM and SIGINT end a training between two steps, after a checkpoint.

Schedulers send SIGTERM some seconds before they kill; Ctrl-C is SIGINT.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """Training stopped by a signal, after a checkpoint."""


@contextmanager
def stop_signals() -> Iterator[list[str]]:
    """Note SIGTERM and SIGINT instead of dying of them; the old handlers return at the end.

    Yields the names of those that came: none at first.
    """
    asked: list[str] = []

    def note(number: int, frame: object) -> None:
        asked.append(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield asked  # Python lets only the main thread handle signals
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
