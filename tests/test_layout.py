"""The rooms of src/mmqsa: who imports whom, as CONTRIBUTING.md draws it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/mmqsa"
# From low to high. A room imports only from rooms of earlier lines; "ground" is config and all
# modules that lie in no folder.
LEVELS = (
    ("ground",),
    ("data", "model", "reporting"),
    ("features",),
    ("training",),
    ("evaluation",),
    ("discover", "page"),
    ("cli",),
    ("workflow",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

Graph = dict[tuple[str, str], list[str]]
"""(importing room, imported room) -> the imports, as FILE:LINE MODULE"""


def room_of_module(module: str) -> str:
    """The room of ``mmqsa.PART…``."""
    part = module.split(".")[1] if "." in module else ""
    in_folder = (SOURCE / part).is_dir() and part not in ("", "config")
    return part if in_folder else "ground"


def room_of_file(path: Path) -> str:
    """The room of a Python file of the package."""
    # What starts the command line, and what gives users a name of any room when they ask for it.
    if path.name == "__main__.py" or path == SOURCE / "__init__.py":
        return "cli"
    return room_of_module(".".join(("mmqsa", *path.relative_to(SOURCE).with_suffix("").parts)))


def imports_of(path: Path) -> list[tuple[int, str]]:
    """Line and module of every import of this package in a Python file, in functions as well."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "mmqsa":
            found += [(node.lineno, f"mmqsa.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.lineno, node.module))
    return [(line, module) for line, module in found if module.split(".")[0] == "mmqsa"]


def calls_of(path: Path) -> list[tuple[int, str]]:
    """The same of a file of rules: its imports, and the entry points that its jobs call."""
    pattern = re.compile(r"""(?:^from |^import |code\(")(mmqsa(?:\.\w+)*)""")
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    return [(number, match[1]) for number, line in lines if (match := pattern.search(line.strip()))]


def room_imports() -> Graph:
    """Every import from one room into another."""
    graph: Graph = {}
    sources = [(path, room_of_file(path), imports_of(path)) for path in SOURCE.rglob("*.py")]
    rules = [ROOT / "workflow/Snakefile", *ROOT.glob("workflow/rules/*.smk")]
    sources += [(path, "workflow", calls_of(path)) for path in rules]
    for path, room, imports in sources:
        for line, module in imports:
            target = room_of_module(module)
            if target != room:
                where = f"{path.relative_to(ROOT)}:{line} {module}"
                graph.setdefault((room, target), []).append(where)
    return graph


def without_shortcuts(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The transitive reduction: an edge goes where another path leads to the same room."""

    def reached(start: str, edges: set[tuple[str, str]]) -> set[str]:
        rooms, waiting = set[str](), [start]
        while waiting:
            room = waiting.pop()
            after = {target for source, target in edges if source == room} - rooms
            rooms |= after
            waiting += after
        return rooms

    return {edge for edge in edges if edge[1] not in reached(edge[0], edges - {edge})}


def diagram() -> tuple[set[str], set[tuple[str, str]]]:
    """Rooms and arrows of the Mermaid diagram in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    rooms = set(re.findall(r"^ *(\w+)\[", block, re.MULTILINE))
    return rooms, set(re.findall(r"^ *(\w+) --> (\w+) *$", block, re.MULTILINE))


def test_shortcuts_are_left_out():
    chain = {("a", "b"), ("b", "c")}
    assert without_shortcuts(chain | {("a", "c")}) == chain
    assert without_shortcuts(chain | {("a", "d"), ("b", "d")}) == chain | {("b", "d")}


def test_the_diagram_shows_the_imports():
    rooms, drawn = diagram()
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")} - {"config"}
    assert rooms == set(LEVEL) == folders | {"ground", "workflow"}
    real = without_shortcuts(set(room_imports()))
    changes = [f"add     {source} --> {target}" for source, target in sorted(real - drawn)]
    changes += [f"remove  {source} --> {target}" for source, target in sorted(drawn - real)]
    assert not changes, "in the diagram of CONTRIBUTING.md:\n" + "\n".join(changes)


def test_a_lower_room_imports_no_higher_one():
    upward = [
        f"{source} imports {target}: {', '.join(imports)}"
        for (source, target), imports in sorted(room_imports().items())
        if LEVEL[target] >= LEVEL[source]
    ]
    assert not upward, "move what is shared to a lower room:\n" + "\n".join(upward)


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("__init__.py")), ids=lambda path: path.parent.name
)
def test_a_package_holds_docstring_imports_and_all(path):
    """The digest of a stage follows imports file by file: code here would be in every digest."""
    names = {"__all__"} | ({"__version__"} if path.parent == SOURCE else set())
    docstring, *others = ast.parse(path.read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)
    if others and isinstance(others[-1], ast.If):  # imports for type checkers, else lazy ones
        typed, others = others[-1], others[:-1]
        assert ast.unparse(typed.test) == "TYPE_CHECKING"
        lazy, assigned = typed.orelse
        others += [*typed.body, lazy]
        assert isinstance(assigned, ast.Assign) and isinstance(assigned.value, ast.Call)
        assert ast.unparse(assigned.value.func) == "lazily"
    for node in others:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        named = isinstance(target, ast.Name) and target.id in names
        assert named or isinstance(node, ast.Import | ast.ImportFrom), (
            f"{path.relative_to(ROOT)}:{node.lineno}: move this to a module and import it here"
        )
