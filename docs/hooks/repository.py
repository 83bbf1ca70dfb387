"""Files outside docs/ as pages of the site: those of its nav, and those that its pages link to.

A link such as ``../config.yaml`` works on GitHub, and in a checkout. On the site it leads to a page
with the file: Markdown is rendered, pictures are copied, other text is listed. So the site needs no
address of a repository, and what it shows is of the same version.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = "docs/"
# MkDocs takes a README for the first page of its folder, and the theme for that of its section.
MOVED = {"README.md": "readme.md", "config/README.md": "config.md"}
HIDDEN = (".", "_", "showcase-")  # figures of photographs, which stay where they were made
PICTURES = (".png", ".jpg", ".webp", ".svg")
LANGUAGES = {".py": "python", ".smk": "python", ".yaml": "yaml", ".yml": "yaml", "": "bash"}
FENCED = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)\s*$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the nav and the pages name, and what those name in turn."""
    in_nav = set(re.findall(r"[\w./-]+\.md", str(config.nav)))
    waiting = [_repository_path(uri) for uri in in_nav if not files.get_file_from_path(uri)]
    waiting = [path for path in waiting if (ROOT / path).is_file()]
    for file in files.documentation_pages():
        waiting += _outside(file.content_string, DOCS + file.src_uri)
    while waiting:
        path = waiting.pop()
        if files.get_file_from_path(_uri(path)):
            continue
        file = _file(path, config)
        files.append(file)
        if file.src_uri not in in_nav:
            file.inclusion = InclusionLevel.NOT_IN_NAV
        if file.is_documentation_page():
            waiting += _outside(file.content_string, path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the pages of the site, and draw diagrams as tables."""
    here = page.file.src_uri
    path = _repository_path(here)
    if page.file.inclusion == InclusionLevel.NOT_IN_NAV:
        page.meta["search"] = {"exclude": True}

    def pointed(link: re.Match) -> str:
        target, hash_, anchor = link[2].partition("#")
        if "://" in target or not target:
            return link[0]
        named = _path(path, target)
        if not (ROOT / named).exists():
            return link[0]  # MkDocs says so
        uri = os.path.relpath(_uri(named), PurePosixPath(here).parent)
        return f"{link[1]}{uri}{hash_}{anchor}{link[3]}"

    return _in_prose(DIAGRAM.sub(lambda diagram: _table(diagram[1]), markdown), pointed)


def _in_prose(markdown: str, replacement: Callable[[re.Match], str]) -> str:
    """The text with its links replaced, but for those in fenced blocks."""
    parts = FENCED.split(markdown)
    parts[::2] = [LINK.sub(replacement, part) for part in parts[::2]]
    return "".join(parts)


def _outside(markdown: str, path: str) -> Iterator[str]:
    """The files and folders outside docs/ that a page at this path of the repository links to."""
    for part in FENCED.split(markdown)[::2]:
        for _, link, _ in LINK.findall(part):
            target = link.partition("#")[0]
            named = _path(path, target) if target and "://" not in target else DOCS
            if not _is_source(named) and (ROOT / named).exists():
                yield named


def _path(page: str, target: str) -> str:
    """What a page's relative link names, as a path of the repository."""
    named = os.path.normpath(PurePosixPath(page).parent / target)
    readme = f"{named}/README.md"
    return readme if (ROOT / readme).is_file() and named != "." else named


def _is_source(path: str) -> bool:
    """Whether MkDocs takes a file by itself."""
    return path.startswith(DOCS) and not path.endswith(".py")


def _uri(path: str) -> str:
    """Where a file of the repository lies among the site's sources."""
    if _is_source(path):
        return path.removeprefix(DOCS)
    if path in MOVED:
        return MOVED[path]
    return path if path.endswith((".md", *PICTURES)) else f"{path}.md"


def _repository_path(uri: str) -> str:
    """Where a source of the site lies in the repository."""
    if (ROOT / DOCS / uri).is_file():
        return DOCS + uri
    return next((path for path, page in MOVED.items() if page == uri), uri)


def _file(path: str, config: MkDocsConfig) -> File:
    source = ROOT / path
    if path.endswith(PICTURES):
        return File.generated(config, path, abs_src_path=str(source))
    if source.is_dir():
        shown = [item for item in sorted(source.iterdir()) if not item.name.startswith(HIDDEN)]
        links = map(_listed, shown)
        content = f"# {path}\n\n" + "\n\n".join(filter(None, links)) + "\n"
    else:
        content = source.read_text(encoding="utf-8")
        if source.suffix != ".md":
            language = LANGUAGES.get(source.suffix, "text")
            content = f"# {source.name}\n\n`{path}`\n\n~~~~~~{language}\n{content}\n~~~~~~\n"
        elif not re.search(r"^# ", content, re.MULTILINE):
            content = f"# {path}\n\n{content}"
    return File.generated(config, _uri(path), content=content)


def _listed(item: Path) -> str:
    """A line of a folder's page: pictures are shown, text is linked, the rest is left out."""
    name = item.name + "/" * item.is_dir()
    link = f"[{name}]({item.parent.name}/{name})"
    if item.suffix in PICTURES:
        return f"**{item.name}**\n\n!{link}"
    return f"- {link}" if item.is_dir() or item.suffix in (".md", *LANGUAGES) else ""


def _table(diagram: str) -> str:
    """A diagram of boxes and arrows as a table: GitHub draws it by a script from the network."""
    boxes = re.findall(r'^ *(\w+)\["<b>(.*?)</b><br/>(.*?)"\]', diagram, re.MULTILINE)
    arrows = re.findall(r"^ *(\w+) --> (\w+)", diagram, re.MULTILINE)
    titles = {name: title.rstrip("/") for name, title, _ in boxes}
    rows = [
        f"| {title} | {text} | {', '.join(titles[b] for a, b in arrows if a == name)} |"
        for name, title, text in boxes
    ]
    return "\n".join(["| room | what it does | imports |", "|---|---|---|", *rows, ""])
