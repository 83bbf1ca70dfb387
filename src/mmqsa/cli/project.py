"""A project of one's own, from the installed package."""

from pathlib import Path
from typing import Annotated

import typer

from mmqsa.cli.application import app


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder, or one that has no such files.")],
) -> None:
    """Write a project: a Snakefile, the paper's configs, and profiles for workstation and SLURM."""
    import shlex
    from importlib.util import find_spec

    from mmqsa.project import write_project

    write_project(folder)
    print(f"{folder}: Snakefile, configs, profiles and a README.md with the commands. Next:")
    print(f"    cd {shlex.quote(str(folder))}")
    if find_spec("snakemake") is None:
        print('    pip install "FILE.whl[workflow]"   # of mmqsa: there is no Snakemake yet')
    print("    snakemake -n                    # the plan; downloads nothing")
