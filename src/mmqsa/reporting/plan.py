"""What a plan of Snakemake's will take: GPU-hours and limits, summed over the jobs of a dry run."""

import re

import pandas as pd

from mmqsa.errors import InputError

_JOB = re.compile(r"^\s*(?:local)?(?:rule|checkpoint) (\w+):\s*$")
_RESOURCES = re.compile(r"^\s*resources: (.*)$")


def summarise(text: str) -> pd.DataFrame:
    """The output of ``snakemake -n`` -> one row per rule, and the sum.

    Columns: rule, jobs, GPU-hours (expected, of jobs that ask for a GPU), hours (expected, of the
    others), longest limit in hours, largest memory in GB. Raises InputError when there is no plan
    in it; a plan of nothing has the sum alone.
    """
    rows, rule = [], None
    for line in text.splitlines():
        if found := _JOB.match(line):
            rule = found[1]
        elif rule and (found := _RESOURCES.match(line)):
            asked = dict(part.split("=", 1) for part in found[1].split(", ") if "=" in part)
            hours = _number(asked, "expected_seconds") / 3600
            gpu = _number(asked, "gpu") > 0
            rows.append(
                {
                    "rule": rule,
                    "jobs": 1,
                    "GPU-hours": hours if gpu else 0.0,
                    "other hours": 0.0 if gpu else hours,
                    "limit, h": _number(asked, "runtime") / 60,
                    "memory, GB": _number(asked, "mem_mb") / 1000,
                }
            )
            rule = None
    if not rows and "Nothing to be done" not in text:
        raise InputError("standard input: no plan in it; say `snakemake -n … | mmqsa plan`")
    summed = ["jobs", "GPU-hours", "other hours"]
    how = {**dict.fromkeys(summed, "sum"), "limit, h": "max", "memory, GB": "max"}
    jobs = pd.DataFrame(rows, columns=["rule", *how])
    table = jobs.groupby("rule", sort=False).agg(how).reset_index()
    total = pd.DataFrame([{"rule": "together", **jobs.agg(how)}])
    return pd.concat([table, total], ignore_index=True)


def _number(asked: dict[str, str], name: str) -> float:
    """A resource; 0 where the job has none, or where it is known only once its input is there."""
    try:
        return float(asked.get(name, 0))
    except ValueError:
        return 0.0
