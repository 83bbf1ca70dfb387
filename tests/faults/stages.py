"""Stages as processes: run, killed at a chosen moment, or on a disk of a chosen size."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmqsa.config.files import dump_yaml
from mmqsa.config.workflow import Config
from mmqsa.errors import InputError

# Replace a method so that its process dies of SIGKILL at the n-th call, before or after doing it.
DIES = """
import os, signal, sys
from importlib import import_module
module, owner, name, count, when = sys.argv[1:6]
sys.argv[1:] = sys.argv[6:]
owner = getattr(import_module(module), owner) if owner else import_module(module)
real, calls = getattr(owner, name), []
def dies(*arguments, **options):
    calls.append(1)
    last = len(calls) == int(count)
    if last and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*arguments, **options)
    if last:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, name, dies)
from mmqsa.cli import main
main()
"""
# As many threads as the tests have: sums in another order have other bits.
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(sys.path),
    "MMQSA_DEVICE": "cpu",
}


def mmqsa(*arguments, **options) -> subprocess.CompletedProcess:
    """Run a stage to its end."""
    command = [sys.executable, "-m", "mmqsa", *map(str, arguments)]
    return subprocess.run(
        command, **{"env": ENVIRONMENT, "capture_output": True, "text": True, **options}
    )


def killed(where: str, count: int, when: str, *arguments) -> None:
    """Run a stage that dies at the ``count``-th call of ``where``, MODULE:[CLASS.]NAME."""
    module, _, path = where.partition(":")
    owner, _, name = path.rpartition(".")
    command = [sys.executable, "-c", DIES, module, owner, name, str(count), when]
    done = subprocess.run(
        [*command, *map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def refused(done: subprocess.CompletedProcess, error: type[InputError] = InputError) -> str:
    """The one line that a stage ended with."""
    assert done.returncode == error.exit_code, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


def write_config(path: Path, config: Config, **changes) -> Path:
    """A config file with ``section={key: value}`` changed."""
    sections = config.model_dump(mode="json")
    for name, values in changes.items():
        sections[name] |= values
    path.write_text(dump_yaml(sections))
    return path


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of ``size`` at ``folder``; skips the test where none may be mounted."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here: a full disk cannot be played")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def remount(folder: Path, options: str) -> None:
    """Change a small disk: ``size=…``, ``ro``, ``rw``."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
