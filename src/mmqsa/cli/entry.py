"""The entry point: every command, and whatever ends one as one line and an exit code."""

import os
import sys

from mmqsa.cli import application, pipeline, reporting, trained
from mmqsa.errors import InputError, MachineError

__all__ = ["application", "main", "pipeline", "reporting", "trained"]

BUG = 70  # EX_SOFTWARE of BSD's sysexits.h
# A path that does not suit; every other OSError is a fault of the machine, such as a full disk.
BAD_PATH = (
    *(FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError),
)


def main() -> None:
    """Run the command line. With ``--debug`` an error keeps its traceback."""
    try:
        application.app()
    except Exception as error:
        if os.environ.get(application.DEBUG):
            raise
        code, line = last_words(error)
        print(f"mmqsa: {' '.join(line.split())}", file=sys.stderr)
        raise SystemExit(code) from None


def last_words(error: Exception) -> tuple[int, str]:
    """The exit code and the line that a command ends with."""
    if isinstance(error, InputError):
        return error.exit_code, str(error)
    if isinstance(error, MemoryError):
        return MachineError.exit_code, "the machine has no more memory"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        kind = InputError if isinstance(error, BAD_PATH) else MachineError
        return kind.exit_code, f"{where}{error.strerror or error}"
    return BUG, (
        f"a fault of mmqsa itself: {type(error).__name__}: {str(error)[:200]} "
        "(`mmqsa --debug COMMAND …` shows where; please report it)"
    )
