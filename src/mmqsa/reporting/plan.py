"""The cost of a Snakemake plan: hours, limits and time by the clock of the jobs of a dry run."""

import io
import re
from dataclasses import dataclass
from math import ceil
from typing import Any

import pandas as pd

from mmqsa.errors import InputError

MAX_BYTES = 50_000_000  # of a plan, some 50,000 jobs
# A job as ``snakemake -n`` prints it.
RULE = re.compile(r"^\s*(?:local)?(?:rule|checkpoint) (\w+):\s*$")
THREADS = re.compile(r"^\s*threads: (\d{1,6})\s*$")
RESOURCES = re.compile(r"^\s*resources: (.*)$")
# What workflow/rules/resources.smk says of all jobs.
COMPUTES = re.compile(r"^computes on: (GPU|CPU)\s*$")
IMAGES = re.compile(r"^images: (.*\S)\s*$")


@dataclass(frozen=True)
class Job:
    """What a job is expected to take, and what it asks for; 0 where it is not known yet."""

    rule: str
    hours: float
    threads: int
    asks_for_gpu: bool
    limit: float
    """hours"""
    memory: float
    """GB"""


@dataclass(frozen=True)
class Plan:
    """The jobs of a dry run, where they compute, and what was said of the images."""

    jobs: list[Job]
    on_gpu: bool
    images: str

    def table(self) -> pd.DataFrame:
        """A row per rule, and the total: limits and memory are the largest of any job.

        GPU-hours are those of jobs that compute on a GPU, CPU-hours those of all others, times
        their cores. Without a GPU there is no column of GPU-hours.
        """
        columns = {"jobs": "sum", "GPU-hours": "sum", "CPU-hours": "sum"}
        columns |= {"time limit (h)": "max", "memory (GB)": "max"}
        rows = [[job.rule, 1, *self._hours(job), job.limit, job.memory] for job in self.jobs]
        jobs = pd.DataFrame(rows, columns=["rule", *columns])
        table = jobs.groupby("rule", sort=False).agg(columns).reset_index()
        total = pd.DataFrame([{"rule": "total", **jobs.agg(columns)}])
        whole = pd.concat([table, total], ignore_index=True).astype({"jobs": int})
        return whole if self.on_gpu else whole.drop(columns="GPU-hours")

    def hours(self, cores: int, gpus: int) -> float:
        """The least time by the clock: of the longest job, or of all work shared out evenly.

        Jobs that ask for a GPU share the GPUs, or take turns where there is none.
        """
        longest = max((job.hours for job in self.jobs), default=0.0)
        asking = sum(job.hours for job in self.jobs if job.asks_for_gpu)
        of_cores = sum(job.hours * min(job.threads, cores) for job in self.jobs)
        return max(longest, asking / max(gpus, 1), of_cores / cores)

    def words(self, cores: int, gpus: int) -> str:
        """The same in sentences."""
        said = [f"Images: {self.images}."] if self.images else []
        asking = any(job.asks_for_gpu for job in self.jobs)
        machine = _count(cores, "core")
        if self.on_gpu:
            machine += f" and {_count(max(gpus, 1), 'GPU')}"
        hours = self.hours(cores, gpus if self.on_gpu else 0)
        clock = f"{hours:.1f} hours" if hours >= 1 else _count(ceil(60 * hours), "minute")
        said.append(
            f"By the clock: at least {clock} on {machine} (--cores, --gpus), if every job takes "
            "what is expected and none waits for another."
        )
        if gpus and not self.on_gpu:
            said.append(
                "The plan is of a machine without a GPU, so its hours are those of CPUs; run "
                "`snakemake -n` where the GPUs are, or as for a cluster: --workflow-profile "
                "profiles/slurm."
            )
        elif asking and not self.on_gpu:
            said.append(
                "No GPU is here, so everything runs on CPUs, and jobs that ask for a GPU run one "
                "at a time; `--config device=cpu` lets them run side by side."
            )
        return "\n".join(said)

    def _hours(self, job: Job) -> tuple[float, float]:
        """GPU-hours and CPU-hours of a job."""
        if self.on_gpu and job.asks_for_gpu:
            return job.hours, 0.0
        return 0.0, job.hours * job.threads


def read_plan(text: str) -> Plan:
    """The output of ``snakemake -n``. Raises InputError where the text holds no plan.

    Without the line that says where jobs compute, those that ask for a GPU have one.
    """
    jobs, rule, threads, on_gpu, images = [], "", 1, True, ""
    for line in io.StringIO(text):
        if match := RULE.match(line):
            rule, threads = match[1], 1
        elif match := COMPUTES.match(line):
            on_gpu = match[1] == "GPU"
        elif match := IMAGES.match(line):
            images = match[1]
        elif rule and (match := THREADS.match(line)):
            threads = max(int(match[1]), 1)
        elif rule and (match := RESOURCES.match(line)):
            jobs.append(_job(rule, threads, match[1]))
            rule = ""
    if not jobs and "Nothing to be done" not in text:
        reason = re.search(r"^\w+(?:Error|Exception)\b.*\n.*", text, re.MULTILINE)
        if reason:  # which Snakemake prints into the pipe
            raise InputError(f"standard input: no plan, but {' '.join(reason[0].split())}")
        raise InputError("standard input: no plan in it; use `snakemake -n … | mmqsa plan`")
    return Plan(jobs, on_gpu, images)


def _job(rule: str, threads: int, resources: str) -> Job:
    asked = re.findall(r"(\w+)=(\d{1,15}(?:\.\d*)?)(?:,|$)", resources)
    amounts: dict[str, Any] = {name: float(value) for name, value in asked}
    return Job(
        rule,
        hours=amounts.get("expected_seconds", 0) / 3600,
        threads=threads,
        asks_for_gpu=amounts.get("gpu", 0) > 0,
        limit=amounts.get("runtime", 0) / 60,
        memory=amounts.get("mem_mb", 0) / 1000,
    )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
