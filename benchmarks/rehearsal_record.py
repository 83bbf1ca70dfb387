"""What the jobs of a workflow took: their time from Snakemake's records, their peaks by looking.

A job is known by its log file, which its process has as standard output: no rule needs a change.
Records and peaks are files in folders that outlive the process, so that a run which is killed and
continued is counted whole.
"""

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import psutil

from mmqsa.reporting.plan import RESOURCES, RULE

PERIOD = 0.5  # seconds between two looks
PEAKS = ["log", "pid", "peak_mb", "own_mb", "files", "written_mb", "cpu_s"]
MEGABYTE = 1e6


@contextmanager
def watching(logs: Path, out: Path) -> Iterator[None]:
    """Append peaks of the processes that write logs below ``logs`` to the csv ``out``.

    peak_mb is the kernel's own mark of the most memory that the process held, own_mb the most of it
    that no file backs (a mapped cache is the system's, to take back), files the most open at once.
    """
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(logs.resolve(), out, done))
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(logs: Path, out: Path, done: threading.Event) -> None:
    alive: dict[int, dict] = {}
    while not done.wait(PERIOD):
        seen = set()
        for pid in psutil.pids():
            with suppress(psutil.Error, OSError, KeyError):  # it has ended meanwhile
                if _look(pid, logs, alive):
                    seen.add(pid)
        _append([alive.pop(pid) for pid in alive.keys() - seen], out)
    _append(list(alive.values()), out)


def _look(pid: int, logs: Path, alive: dict[int, dict]) -> bool:
    """Update what is known of a process; whether it is a job."""
    log = Path(f"/proc/{pid}/fd/1").readlink()
    if log.suffix != ".log" or not log.is_relative_to(logs):
        return False
    process = psutil.Process(pid)
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    job = alive.setdefault(pid, {"log": str(log), "pid": pid} | dict.fromkeys(PEAKS[2:], 0))
    now = {
        "peak_mb": int(status["VmHWM"].split()[0]) * 1024 / MEGABYTE,
        "own_mb": int(status["RssAnon"].split()[0]) * 1024 / MEGABYTE,
        "files": process.num_fds(),
        "cpu_s": sum(process.cpu_times()[:2]),
        "written_mb": process.io_counters().write_bytes / MEGABYTE,
    }
    job |= {name: max(value, job[name]) for name, value in now.items()}
    return True


def _append(rows: list[dict], out: Path) -> None:
    if rows:
        frame = pd.DataFrame(rows, columns=PEAKS)
        frame.to_csv(out, mode="a", header=not out.exists(), index=False, float_format="%.1f")


def jobs(project: Path) -> pd.DataFrame:
    """The jobs that are done: log, rule, start and end in seconds, MB of their outputs."""
    found: dict[str, dict] = {}
    for path in (project / ".snakemake/metadata").rglob("*"):
        if not path.is_file():
            continue
        record = json.loads(path.read_text())
        if record.get("endtime") is None or not record["log"]:
            continue
        parts = path.relative_to(project / ".snakemake/metadata").parts
        name = "".join(part.removeprefix("@") for part in parts)  # folders of a long one
        output = project / base64.urlsafe_b64decode(name).decode()
        log = str((project / record["log"][0]).resolve())
        job = found.setdefault(log, {"log": log, "rule": record["rule"], "disk_mb": 0.0})
        job |= {"start": record["starttime"], "end": record["endtime"]}
        job["disk_mb"] += size(output) / MEGABYTE
    columns = ["log", "rule", "start", "end", "disk_mb"]
    return pd.DataFrame(found.values(), columns=columns)


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 where there is none."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def sessions(log: Path) -> pd.DataFrame:
    """Begin and end, in seconds, of each time that Snakemake wrote to ``log``, killed or not."""
    rows: list[dict] = []
    waiting = False
    for line in log.read_text().splitlines() if log.exists() else []:
        if line == "Job stats:":
            waiting = True
        elif match := re.fullmatch(r"\[(\w{3} \w{3} [ \d]\d [\d:]+ \d{4})\]", line):
            now = time.mktime(time.strptime(match[1]))
            if waiting:
                rows.append({"begun": now})
                waiting = False
            if rows:
                rows[-1]["ended"] = now
    return pd.DataFrame(rows, columns=["begun", "ended"])


def requests(plan: str, project: Path) -> pd.DataFrame:
    """A job of a dry run a row: rule, log, and what it asks for (MB, minutes, cores, GPUs)."""
    rows: list[dict] = []
    job: dict = {}
    for line in plan.splitlines():
        if match := RULE.match(line):
            job = {"rule": match[1], "log": "", "threads": 1}
        elif match := re.match(r"^\s*log: (.*?)(?: \(.*\))?$", line):
            job["log"] = str((project / match[1]).resolve())
        elif match := re.match(r"^\s*threads: (\d+)", line):
            job["threads"] = int(match[1])
        elif match := RESOURCES.match(line):
            asked = dict(re.findall(r"(\w+)=(\d+)", match[1]))
            names = ("mem_mb", "runtime", "expected_seconds", "gpu")
            rows.append(job | {name: int(asked.get(name, 0)) for name in names})
    return pd.DataFrame(rows)


def by_rule(project: Path, plan: str, peaks: Path, log: Path) -> pd.DataFrame:
    """A row per rule of the plan: what its jobs took, and the most that any of them asked for."""
    asked, done = requests(plan, project), jobs(project)
    # Of a job that was killed, Snakemake keeps the first start.
    begun = [
        max([start, *times["begun"][times["begun"] <= end]])
        for times in [sessions(log)]
        for start, end in zip(done["start"], done["end"], strict=True)
    ]
    done["seconds"] = done["end"] - begun
    frame = asked.merge(done.drop(columns="rule"), on="log", how="left")
    if peaks.exists():
        most = pd.read_csv(peaks).groupby("log")[PEAKS[2:]].max()  # of all attempts
        frame = frame.merge(most, on="log", how="left")
    frame = frame.reindex(columns=[*frame.columns, *set(PEAKS[2:]) - set(frame.columns)])
    frame["share"] = frame["peak_mb"] / frame["mem_mb"].where(frame["mem_mb"] > 0)
    frame["late"] = frame["seconds"] / (60 * frame["runtime"].where(frame["runtime"] > 0))
    table = frame.groupby("rule", sort=False).agg(
        jobs=("rule", "size"),
        done=("seconds", "count"),
        hours=("seconds", lambda seconds: seconds.sum() / 3600),
        cpu_hours=("cpu_s", lambda seconds: seconds.sum() / 3600),
        longest_s=("seconds", "max"),
        limit_min=("runtime", "max"),
        late=("late", "max"),
        peak_mb=("peak_mb", "max"),
        own_mb=("own_mb", "max"),
        mem_mb=("mem_mb", "max"),
        share=("share", "max"),
        files=("files", "max"),
        disk_mb=("disk_mb", "sum"),
    )
    return table.reset_index()
