"""GPU acceptance: tests, rates, trainings and stages on this machine's GPU, and one page of it all.

    make gpu                                    # half an hour on a GPU
    python benchmarks/gpu.py --minutes 8        # what fits into 8 minutes
    python benchmarks/gpu.py --device cpu --quick --out /tmp/gpu    # does the script run?
    python benchmarks/gpu.py --only page        # the page of the tables that are there

Each part runs in a process of its own, so that none ends another, and keeps every row that it
measured. Writes to --out: ``gpu.md``, the page; ``gpu-PART.csv`` and ``.md``, its tables; and
``gpu.patch``, the defaults that were fastest, for config.yaml: read it, then `git apply` it.
"""

import difflib
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from gpu_parts import PARTS, ROOT, Part
from mmqsa.atomic import write_text
from mmqsa.device import choose_device, describe
from publish import markdown, publish

# Of the time; what a part leaves is the next one's.
SHARES = {
    "tests": 0.1,
    "rates": 0.2,
    "training": 0.25,
    "extraction": 0.1,
    "evaluation": 0.15,
    "chain": 0.2,
    "ratios": 0.2,
}
ENOUGH = 1.05  # times as fast: what gains less is not worth an option
PATIENCE = 2.0  # times its seconds, and a minute, after which a part is stopped


def machine(device: torch.device) -> str:
    """The card, its driver and what runs on it, in a line."""
    known = [describe(device)]
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        known += [f"{memory:.0f} GiB", f"driver {_driver()}", f"CUDA {torch.version.cuda}"]
    known += [f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    return ", ".join([*known, f"{os.cpu_count()} CPU cores", f"{date.today()}"])


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split()[0]


def tables(out: Path) -> dict[str, pd.DataFrame]:
    """The tables that are there, by part."""
    paths = {name: out / f"gpu-{name}.csv" for name in PARTS}
    return {name: pd.read_csv(path) for name, path in paths.items() if path.exists()}


def recommended(measured: dict[str, pd.DataFrame]) -> dict[str, float | int | bool]:
    """The defaults of config.yaml that these tables recommend, by key.

    The plainest kind of training, and the smallest batch, that are within 5 % of the fastest; the
    rate of that kind of training. The batch of a training is no matter of speed alone: it stays.
    """
    chosen: dict[str, float | int | bool] = {}
    if (kinds := _valid(measured.get("training"), "official budget, min")) is not None:
        best = _plainest(kinds, "official budget, min")
        chosen["scheduling.gpu_tflops"] = float(f"{best['TFLOP/s']:.2g}")
        chosen |= {
            f"training.{option}": best["kind"] in (kind, "both")
            for option, kind in (("compile", "compile"), ("cuda_graphs", "graphs"))
        }
    if (extracted := _valid(measured.get("extraction"), "VOC, min")) is not None:
        own = extracted[extracted["precision"] == "fp32"]
        chosen["backbone.batch_size"] = int(_plainest(own, "VOC, min")["batch"])
    if (scored := _valid(measured.get("evaluation"), "VOC's val, min")) is not None:
        own = scored[scored["stage"] == scored["stage"].iloc[0]]
        chosen["evaluation.batch_size"] = int(_plainest(own, "VOC's val, min")["batch"])
    return chosen


def _valid(table: pd.DataFrame | None, column: str) -> pd.DataFrame | None:
    """The rows that have a value; None without any."""
    if table is None or column not in table or table[column].isna().all():
        return None
    return table[table[column].notna()]


def _plainest(table: pd.DataFrame, minutes: str) -> pd.Series:
    """The first row that is nearly as fast as the fastest."""
    return table[table[minutes] <= ENOUGH * table[minutes].min()].iloc[0]


def patch(chosen: dict[str, float | int | bool], text: str) -> str:
    """A unified diff of config.yaml's ``text`` that sets the chosen values; empty without a change.

    >>> print(patch({"a.b": 2}, "a:\\n  b: 1     # why\\n"), end="")
    --- a/config.yaml
    +++ b/config.yaml
    @@ -1,2 +1,2 @@
     a:
    -  b: 1     # why
    +  b: 2     # why
    """
    section, changed = "", []
    for line in text.splitlines(keepends=True):
        if found := re.match(r"(\w+):", line):
            section = found[1]
        found = re.match(r"(  (\w+): )(\S+)( *)(.*\n)", line)
        key = f"{section}.{found[2]}" if found else ""
        if found and key in chosen and _plain(chosen[key]) != found[3]:
            value = _plain(chosen[key])
            room = max(1, len(found[3]) + len(found[4]) - len(value)) if found[5].strip() else 0
            line = f"{found[1]}{value}{' ' * room}{found[5]}"
        changed.append(line)
    names = "a/config.yaml", "b/config.yaml"
    return "".join(difflib.unified_diff(text.splitlines(keepends=True), changed, *names))


def _plain(value: float | int | bool) -> str:
    return str(value).lower()


def page(out: Path, notes: Sequence[str] = ()) -> str:
    """The page of the tables in ``out``: what matters, every table, and what is missing.

    Writes the patch beside it.
    """
    measured = tables(out)
    machines = list(dict.fromkeys(line for table in measured.values() for line in table["machine"]))
    on_gpu = any("driver" in line for line in machines)
    chosen = recommended(measured) if on_gpu else {}
    difference = patch(chosen, (ROOT / "config.yaml").read_text())
    write_text(out / "gpu.patch", difference)
    advice = "Run on a CPU: this shows that the script runs, and recommends nothing."
    if on_gpu:
        keys = ", ".join(f"`{key}: {_plain(value)}`" for key, value in chosen.items())
        advice = f"Recommended: {keys or 'nothing'}. " + (
            "`gpu.patch` sets those that differ from config.yaml."
            if difference
            else "config.yaml has all of them."
        )
    lines = ["# GPU acceptance", "\n".join(machines)]
    lines += ["\n".join(f"- {one}" for one in _brief(measured)), advice]
    missing = [*notes, *(f"{name}: nothing was measured" for name in PARTS if name not in measured)]
    for name, table in measured.items():
        shown = table.drop(columns="machine").dropna(axis="columns", how="all")
        words = shown.select_dtypes(exclude="number").columns
        about = (PARTS[name].__doc__ or "").splitlines()[0]
        lines += [
            f"## {name.capitalize()}",
            about,
            markdown(shown.fillna(dict.fromkeys(words, ""))),
        ]
        if "note" in shown:
            for note, rows in table.groupby("note"):
                missing.append(f"{name}: {len(rows)} of {len(table)} rows {note}")
    if not on_gpu:
        missing.append("graphs, compile, tf32 and GPU memory: these need a GPU")
    lines += ["## Skipped or failed", "\n".join(f"- {one}" for one in missing or ["nothing"])]
    return "\n\n".join(lines) + "\n"


def _brief(measured: dict[str, pd.DataFrame]) -> list[str]:
    """The numbers that the page is made for."""
    brief = []
    if "tests" in measured:
        counts = measured["tests"]["outcome"].value_counts()
        brief.append("tests: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    if (rates := _valid(measured.get("rates"), "share")) is not None:
        best = rates.loc[rates["share"].idxmax()]
        brief.append(
            f"share of a large product's rate: {rates['share'].iloc[0]:.0%} "
            f"({rates['step'].iloc[0]}), at most {best['share']:.0%} ({best['step']})"
        )
    if (kinds := _valid(measured.get("training"), "official budget, min")) is not None:
        times = zip(kinds["kind"], kinds["official budget, min"], strict=True)
        brief.append(
            "official budget of 7.84 M images: "
            + ", ".join(f"{minutes:.1f} min ({kind})" for kind, minutes in times)
        )
    for name, column, what in (
        ("extraction", "VOC, min", "extraction of VOC's 17,125 photographs"),
        ("evaluation", "VOC's val, min", "evaluation of VOC's 1,449 photographs"),
    ):
        if (table := _valid(measured.get(name), column)) is not None:
            low, high = 60 * table[column].min(), 60 * table[column].max()
            brief.append(f"{what}: {low:,.0f} to {high:,.0f} s")
    return brief


def main(
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    minutes: Annotated[float, typer.Option(help="For everything.")] = 30,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: does it run?")] = False,
    only: Annotated[str, typer.Option(help="Parts, with commas between; default: all.")] = "",
    note: Annotated[list[str] | None, typer.Option(help="A line for the page's end.")] = None,
    scratch: Annotated[Path | None, typer.Option(help="Folder for 2 GB; default: /tmp.")] = None,
    part: Annotated[str, typer.Option(hidden=True)] = "",
    seconds: Annotated[float, typer.Option(hidden=True)] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the page.")] = ROOT / "benchmarks/results",
) -> None:
    """Run every part; write the page after each."""
    if part:  # this is a part's own process
        assert scratch is not None
        used = choose_device(device)
        given_part = Part(used, seconds, quick, out, scratch)
        publish(f"gpu-{part}", PARTS[part](given_part), machine(used), out)
        return
    names = [name for name in only.split(",") if name != "page"] if only else list(PARTS)
    notes, ends = list(note or []), time.monotonic() + 60 * minutes
    for name in names:
        for suffix in ("csv", "md"):  # of an earlier run
            (out / f"gpu-{name}.{suffix}").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for index, name in enumerate(names):
            left, rest = ends - time.monotonic(), names[index:]
            given = max(0.0, left * SHARES[name] / sum(SHARES[other] for other in rest))
            command = [sys.executable, __file__, "--part", name, "--seconds", f"{given:.0f}"]
            command += ["--device", device, "--scratch", str(scratch or folder), "--out", str(out)]
            begun, limit = time.monotonic(), PATIENCE * given + 60
            try:
                code = subprocess.run([*command, *["--quick"] * quick], timeout=limit).returncode
                if code:
                    notes.append(f"{name}: ended with code {code}; what it measured is kept")
            except subprocess.TimeoutExpired:
                notes.append(f"{name}: stopped after {limit:.0f} s; what it measured is kept")
            print(f"{name}: {time.monotonic() - begun:.0f} s of {given:.0f}", flush=True)
            write_text(out / "gpu.md", page(out, notes))
    write_text(out / "gpu.md", page(out, notes))
    print(f"{out / 'gpu.md'}: written")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
