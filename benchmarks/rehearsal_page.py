"""The page of a dress rehearsal, and the table by rule as csv."""

import os
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch

from mmqsa.atomic import write_text
from mmqsa.device import describe
from publish import markdown
from rehearsal_record import MEGABYTE, by_rule, sessions, size
from rehearsal_voc import PHOTOGRAPHS

INTRO = """# At full size

`make rehearsal` runs config.yaml from its first line to its last on a CPU: download, extraction,
training, evaluation, tables, figures and page, by `snakemake --cores all --use-conda`. It
changes only what [config/rehearsal.yaml](../config/rehearsal.yaml) says. The photographs are
made, with VOC 2012's number, sizes, lists and folders, and so are the weights, in the format of
DINO's: the scores mean nothing, and memory, disk, files and the time of what surrounds the
arithmetic are those of the paper's config. A slow server on the loopback plays the network and
drops connections; a [stand-in](../tests/workflow/standin/conda) plays conda. A rehearsal that is
stopped or killed continues with the same command. This page is written by it.
"""
RULES = """## By rule

Hours are summed over the jobs of a rule, which run side by side; *CPU hours* are the processor
time of their processes. *Limit* and *asked* are what the rules ask of SLURM for these jobs on a
CPU: the largest of any job. *Of limit* and *of asked* are the largest shares that a job used of
its own. *Peak* is the kernel's mark of the most memory that a process held, *own* the part that
no file backs; processes are looked at twice a second. *Files* are the most that were open at
once, *disk* what the outputs take. What asks for nothing gets the defaults of
[profiles/slurm](../profiles/slurm/config.yaml), 2,000 MB and 30 minutes.
"""
COLUMNS = {
    **{
        "rule": "rule",
        "jobs": "jobs",
        "hours": "hours",
        "cpu_hours": "CPU hours",
        "longest_s": "longest, s",
    },
    **{
        "limit_min": "limit, min",
        "late": "of limit, %",
        "peak_mb": "peak, MB",
        "own_mb": "own, MB",
    },
    **{"mem_mb": "asked, MB", "share": "of asked, %", "files": "files", "disk_mb": "disk, MB"},
}


def write_page(folder: Path, share: float, page: Path, out: Path, note: str = "") -> None:
    """Write what the rehearsal in ``folder`` took so far to ``page`` and ``out``/rehearsal.csv."""
    project = folder / "project"
    plan = (folder / "plan-before.txt").read_text()
    rules = by_rule(project, plan, folder / "peaks.csv", folder / "snakemake.log")
    rules = rules[rules["rule"] != "all"]
    machine = (
        f"{describe(torch.device('cpu'))}, {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 1e9:.0f} GB of memory"
    )
    write_text(
        out / "rehearsal.csv",
        rules.assign(machine=machine, images=round(share * PHOTOGRAPHS)).to_csv(
            index=False, float_format="%.6g"
        ),
    )
    parts = [INTRO, _summary(folder, share, rules, machine), RULES, note and f"{note}\n"]
    parts += [_rules(rules)]
    parts += ["## Disk\n", markdown(_disk(folder)) + "\n", "## Download\n", _downloads(folder)]
    write_text(page, "\n".join(filter(None, parts)))
    print(f"{page}: {rules['done'].sum()} of {rules['jobs'].sum()} jobs")


def _summary(folder: Path, share: float, rules: pd.DataFrame, machine: str) -> str:
    times = sessions(folder / "snakemake.log")
    hours = (times["ended"] - times["begun"]).sum() / 3600
    command = "make rehearsal" if share == 1 else f'make rehearsal REHEARSAL="--images {share:g}"'
    lines = [
        f"**{round(share * PHOTOGRAPHS):,} photographs on {machine}: {rules['done'].sum()} of "
        f"{rules['jobs'].sum()} jobs in {hours:.1f} hours**, "
        f"{len(times)} time{'s' * (len(times) > 1)} started; `{command}`, {date.today()}.",
    ]
    if share < 1:
        lines += ["", "This is the reduced rehearsal: requests are those of the full size."]
    if rules["done"].sum() < rules["jobs"].sum():
        lines += ["", "It is not finished: sums are of the jobs that are done."]
    plans = {
        "before the first job": folder / "plan-before.txt",
        "with nothing left to do": folder / "plan-after.txt",
    }
    seconds = [
        f"{path.read_text().rpartition('seconds: ')[2].strip()} s {when}"
        for when, path in plans.items()
        if path.exists()
    ]
    return "\n".join([*lines, "", f"The plan (`snakemake -n`) took {', '.join(seconds)}.", ""])


def _rules(rules: pd.DataFrame) -> str:
    shown = rules.assign(late=100 * rules["late"], share=100 * rules["share"])
    shown = shown.replace({"limit_min": {0: np.nan}, "mem_mb": {0: np.nan}})
    return markdown(shown[list(COLUMNS)].rename(columns=COLUMNS)) + "\n"


def _disk(folder: Path) -> pd.DataFrame:
    """MB and files of what lies in the project and beside it."""
    project = folder / "project"
    results = sorted(path for path in (project / "results").glob("*") if path.is_dir())
    places = {
        "the archive, as served": folder / "server",
        "resources (archive and photographs)": project / "resources",
        "the hub's cache": folder / "hub",
        **{f"results/{path.name}": path for path in results},
        ".snakemake": project / ".snakemake",
    }
    rows = []
    for what, path in places.items():
        files = sum(file.is_file() for file in path.rglob("*"))
        rows.append({"what": what, "files": files, "MB": size(path) / MEGABYTE})
    return pd.DataFrame(rows)


def _downloads(folder: Path) -> str:
    """Every reply of the server, except whole ones of no bytes."""
    path = folder / "downloads.csv"
    if not path.exists():
        return "Nothing was fetched.\n"
    names = ["file", "from byte", "to byte", "of", "ended", "seconds"]
    rows = pd.read_csv(path, names=names)
    rows["MB"] = (rows["to byte"] - rows["from byte"]) / MEGABYTE
    return markdown(rows[["file", "from byte", "to byte", "of", "MB", "seconds", "ended"]]) + "\n"
