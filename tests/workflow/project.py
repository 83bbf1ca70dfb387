"""A copy of the project, and Snakemake in it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TOP = [
    "Snakefile",
    "config.yaml",
    "config",
    "workflow",
    "profiles",
    "src",
    "environment.yml",
]
# On top of config/demo.yaml: every stage within seconds.
HANDFUL = {
    "dataset": {"scenes": {"train": 8, "val": 6, "side": 96}},
    "backbone": {"image_size": 96},
    "slots": {
        "num_slots": 4,
        "num_heads": 2,
        "slot_dim": 16,
        "mlp_dim": 16,
        "encoder_dim": 16,
        "start": "random",
    },
    "decoder": {"hidden_dim": 16},
    "training": {
        "steps": 20,
        "log_every": 10,
        "batch_size": 4,
        "schedule": {"warmup_steps": None},
    },
    "matching": {"similarity": {"steps": 2}, "fusion": {"steps": 2}},
    "evaluation": {
        "baselines": ["kmeans", "lost", "oracle"],
        "kmeans_clusters": [2, 4],
        "cut_segments": [2],
        "sweep": {"num_slots": [2, 3], "iterations": [1]},
    },
    "seeds": [0, 1],
    "settings": {"full": {"training": {"snapshots": [0, 10]}}},
    "tables": {
        "heads": yaml.safe_load((ROOT / "config/tables.yaml").read_text())["tables"]["heads"],
        "course": {
            "caption": "The course of a training",
            "kind": "snapshots",
            "settings": ["full", "untrained"],
            "references": "none",
            "figures": ["snapshots"],
        },
    },
}
ARGUMENTS = ["--cores", "2", "--configfile", "config/demo.yaml", "handful.yaml"]


def copy_project(folder: Path) -> Path:
    """Copy what a fresh clone has into ``folder``, and HANDFUL beside it; for ARGUMENTS."""
    for name in TOP:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    (folder / "handful.yaml").write_text(yaml.safe_dump(HANDFUL))
    return folder


def start(folder, *arguments, **options) -> subprocess.Popen:
    """Start Snakemake in a session of its own, this interpreter's packages first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *map(str, arguments)],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_hears_ctrl_c,
        **{"env": {**os.environ, "PATH": path}, **options},
    )


def _hears_ctrl_c():
    # What a shell starts in the background ignores it, and so does all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def finish(process, check=True, timeout=1500) -> subprocess.CompletedProcess:
    """Wait for it; one that hangs is killed with all that it started."""
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        raise AssertionError(f"no end after {timeout} s:\n{output}{errors}") from None
    if check and process.returncode:
        raise AssertionError(output + errors)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def snakemake(folder, *arguments, check=True, **options) -> subprocess.CompletedProcess:
    """Run Snakemake to its end."""
    return finish(start(folder, *arguments, **options), check)


def planned(done) -> dict[str, int]:
    """Job counts of a dry run."""
    text = done.stdout + done.stderr
    if "Nothing to be done" in text:
        return {}
    table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", text, re.MULTILINE | re.DOTALL)
    return {
        name: int(count) for name, count in (row.split() for row in table[1].strip().splitlines())
    }
