"""The command line's application, and the options that several commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mmqsa import __version__
from mmqsa.errors import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

DEBUG = "MMQSA_DEBUG"


def _folder(path: Path) -> Path:
    """Refuse a file before anything is computed for a folder in its place."""
    if os.path.lexists(path) and not path.is_dir():
        raise InputError(f"--out {path}: a file; name a folder")
    return path


ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML such as config.yaml; default: the paper's.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", envvar="MMQSA_DEVICE")]
RequireGpu = Annotated[
    bool,
    typer.Option("--require-gpu", help="Stop where there is no GPU.", envvar="MMQSA_REQUIRE_GPU"),
]
DataRoot = Annotated[
    Path, typer.Option("--data", help="Folder in VOC or COCO layout, or one that holds it.")
]
Out = Annotated[Path, typer.Option(help="Folder to write to.", callback=_folder)]
Features = Annotated[Path, typer.Option(help="Feature cache (.h5).")]
Only = Annotated[list[str] | None, typer.Option(help="Score this one only; may be repeated.")]
RunFolder = Annotated[Path, typer.Option(help="Folder of a trained run.")]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"mmqsa {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar=DEBUG, help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Masked multi-query slot attention, from photographs to the paper's tables."""
    if debug:
        os.environ[DEBUG] = "1"
