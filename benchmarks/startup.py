"""Time the start of the command line, each time in a process of its own, and print one table.

python benchmarks/startup.py                # half a minute
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer

from mmqsa import worker
from mmqsa.device import describe
from publish import publish

MMQSA = [sys.executable, "-m", "mmqsa"]
TRAINING = [*MMQSA, "train", "--features", "missing.h5", "--out", "missing"]
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "mmqsa --version": [*MMQSA, "--version"],
    "mmqsa --help": [*MMQSA, "--help"],
    "mmqsa train --help": [*MMQSA, "train", "--help"],
    "a wrong option": [*MMQSA, "train", "--sed", "1"],
    "a training up to its features": TRAINING,
    "... by a waiting process": TRAINING,
    "what a table imports": [sys.executable, "-c", "import mmqsa.reporting.tables"],
    "what a training imports": [sys.executable, "-c", "import mmqsa.training.loop"],
    "what an extraction imports": [sys.executable, "-c", "import mmqsa.features.extract"],
}


def measure(rounds: int) -> Iterator[dict]:
    """Seconds of each command: a round runs all of them, so that other load hits all alike."""
    folder = worker.new_folder()
    waiting = os.environ | {worker.FOLDER: str(folder)}
    subprocess.run(TRAINING, capture_output=True, check=False, env=waiting)  # starts it
    path, end = worker.socket_of(folder), time.monotonic() + 120
    while not path.exists():
        if time.monotonic() > end:
            sys.exit(f"it does not start:\n{path.with_suffix('.log').read_text()}")
        time.sleep(0.1)
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, command in COMMANDS.items():
            begun = time.perf_counter()
            environment = waiting if "waiting" in name else None
            subprocess.run(command, capture_output=True, check=False, env=environment)
            seconds[name].append(time.perf_counter() - begun)
    for name, times in seconds.items():
        warm = times[1:]  # the first reads files that are not in memory yet
        row = {"start": name, "median s": statistics.median(warm), "fastest s": min(warm)}
        yield row | {"first s": times[0], "rounds": rounds}


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Of all commands.")] = 7,
    quick: Annotated[bool, typer.Option("--quick", help="One round: does it run?")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for csv and markdown.")] = None,
) -> None:
    """Print the table; write it to --out."""
    machine = f"{describe(torch.device('cpu'))}, Python {sys.version.split()[0]}"
    publish("startup", measure(1 if quick else rounds), machine, out)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
