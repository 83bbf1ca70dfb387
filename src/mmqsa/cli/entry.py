"""The entry point: every command, and errors as one line."""

from mmqsa.cli import application, pipeline, reporting, trained
from mmqsa.errors import InputError

__all__ = ["application", "main", "pipeline", "reporting", "trained"]


def main() -> None:
    """Run the command line: bad input, or a file not to be had, is one line and exit code 1."""
    try:
        application.app()
    except InputError as error:
        raise SystemExit(f"mmqsa: {error}") from None
    except OSError as error:
        if error.filename is None:
            raise
        raise SystemExit(f"mmqsa: {error.filename}: {error.strerror}") from None
