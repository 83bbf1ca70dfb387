"""The SLURM profile on a real SLURM of one node, with a stand-in GPU: .ci/slurm start."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from project import HANDFUL, ROOT, copy_project, finish, snakemake, start

from mmqsa.paths import CHECKPOINT
from mmqsa.training.checkpoint import step_of


def _answers() -> bool:
    if shutil.which("sinfo") is None:
        return False
    done = subprocess.run(["sinfo", "-h", "-o", "%G"], capture_output=True, text=True, timeout=20)
    return done.returncode == 0 and "gpu" in done.stdout


pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not _answers(), reason="no SLURM with a GPU answers: .ci/slurm start"),
]
TABLES = yaml.safe_load((ROOT / "config/tables.yaml").read_text())["tables"]
SHORT = HANDFUL | {
    "device": "auto",  # so that jobs ask for the GPU
    "grid": ["full"],
    "evaluation": HANDFUL["evaluation"] | {"baselines": ["kmeans", "oracle"]},
    "tables": {name: None for name in TABLES if name not in ("masking", "compute")},
}
# A cluster's own waits are made for networks; this one has no accounting database.
QUICK = [
    *("--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "2"),
    *("--seconds-between-status-checks", "2", "--slurm-status-command", "squeue", "--cores", "2"),
]
RUNS = "results/demo/runs"


class Cluster:
    """A copy of the project that submits to SLURM, and what SLURM says of its jobs."""

    def __init__(self, folder: Path, changes: dict):
        self.folder = copy_project(folder)
        self.configure(changes)
        self.runs = 0

    def configure(self, changes: dict) -> None:
        (self.folder / "short.yaml").write_text(yaml.safe_dump(changes))

    def arguments(self, *others) -> list[str]:
        self.runs += 1
        return [
            *("--workflow-profile", "profiles/slurm", "--slurm-jobname-prefix", self.prefix),
            *("--configfile", "config/demo.yaml", "short.yaml", *QUICK, *others),
        ]

    @property
    def prefix(self) -> str:
        return f"run{self.runs}-{os.getpid()}-{self.folder.name}"

    def jobs(self, rule: str = "") -> list[dict[str, str]]:
        """Of the last run: SLURM's records of the jobs of a rule."""
        listed = subprocess.run(["scontrol", "show", "job", "-o"], capture_output=True, text=True)
        records = [
            dict(re.findall(r"(\w+)=(\S*)", line)) for line in listed.stdout.splitlines() if line
        ]
        return [
            record
            for record in records
            if record.get("JobName", "").startswith(self.prefix)
            and record.get("Comment", "").startswith(f"rule_{rule}")
        ]

    def training(self, timeout: float = 120) -> dict[str, str]:
        """Wait until a training has written a checkpoint and runs on; its record."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            running = [job for job in self.jobs("train") if job["JobState"] == "RUNNING"]
            if running and list((self.folder / RUNS).glob(f"*/*/{CHECKPOINT}")):
                return running[0]
            time.sleep(0.2)
        raise AssertionError("no training wrote a checkpoint")


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The demo's chain, all of it submitted."""
    own = Cluster(tmp_path_factory.mktemp("slurm"), SHORT)
    yield own, snakemake(own.folder, *own.arguments())


@pytest.fixture
def cluster(chain):
    """The same folder with another config and no run in it: its caches are there already."""
    own, _ = chain

    def configured(changes: dict) -> Cluster:
        shutil.rmtree(own.folder / RUNS)
        own.configure(changes)
        return own

    yield configured
    ids = {job["JobId"] for job in own.jobs()}
    subprocess.run(["scancel", *ids], check=False)


def times(job: dict[str, str]) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(job["StartTime"]), datetime.fromisoformat(job["EndTime"])


def test_the_demos_chain_completes_through_sbatch(chain):
    own, _ = chain
    assert (own.folder / "results/demo/tables/masking.md").read_text().count("±") > 3
    jobs = own.jobs()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    counts = {rule: len(own.jobs(rule)) for rule in ("train", "extract", "evaluate", "baseline")}
    assert counts == {"train": 2, "extract": 2, "evaluate": 2, "baseline": 2}
    # The GPU for what computes on it, one at a time; nothing for the rest; local rules stay here.
    held = [job for job in jobs if "gpu:1" in job.get("TresPerJob", "")]
    assert {re.match("rule_([a-z]+)", job["Comment"])[1] for job in held} == {
        *("train", "extract", "evaluate", "label")  # label_maps, for the page
    }
    spans = sorted(map(times, held))
    assert len(spans) == 7
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
    assert not own.jobs("stage_config") and not own.jobs("data")
    assert len({job["ArrayJobId"] for job in own.jobs("baseline")}) == 1  # both in one array
    assert len(own.jobs("report")) == 1  # all tables and figures
    # Memory, time and cores are those that the rules say.
    (job, *_) = own.jobs("train")
    assert job["MinMemoryNode"] == "4000M" and job["TimeLimit"] == "00:11:00"
    assert job["NumCPUs"] == "1" and own.jobs("extract")[0]["NumCPUs"] == "2"
    # What SLURM trained is what a plain command trains.
    run = own.folder / RUNS / "full/seed1"
    alone = own.folder / "alone"
    command = [
        *(sys.executable, "-m", "mmqsa", "train", "--seed", "1", "--out", alone),
        *("--features", own.folder / "results/demo/features/scenes/train.h5"),
        *("--config", own.folder / "results/demo/config/runs/full.yaml"),
    ]
    threads = {"OMP_NUM_THREADS": "1"}  # as Snakemake's: sums in another order have other bits
    subprocess.run(command, check=True, env={**os.environ, **threads}, capture_output=True)
    weights = "model.safetensors"
    assert (run / weights).read_bytes() == (alone / weights).read_bytes()


LONG = SHORT | {
    "training": {"steps": 2500, "log_every": 100, "batch_size": 4, "checkpoint_seconds": 1},
    "grid": ["full"],
    "seeds": [0],
    "tables": {name: None for name in TABLES if name != "compute"},
}
WEIGHTS = f"{RUNS}/full/seed0/model.safetensors"


@pytest.mark.parametrize("end", ["scancel", "requeue"])
def test_a_training_that_slurm_ends_resumes(cluster, end):
    own = cluster(LONG)
    process = start(own.folder, *own.arguments(), "--", WEIGHTS)
    job = own.training()
    if end == "scancel":
        subprocess.run(["scancel", job["JobId"]], check=True)
    else:
        subprocess.run(["scontrol", "requeue", job["JobId"]], check=True)
        deadline = time.monotonic() + 30
        while own.jobs("train")[0]["JobState"] != "PENDING" and time.monotonic() < deadline:
            time.sleep(0.2)  # SLURM lets a requeued job wait for two minutes: not here
        update = ["scontrol", "update", f"JobId={job['JobId']}", "StartTime=now"]
        subprocess.run(update, check=True)
    finish(process)
    made = json.loads((own.folder / RUNS / "full/seed0/provenance.json").read_text())
    assert len(made["resumed_at_steps"]) == 1 and 0 < made["resumed_at_steps"][0] < 2500
    attempts = own.jobs("train")
    assert attempts[-1]["JobState"] == "COMPLETED"
    if end == "scancel":
        assert [job["JobState"] for job in attempts] == ["CANCELLED", "COMPLETED"]
        assert attempts[1]["MinMemoryNode"] == "8000M"  # twice as much, should that have been it
    else:
        assert attempts[0]["JobId"] == job["JobId"] and attempts[0]["Restarts"] == "1"


def test_ctrl_c_leaves_no_job(cluster):
    own = cluster(LONG | {"seeds": [0, 1, 2]})
    process = start(own.folder, *own.arguments())
    own.training()
    process.send_signal(signal.SIGINT)
    finish(process, check=False, timeout=60)
    assert process.returncode
    deadline = time.monotonic() + 30  # SLURM lets a job end by itself before it kills
    while time.monotonic() < deadline:
        states = {job["JobState"] for job in own.jobs()}
        if not states & {"RUNNING", "PENDING", "COMPLETING"}:
            break
        time.sleep(0.5)
    assert "CANCELLED" in states and not states & {"RUNNING", "PENDING", "COMPLETING"}
    # The folder is not locked, and the training that was cut off has its checkpoint.
    assert step_of(next((own.folder / RUNS).glob(f"*/*/{CHECKPOINT}")))
    snakemake(own.folder, "-n", "--configfile", "config/demo.yaml", "short.yaml")


def test_seeds_in_one_job_train_one_after_the_other(cluster):
    own = cluster(SHORT)
    weights = [f"{RUNS}/full/seed{seed}/model.safetensors" for seed in (0, 1)]
    grouped = ["--groups", "train=seeds", "--group-components", "seeds=2"]
    snakemake(own.folder, *own.arguments(*grouped), "--", *weights)
    (job,) = own.jobs("seeds")
    assert not own.jobs("train")
    assert job["JobState"] == "COMPLETED" and "gpu:1" in job["TresPerJob"]
    assert job["TimeLimit"] == "00:22:00"  # of both
    assert job["MinMemoryNode"] == "4000M"  # of one
    assert all((own.folder / path).is_file() for path in weights)
