"""The page as a folder: what stands in it, and the files that it needs."""

import re
import shutil
from collections.abc import Callable
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from mmqsa import __version__
from mmqsa.atomic import claimed, write_text
from mmqsa.errors import InputError
from mmqsa.page.spec import PageSpec
from mmqsa.page.summary import PageTable, facts, page_table, verdicts, warnings
from mmqsa.paths import Paths, is_inside

STATIC = Path(__file__).with_name("static")
PICTURES = {
    "gallery": "Images from best to worst",
    "heads": "The best, the median and the worst image, with every head",
    "iterations": "Attention after every iteration",
    "premise": "Scores of patches that tell background from object",
}
# Of a page; the last are what Snakemake and the desktops of Mac and Windows leave in any folder.
PARTS = {"index.html", "static", "data", "figures", "photographs"}
PARTS |= {".snakemake_timestamp", ".DS_Store", "Thumbs.db", "desktop.ini"}
Explorer = Callable[[Path], None]
MARK = '<meta name="generator" content="mmqsa '


def make_page(spec: PageSpec, paths: Paths, out: Path, explorer: Explorer | None = None) -> Path:
    """Write the page of a results folder to ``out``; returns its ``index.html``.

    ``explorer`` writes the data of every image to the folder that it is given (``write_explorer``);
    None: the page shows no image. A page that is there is replaced when the new one is whole.
    Raises InputError where ``out`` is anything else, and where a table or a figure is missing.
    """
    out = out.resolve()
    if is_inside(paths.results, out):  # which goes when a page is replaced
        raise InputError(f"{out}: has the results {paths.results} in it; name another folder")
    with claimed(out), TemporaryDirectory(prefix=".page-", dir=out.parent) as scratch:
        _check_place(out)
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        if explorer:
            explorer(new)
        shutil.copytree(STATIC, new / "static")
        tables = {name: page_table(paths, name, kinds) for name, kinds in spec.tables.items()}
        showcase = [paths.figure("showcase", kind, "png") for kind in PICTURES]
        pictures = [path for path in showcase if path.exists() and spec.photographs]
        shown = [
            paths.results / "figures" / one for table in tables.values() for one in table.figures
        ]
        for figure in [*shown, *pictures]:
            _copy(figure, new / "figures" / figure.name)
        write_text(new / "index.html", _text(spec, paths, tables, pictures, explorer is not None))
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except OSError:
            if old.exists():  # which would go with the scratch folder
                old.rename(out)
            raise
    return out / "index.html"


def _check_place(out: Path) -> None:
    """Raises InputError where something else than a page would be lost."""
    if not out.exists():
        return
    others = sorted({path.name for path in out.iterdir()} - PARTS) if out.is_dir() else []
    index = out / "index.html"
    is_page = index.is_file() and MARK in index.read_text(encoding="utf-8", errors="replace")
    if others or not (is_page or (out.is_dir() and not any(out.iterdir()))):
        what = f"has {others[0]}, so it" if others else "exists and"
        raise InputError(f"{out}: {what} is no page of mmqsa; it stays: name another folder")


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise InputError(f"{source}: missing; draw it with `mmqsa figure metrics`")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _text(
    spec: PageSpec, paths: Paths, tables: dict[str, PageTable], pictures: list[Path], explorer: bool
) -> str:
    environment = Environment(
        loader=PackageLoader("mmqsa.page", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["superscript"] = _superscript
    of_kind = {kind: paths.table(kind, "csv") for kind in ("claims", "diagnosis") if kind in tables}
    return environment.get_template("index.html.jinja").render(
        version=__version__,
        spec=spec,
        facts=facts(spec, paths),
        answer=tables.get(spec.answer or ""),
        verdicts=verdicts(of_kind["claims"]) if "claims" in of_kind else [],
        warnings=warnings(of_kind["diagnosis"]) if "diagnosis" in of_kind else [],
        explorer=explorer,
        tables=list(tables.values()),
        pictures={path.name: PICTURES[path.stem.rpartition("-")[2]] for path in pictures},
    )


def _superscript(text: str) -> Markup:
    """Text with ``mBO^c`` as it is printed."""
    return Markup(re.sub(r"\^(\w)", r"<sup>\1</sup>", escape(text)))
