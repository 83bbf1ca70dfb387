"""SIGTERM and SIGINT end a training between two steps, after a checkpoint.

Schedulers send SIGTERM some seconds before they kill; Ctrl-C is SIGINT.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Stopped(Exception):
    """Training stopped by a signal, after a checkpoint."""


@dataclass
class StopSignals:
    """The name of the signal that asked the training to stop; empty until one comes."""

    asked: str = ""

    def _note(self, number: int, frame: object) -> None:
        self.asked = signal.Signals(number).name


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Note SIGTERM and SIGINT instead of dying of them; the old handlers return at the end."""
    stop = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python lets only the main thread handle signals
        return
    before = {
        number: signal.signal(number, stop._note) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
