"""The entry point: every command, and whatever ends one as one line and an exit code."""

import errno
import io
import os
import sys
from typing import Any

import typer

from mmqsa.cli import application, pipeline, predictions, project, reporting, scoring, trained
from mmqsa.errors import InputError, MachineError

__all__ = [
    "application",
    "main",
    "pipeline",
    "predictions",
    "project",
    "reporting",
    "scoring",
    "trained",
]

BUG = 70  # EX_SOFTWARE of BSD's sysexits.h
# A path that does not suit; every other OSError is a fault of the machine, such as a full disk.
BAD_PATH = (
    *(FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError),
)
BAD_NAME = (errno.ENAMETOOLONG, errno.ELOOP)  # the same, of errors without a class
USAGE: Any = typer.BadParameter.__base__  # every wrong option; it has no name in typer itself


def main() -> None:
    """Run the command line. With ``--debug`` an error keeps its traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be no UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        raise SystemExit(application.app(standalone_mode=False, prog_name="mmqsa"))
    except Exception as error:
        if os.environ.get(application.DEBUG) and not isinstance(error, USAGE):
            raise
        code, line = last_words(error)
        if line:
            print(f"mmqsa: {' '.join(line.split())}", file=sys.stderr)
        raise SystemExit(code) from None


def last_words(error: Exception) -> tuple[int, str]:
    """The exit code and the line that a command ends with."""
    if isinstance(error, InputError):
        return error.exit_code, str(error)
    if isinstance(error, USAGE):  # without a message it was the help
        message = error.format_message()
        command = error.ctx.command_path if error.ctx else "mmqsa COMMAND"  # --out without a value
        return error.exit_code, message and f"{message} (see `{command} --help`)"
    if isinstance(error, UnicodeEncodeError):
        text = error.object[max(0, error.start - 40) : error.end + 20]
        return InputError.exit_code, f"{text!r}: a name that is no UTF-8; rename it"
    if isinstance(error, MemoryError):
        return MachineError.exit_code, "the machine has no more memory"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        bad = isinstance(error, BAD_PATH) or error.errno in BAD_NAME
        kind = InputError if bad else MachineError
        return kind.exit_code, f"{where}{error.strerror or error}"
    return BUG, (
        f"a fault of mmqsa itself: {type(error).__name__}: {str(error)[:200]} "
        "(`mmqsa --debug COMMAND …` shows where; please report it)"
    )
