"""The site of mkdocs.yml: it builds without a warning, offline, and its pages are whole."""

import ast
import importlib
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from typer.main import get_command

from mmqsa.cli.application import app

pytest.importorskip("mkdocs", reason="mkdocs is not installed; `make environment`")
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PICTURES = sorted(path for kind in ("png", "jpg", "webp") for path in DOCS.rglob(f"*.{kind}"))
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")


class Html(HTMLParser):
    """What a page links to, what it loads, and its anchors."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if "href" in given:
            (self.loads if tag == "link" else self.links).append(given["href"])
        if "src" in given:
            self.loads.append(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` builds it, with no way to the network."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = {**os.environ, **NO_NETWORK, "NO_MKDOCS_2_WARNING": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert seconds < 60, "a minute of a processor, whatever else it does"
    return out


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Html]:
    written = {*site.rglob("*.html")} - {site / "404.html"}  # it is for servers alone
    return {path: Html(path) for path in sorted(written)}


def test_every_link_and_anchor_is_there(pages):
    for path, page in pages.items():
        for link in {*page.links, *page.loads}:
            url = urlsplit(link)
            if url.scheme or link.startswith("data:"):
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{path.name}: {link} leads nowhere"
            if url.fragment and target in pages:
                anchors = pages[target].anchors
                assert unquote(url.fragment) in anchors, f"{path.name}: no anchor for {link}"


def test_links_to_other_sites_are_well_formed(pages):
    for path, page in pages.items():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme:
                assert url.scheme in ("https", "http", "mailto"), f"{path.name}: {link}"
                assert re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", url.netloc), f"{path.name}: {link}"


def test_no_page_loads_anything_from_elsewhere(pages):
    for path, page in pages.items():
        outside = [load for load in page.loads if load.startswith(("http", "//"))]
        assert outside == [], f"{path.name} loads {outside}"


def test_every_page_of_docs_is_in_the_nav(pages, site):
    nav = {unquote(link) for link in pages[site / "index.html"].links}
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix(".html").as_posix()
        assert (nav & {name, "./"}) if name == "index.html" else name in nav, f"{name}: not in nav"
    assert {"CHANGELOG.html", "CONTRIBUTING.html", "config.html"} <= nav


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_every_picture_is_shown_and_is_small(picture):
    texts = [*DOCS.rglob("*.md"), ROOT / "README.md"]
    assert any(f"{picture.name})" in text.read_text(encoding="utf-8") for text in texts)
    if picture.suffix == ".webp":
        assert picture.stat().st_size < 150_000


def commands(command, name: str = "mmqsa") -> Iterator[tuple[str, object]]:
    """Every command that does something, by its full name."""
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
    for inner, leaf in (below or {}).items():
        yield from commands(leaf, f"{name} {inner}")


def test_every_command_and_option_is_on_its_page(site):
    text = (site / "commands.html").read_text(encoding="utf-8")
    sections = re.split(r'<h[23] id="', text)
    by_anchor = {section.split('"')[0]: section for section in sections}
    found = dict(commands(get_command(app)))
    assert len(found) > 20
    for name, command in found.items():
        section = by_anchor[name.replace(" ", "-")]
        for option in (option for parameter in command.params for option in parameter.opts):
            if option.startswith("--"):
                assert f"<code>{option}" in section, f"{name}: {option} is not described"


def test_every_public_name_has_its_docstring_on_a_page(pages, site):
    table = (DOCS / "api.md").read_text(encoding="utf-8")
    modules = re.findall(r"^\| `(mmqsa[\w.]*)` ", table, re.MULTILINE)
    assert "mmqsa.model" in modules and "mmqsa.evaluation.metrics" in modules
    for module in modules:
        anchors = pages[site / f"api/{module}.html"].anchors
        missing = set(importlib.import_module(module).__all__) - {
            name.rpartition(".")[2] for name in anchors
        }
        assert not missing, f"api/{module}: no {', '.join(sorted(missing))}"


def test_examples_of_docstrings_are_code(site):
    """`>>>` in a docstring would become a quotation in a quotation in a quotation."""
    for path in (site / "api").glob("*.html"):
        assert "<blockquote>" not in path.read_text(encoding="utf-8"), path.name


def test_the_tables_of_the_concepts_have_places():
    """What docs/concepts.py writes into the pages, and they hold."""
    tree = ast.parse((DOCS / "concepts.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    written = {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "write"
    }
    text = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("concepts/*.md"))
    blocks = dict(re.findall(r"<!-- (\w+) -->\n(.*?)<!-- /\1 -->", text, re.DOTALL))
    assert set(blocks) == written
    assert all("|--:" in block for block in blocks.values())


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here; `apt-get install chromium`")
def test_search_works_without_a_server(site):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    faults: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (1366, 390):
            tab = browser.new_page(viewport={"width": width, "height": 844})
            tab.on("pageerror", lambda error: faults.append(str(error)))
            tab.on("requestfailed", lambda request: faults.append(request.url))
            tab.goto((site / "concepts/matching.html").as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            if width < 1000:
                tab.locator("label.md-header__button[for=__search]").click()
            tab.locator("input.md-search__input").press_sequentially("greedy", delay=50)
            tab.locator(".md-search-result__item").first.wait_for()
            assert "Matching" in tab.locator(".md-search-result__list").inner_text()
        browser.close()
    assert faults == []
