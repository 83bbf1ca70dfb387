"""Progress of long work: a live bar on a terminal, a line every now and then in a log file."""

import sys
from functools import cache
from typing import Any

from tqdm import tqdm


def progress_bar(items: Any = None, **options: Any) -> tqdm:
    """A tqdm bar over ``items``; see tqdm for the options."""
    defaults: dict[str, Any] = {"leave": False, "file": sys.stderr}
    if sys.stderr.isatty():
        defaults["mininterval"] = 0.1
    else:
        defaults |= {"mininterval": 15.0, "maxinterval": 60.0, "ncols": 100}
    return tqdm(items, **defaults | options)


def notice(text: str) -> None:
    """A line on standard error that leaves a progress bar whole."""
    tqdm.write(text, file=sys.stderr)


@cache
def notice_once(text: str) -> None:
    """A notice that a process gives once, however often its cause is met."""
    notice(text)
