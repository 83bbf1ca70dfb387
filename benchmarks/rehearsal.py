"""The dress rehearsal: config.yaml from its first line to its last, at full size, on a CPU.

python benchmarks/rehearsal.py                    # hours, and 48 GB of disk
python benchmarks/rehearsal.py --images 0.02      # the same layout with 343 photographs

Photographs and weights are made here, and come from a slow server on the loopback. `snakemake
--cores all --use-conda` runs in a copy of the checkout, where a later edit restarts nothing; conda
is played by tests/workflow/standin. The same command continues what was stopped or killed.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from safetensors.torch import save_file

from mmqsa.atomic import whole_file, write_text
from mmqsa.config.data import BackboneConfig
from mmqsa.config.files import dump_yaml
from mmqsa.features.weights import backbone_weights
from rehearsal_page import write_page
from rehearsal_record import watching
from rehearsal_server import serving
from rehearsal_voc import write_archive

ROOT = Path(__file__).parents[1]
CLONE = ["Snakefile", "config.yaml", "config", "workflow", "profiles", "src", "environment.yml"]
ARCHIVE = "VOCtrainval_11-May-2012.tar"
BACKBONE = BackboneConfig()
WEIGHTS = f"timm/{BACKBONE.name}/resolve/main/model.safetensors"
DROPS = [0.3, 0.8]  # after these shares of a file the connection ends, once
FULL_GB = 48  # disk space of the whole: 38 are feature caches, 6 the archive twice and unpacked
CONFIGS = ["--configfile", "config/rehearsal.yaml", "made.yaml"]


def main(
    images: Annotated[float, typer.Option(min=0.01, max=1, help="Share of VOC's photographs.")] = 1,
    folder: Annotated[Path, typer.Option(help="Where everything is made.")] = ROOT
    / "resources/rehearsal",
    rate: Annotated[float, typer.Option(help="Of the server, MB/s.")] = 20,
    cores: Annotated[str, typer.Option(help="For Snakemake.")] = "all",
    page: Annotated[
        Path | None, typer.Option(help="The page to write; default: in FOLDER.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the csv; default: FOLDER.")] = None,
    note: Annotated[str, typer.Option(help="A paragraph for the page.")] = "",
) -> None:
    """Make the data, run the workflow to its end, and write what it took to the page."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for ending in (signal.SIGINT, signal.SIGTERM):  # also where a shell had it ignored
        signal.signal(ending, signal.default_int_handler)
    free = shutil.disk_usage(folder).free / 1e9
    if not (folder / "project").exists() and free < FULL_GB * images:
        sys.exit(f"{folder}: {free:.0f} GB are free, {FULL_GB * images:.0f} are needed")
    with alone(folder) as lock:
        prepare(folder, images)
        with serving(folder / "server", rate * 1e6, DROPS, folder / "downloads.csv") as url:
            code = rehearse(folder, cores, url, lock)
        write_page(folder, images, page or folder / "scale.md", out or folder, note)
    sys.exit(code)


@contextmanager
def alone(folder: Path) -> Iterator[IO[str]]:
    """A lock that is held until this process and the Snakemake that it starts have ended."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{folder}: a rehearsal is running there; wait for it, or name another folder")
        yield lock


def prepare(folder: Path, images: float) -> None:
    """What a stranger finds in the network, and a clone; what is there already stays."""
    share = folder / "share"
    if not share.exists():
        write_text(share, f"{images:g}")
    if share.read_text() != f"{images:g}":
        sys.exit(f"{folder}: is of --images {share.read_text()}; say so, or name another folder")
    archive, weights, project = (
        folder / "server" / ARCHIVE,
        folder / "server" / WEIGHTS,
        folder / "project",
    )
    if not archive.exists():
        write_archive(archive, images)
    if not weights.exists():
        state, _ = backbone_weights(BACKBONE.model_copy(update={"pretrained": False}))
        with whole_file(weights) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
    if (project / "made.yaml").exists():
        return
    for name in CLONE:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, project / name, ignore=ignored, dirs_exist_ok=True)
        else:
            project.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, project / name)
    with archive.open("rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    write_text(project / "made.yaml", dump_yaml({"dataset": {"md5": md5}}))


def rehearse(folder: Path, cores: str, url: str, lock: IO[str]) -> int:
    """Plan, run and plan again, with a watch on the jobs; the exit code of Snakemake."""
    project, standin = folder / "project", ROOT / "tests/workflow/standin"
    path = os.pathsep.join([str(standin), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {
        "PATH": path,
        "MMQSA_STANDIN_PYTHON": sys.executable,
        "MMQSA_STANDIN_LOG": str(folder / "activated"),
        "MMQSA_REHEARSAL": url,
        "HF_ENDPOINT": url,
        "HF_HOME": str(folder / "hub"),
    }
    snakemake = [sys.executable, "-m", "snakemake"]
    options: dict[str, Any] = {"cwd": project, "env": environment}
    if any((project / ".snakemake/locks").glob("*")):  # ours, of a run that was killed
        subprocess.run([*snakemake, "--unlock", *CONFIGS], check=True, **options)
    _plan(folder, "before", [*snakemake, "-n", *CONFIGS], options)
    run = [*snakemake, "--cores", cores, "--use-conda", *CONFIGS]
    with (folder / "snakemake.log").open("a") as log:
        process = subprocess.Popen(
            run,
            **options,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
    try:
        with watching(project / "results/logs", folder / "peaks.csv"):
            code = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)  # it ends its jobs, which keep what they have done
        code = process.wait() or 1
    if code == 0:
        _plan(folder, "after", [*snakemake, "-n", *CONFIGS], options)
    print(f"{folder / 'snakemake.log'}: Snakemake ended with {code}")
    return code


def _plan(folder: Path, when: str, command: list[str], options: dict) -> None:
    """Keep a dry run and its seconds; the first one, of all jobs, is kept for good."""
    kept = folder / f"plan-{when}.txt"
    if kept.exists():
        return
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    write_text(kept, f"{done.stdout}seconds: {time.perf_counter() - begun:.1f}\n")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
