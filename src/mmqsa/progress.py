"""Progress of long work: a live bar on a terminal, a line every now and then in a log file."""

import sys

from tqdm import tqdm


def progress_bar(items=None, **options) -> tqdm:
    """A tqdm bar over ``items``; see tqdm for the options."""
    live = sys.stderr.isatty()
    config = {"leave": False, "mininterval": 0.1 if live else 15.0, "file": sys.stderr}
    if not live:
        config |= {"ncols": 100, "maxinterval": 60.0}
    return tqdm(items, **config | options)


def notice(text: str) -> None:
    """A line on standard error that leaves a progress bar whole."""
    tqdm.write(text, file=sys.stderr)
