"""The entry point: every command, and errors as one line."""

import sys

from mmqsa.cli import application, pipeline, reporting, trained
from mmqsa.errors import InputError

__all__ = ["application", "main", "pipeline", "reporting", "trained"]


def main() -> None:
    """Run the command line: bad input, or a file not to be had, is one line and exit code 1."""
    try:
        application.app()
    except InputError as error:
        print(f"mmqsa: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        if error.filename is None:
            raise
        print(f"mmqsa: {error.filename}: {error.strerror}", file=sys.stderr)
        raise SystemExit(1) from None
