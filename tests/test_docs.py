"""README, CONTRIBUTING, docs and the like: their links, paths, commands and imports exist."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from mmqsa.cli.application import app
from mmqsa.config.workflow import Config

ROOT = Path(__file__).parents[1]
OTHERS = ["README.md", "CONTRIBUTING.md", "config/README.md", "results/README.md"]
PAGES = [*(ROOT / name for name in OTHERS), *sorted(ROOT.glob("docs/**/*.md"))]
# Top-level folders whose content is in git; results/ and resources/ hold what runs make.
TRACKED = ("src", "tests", "config", "docs", "benchmarks", "workflow", "profiles", ".ci")
# What a page that says how to add something names as its own.
PLACEHOLDER = re.compile(r"[A-Z]{3,}|[*…]")

SNAKEMAKE_OPTIONS = {"--config", "--use-conda", "--resources"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    return re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


def code(page: Path) -> list[str]:
    """Lines of fenced and indented blocks, and code in the text."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^    (\S.*)$", prose(page), re.MULTILINE)
    return lines + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def commands(page: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Every ``mmqsa …`` in code: as it stands, its words after mmqsa, and its long options."""
    for line in code(page):
        for part in re.split(r"[|;>#]|&&", line):
            words = part.split()
            starts = (["mmqsa"], ["python", "-m", "mmqsa"])
            start = next((start for start in starts if words[: len(start)] == start), None)
            if start:
                rest = words[len(start) :]
                options = [word.split("=")[0] for word in rest if word.startswith("--")]
                yield part.strip(), rest, options


def all_options(command) -> set[str]:
    """The options of a command and of those below it."""
    below = [all_options(inner) for inner in getattr(command, "commands", {}).values()]
    own = [{*parameter.opts, *parameter.secondary_opts} for parameter in command.params]
    return set[str]().union(*own, *below)


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name}: {target} does not exist"
        assert not anchor or anchor in anchors(linked), f"{page.name}: no heading for {target}"


@each_page
def test_paths_in_code_exist(page):
    for line in code(page):
        for word in re.findall(r"[\w.][\w./*…-]*/[\w./*…-]+", line):
            if word.split("/")[0] in TRACKED and not PLACEHOLDER.search(word):
                places = [ROOT / word, ROOT / "src/mmqsa" / word]
                assert any(map(Path.exists, places)), f"{page.name}: {word} does not exist"


@each_page
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    for line in code(page):
        for target in re.findall(r"(?:^|&& )make ([a-z][\w-]*)", line):
            assert target in targets, f"{page.name}: make {target} is not in the Makefile"


@each_page
def test_commands_and_their_options_exist(page):
    for text, words, options in commands(page):
        command = get_command(app)
        while words and not words[0].startswith("-") and hasattr(command, "commands"):
            assert words[0] in command.commands, f"{page.name}: `{text}`: no command {words[0]}"
            command = command.commands[words.pop(0)]
        known = all_options(command) | {"--help"}
        unknown = set(options) - known
        assert not unknown, f"{page.name}: `{text}`: no option {', '.join(sorted(unknown))}"


@each_page
def test_options_in_the_text_exist(page):
    """An option that stands alone, such as `--split`, is one of mmqsa's, or of Snakemake's."""
    known = all_options(get_command(app)) | SNAKEMAKE_OPTIONS
    for line in code(page):
        if line.startswith("--"):
            assert line.split()[0].split("=")[0] in known, f"{page.name}: no option `{line}`"


@each_page
def test_imports_in_examples_work(page):
    """What a page imports from mmqsa is there."""
    for line in code(page):
        if re.match(r"from mmqsa[\w.]* import ", line):
            (node,) = ast.parse(line).body
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), (
                    f"{page.name}: {node.module} has no {alias.name}"
                )


@each_page
def test_configs_in_examples_hold(page, tmp_path):
    """What a page says to write into a file of one's own is a config on top of config.yaml."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        (tmp_path / "mine.yaml").write_text(block)
        Config.load(ROOT / "config.yaml", ROOT / "config/tables.yaml", tmp_path / "mine.yaml")


def test_readme_is_one_screenful_or_three():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_table_of_where_things_are():
    """CONTRIBUTING.md, "Find your way": every file is there and defines what the table says."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| … .*?\|(.*?)\|(.*?)\|$", text, re.MULTILINE)
    assert len(rows) > 10
    for files, names in rows:
        defined = set()
        for file in re.findall(r"`([^`]+)`", files):
            tree = ast.parse((ROOT / "src/mmqsa" / file).read_text(encoding="utf-8"))
            defined |= {getattr(node, "name", None) for node in tree.body}
        missing = set(re.findall(r"`([^`]+)`", names)) - defined
        assert not missing, f"{files.strip()}: does not define {', '.join(missing)}"
