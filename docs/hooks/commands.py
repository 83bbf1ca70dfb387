"""The list on the page of the command line, from the commands' own help when the site is built."""

from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from typer.main import get_command

from mmqsa.cli.application import HEADINGS
from mmqsa.cli.entry import application

PAGE = "commands.md"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Add the list to its page."""
    return f"{markdown}\n\n{commands()}" if page.file.src_uri == PAGE else markdown


def commands() -> str:
    """Every command with its options, in Markdown."""
    root: Any = get_command(application.app)
    context = root.context_class(root, info_name="mmqsa")
    by_heading: dict[str, list[str]] = {heading: [] for heading in HEADINGS.values()}
    for name, command in root.commands.items():
        for full, leaf, inner in _leaves(name, command, context):
            module = leaf.callback.__module__.rpartition(".")[2]
            by_heading[HEADINGS[module]] += [f"### mmqsa {full}", *_described(leaf, inner)]
    parts = ["## mmqsa", _options(root, context)]
    for heading, texts in by_heading.items():
        parts += [f"## {heading}", *texts] if texts else []
    return "\n\n".join(parts) + "\n"


def _leaves(name: str, command: Any, parent: Any) -> Iterator[tuple[str, Any, Any]]:
    """A command, or the commands of a group: full name, command, context."""
    context = command.context_class(command, info_name=name.split()[-1], parent=parent)
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command, context
    for inner, leaf in (below or {}).items():
        yield from _leaves(f"{name} {inner}", leaf, context)


def _described(command: Any, context: Any) -> list[str]:
    usage = command.get_usage(context).removeprefix("Usage: ")
    return [command.help, f"```text\n{usage}\n```", _options(command, context)]


def _options(command: Any, context: Any) -> str:
    """The table of a command's arguments and options."""
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [f"| `{names}` | {_escaped(text)} |" for names, text in filter(None, records)]
    return "\n".join(["| | |", "|---|---|", *rows])


def _escaped(text: str) -> str:
    """Text for a cell of a table, where ``|`` would end it and ``<`` open a tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")
