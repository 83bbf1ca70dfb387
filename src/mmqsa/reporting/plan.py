"""The cost of a Snakemake plan: GPU-hours and limits, summed over the jobs of a dry run."""

import io
import re

import pandas as pd

from mmqsa.errors import InputError

MAX_BYTES = 50_000_000  # of a plan, some 50,000 jobs
# A job as ``snakemake -n`` prints it.
RULE = re.compile(r"^\s*(?:local)?(?:rule|checkpoint) (\w+):\s*$")
RESOURCES = re.compile(r"^\s*resources: (.*)$")
# Columns, and how the jobs of a rule add up in them.
TOTALS = {
    **{"jobs": "sum", "GPU-hours": "sum", "hours without GPU": "sum"},
    **{"time limit (h)": "max", "memory (GB)": "max"},
}


def summarise(text: str) -> pd.DataFrame:
    """The output of ``snakemake -n`` -> a row per rule, and the total.

    Hours are expected ones, limits and memory the largest of any job. Raises InputError where the
    text holds no plan; a plan without jobs has the total alone.
    """
    rows, rule = [], None
    for line in io.StringIO(text):
        if match := RULE.match(line):
            rule = match[1]
        elif rule and (match := RESOURCES.match(line)):
            rows.append([rule, 1, *_amounts(match[1])])
            rule = None
    if not rows and "Nothing to be done" not in text:
        raise InputError("standard input: no plan in it; use `snakemake -n … | mmqsa plan`")
    jobs = pd.DataFrame(rows, columns=["rule", *TOTALS])
    table = jobs.groupby("rule", sort=False).agg(TOTALS).reset_index()
    total = pd.DataFrame([{"rule": "total", **jobs.agg(TOTALS)}])
    return pd.concat([table, total], ignore_index=True)


def _amounts(resources: str) -> list[float]:
    """Hours on a GPU, other hours, limit in hours, memory in GB; 0 where they are not known yet."""
    asked = re.findall(r"(\w+)=(\d{1,15}(?:\.\d*)?)(?:,|$)", resources)
    amounts = {name: float(value) for name, value in asked}
    hours = amounts.get("expected_seconds", 0) / 3600
    on_gpu = [hours, 0.0] if amounts.get("gpu", 0) > 0 else [0.0, hours]
    return [*on_gpu, amounts.get("runtime", 0) / 60, amounts.get("mem_mb", 0) / 1000]
