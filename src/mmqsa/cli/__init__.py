"""``mmqsa STAGE …``: each stage of the pipeline from files to files.

Thin on purpose: parse, call, say in one line what was done. A stage's modules are imported when
it is called, so that ``--help`` answers at once and tables need no torch.
"""

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
