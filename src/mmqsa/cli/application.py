"""The command line's application, and the options that several commands share."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mmqsa import __version__
from mmqsa.errors import InputError

# Module of commands -> the heading that the help lists them under, in the order of the help.
HEADINGS = {
    "project": "A project of your own",
    "pipeline": "From photographs to trained runs",
    "scoring": "Scores",
    "predictions": "Scores",
    "reporting": "Tables, figures and the page",
    "trained": "Masks for your own photographs",
}


class Commands(TyperGroup):
    """The commands, listed by heading, each with its whole first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list into the help."""
        entries: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS.values()}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            first = next(iter(getattr(command, "commands", {"": command}).values()))
            module = first.callback.__module__.rpartition(".")[2]
            entries[HEADINGS[module]].append((name, command.help.split("\n\n")[0]))
        for heading, rows in ((heading, rows) for heading, rows in entries.items() if rows):
            with formatter.section(heading):
                formatter.write_dl(rows)


# Without rich, whose import takes longer than all else that the help needs.
app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs to read.")]
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
