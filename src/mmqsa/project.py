"""The files that a project starts from, and a new project made of them.

They are the workflow, its configs and its profiles. A checkout has them at its root, a wheel in the
folder ``project_files`` of the package.
"""

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from mmqsa import __version__
from mmqsa.atomic import claimed
from mmqsa.errors import InputError

PACKAGE = Path(__file__).resolve().parent
IN_WHEEL = PACKAGE / "project_files"
FILES = IN_WHEEL if IN_WHEEL.is_dir() else PACKAGE.parents[1]
WORKFLOW = FILES / "workflow" / "Snakefile"
COPIED = ("config.yaml", "config", "profiles")

SNAKEFILE = f"""\
# A project of mmqsa {__version__}. README.md lists the commands. The workflow is the installed
# package's, so run `snakemake` where mmqsa is installed.
from mmqsa.project import workflow_for


include: workflow_for("{__version__}")


workflow.default_target = "all"  # an included file does not set it
"""
README = """\
# A project of mmqsa

    snakemake -n                                          # the plan; downloads nothing
    snakemake --cores all --configfile config/demo.yaml   # synthetic scenes: offline, on a CPU
    snakemake --cores all                                 # the paper: VOC 2012, on a GPU
    snakemake --workflow-profile profiles/slurm           # on a cluster; edit that profile first
    mmqsa discover --run results/demo/runs/full/seed0 photo.jpg --out masks

Snakemake comes with mmqsa's extra `workflow`: `pip install "FILE.whl[workflow]"`. A config file of
your own holds only what differs from config.yaml: `snakemake --cores all --configfile mine.yaml`.

| | |
|---|---|
| `config.yaml` | the paper's knobs, and the settings that are trained |
| `config/` | files that run on top of it, what is printed, and a README that lists every knob |
| `profiles/` | how Snakemake runs |
| `resources/`, `results/` | downloads; runs, tables, figures and the page |
"""
GITIGNORE = """\
/.snakemake/
/resources/
/results/
"""
WRITTEN = {"README.md": README, ".gitignore": GITIGNORE, "Snakefile": SNAKEFILE}


def write_project(folder: Path) -> None:
    """Write a project into ``folder``: a Snakefile on the package's workflow, configs, profiles.

    All of it or nothing: an InputError names what is there already, which stays, and an OSError the
    folder.
    """
    if "{" in os.path.realpath(folder):
        raise InputError(
            f"{folder}: a brace in the path of a project, which Snakemake takes for a wildcard; "
            "name another folder"
        )
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with claimed(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _write_project(folder)
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise


def _write_project(folder: Path) -> None:
    """Write a project into a folder that no other process writes to."""
    for name in (*COPIED, *WRITTEN):
        if (folder / name).exists() or (folder / name).is_symlink():
            raise InputError(f"{folder / name}: exists, so nothing is written; name a new folder")
    moved: list[Path] = []
    try:
        with TemporaryDirectory(prefix=".mmqsa-", dir=folder) as temporary:
            for path in (path for name in COPIED for path in _files(FILES / name)):
                copy = temporary / path.relative_to(FILES)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())  # not its mode: it may be read-only
            for name, text in WRITTEN.items():
                Path(temporary, name).write_text(text, encoding="utf-8")
            for name in (*COPIED, *WRITTEN):
                moved.append(folder / name)
                Path(temporary, name).rename(folder / name)
    except BaseException as error:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if isinstance(error, OSError) and not str(error.filename).startswith(str(FILES)):
            error.filename, error.filename2 = str(folder), None
        raise


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]


def workflow_for(version: str) -> str:
    """The path of the workflow, for the Snakefile of a project that ``version`` of mmqsa wrote.

    Another version runs it as well: a new knob has its default, a key that is gone is an error of
    one line. But Snakemake makes again what the other code makes otherwise, so the user is told.
    """
    if version != __version__:
        print(
            f"mmqsa {__version__} runs a project of mmqsa {version}: what its code makes otherwise "
            f"is made again (`snakemake -n` lists it). To accept that, write {__version__} into "
            f"Snakefile; to keep the results, install mmqsa {version} again",
            file=sys.stderr,
        )
    return str(WORKFLOW)
