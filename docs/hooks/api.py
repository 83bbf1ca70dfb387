"""The pages of the Python API: one for each module in the table of docs/api.md, from docstrings."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

TABLE = "api.md"
ROW = re.compile(r"^\| `(mmqsa[\w.]*)` \| (.*?) \| (.*?) \|$", re.MULTILINE)


def modules() -> dict[str, tuple[list[str], str]]:
    """Module -> its public names, and what they are for."""
    text = (Path(__file__).parents[1] / TABLE).read_text(encoding="utf-8")
    return {
        module: (re.findall(r"`(\w+)`", names), purpose)
        for module, names, purpose in ROW.findall(text)
    }


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages to the nav, below the table."""

    def add(items: list[Any]) -> None:
        for item in items:
            for value in item.values() if isinstance(item, dict) else []:
                if isinstance(value, list):
                    if value and TABLE in str(value[0]):
                        value += [{module: _page(module)} for module in modules()]
                    add(value)

    add(config.nav or [])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for module, (names, purpose) in modules().items():
        members = ", ".join(f'"{name}"' for name in names)
        content = (
            f"# {module}\n\n{purpose[0].upper()}{purpose[1:]}.\n\n"
            f"::: {module}\n    options:\n      members: [{members}]\n"
            "      show_root_heading: false\n"
        )
        files.append(File.generated(config, _page(module), content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links of the table's modules."""
    if page.file.src_uri != TABLE:
        return markdown
    return ROW.sub(lambda row: row[0].replace(f"`{row[1]}`", _link(row[1]), 1), markdown)


def _page(module: str) -> str:
    return f"api/{module}.md"


def _link(module: str) -> str:
    return f"[`{module}`]({_page(module)})"
