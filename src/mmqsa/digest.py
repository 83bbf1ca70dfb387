"""What the code of a stage means, as a digest: it changes when the stage would, and only then.

A stage's modules are those that its entry point imports, directly or not. Of each module the
syntax tree counts, without what changes no output: comments, docstrings, annotations of functions,
the text of errors, lists of public names. The versions of other packages do not count.
"""

import ast
from functools import cache
from hashlib import sha256
from pathlib import Path

SOURCE = Path(__file__).parent
PACKAGE = SOURCE.name


def code_digest(entry: str) -> str:
    """Of a stage's code: ``entry`` is MODULE or MODULE:FUNCTION, of this package.

    With a function, its body and imports count, and of its module only the names that it uses.
    """
    module, _, function = entry.partition(":")
    tree = _tree(module)
    if function:
        tree = ast.Module(_used(tree, function), [])
    modules = sorted(_closure(tree) - {module})
    texts = [_text(tree), *(_text(_tree(name)) for name in modules)]
    return sha256("\n".join(texts).encode()).hexdigest()[:12]


def _closure(tree: ast.Module) -> set[str]:
    """The modules of this package that a tree imports, directly or not."""
    reached, waiting = set[str](), set(_imports(tree))
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= _imports(_tree(name)) - reached
    return reached


@cache
def _imports(tree: ast.Module) -> frozenset[str]:
    """The modules of this package that a tree names, at the top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{node.module}: relative import"
            # A name of a package is a module of it, or something that its __init__ gives.
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if _exists(inner) else node.module)
    # The package itself holds its version, and what its users import lazily.
    return frozenset(name for name in names if name != PACKAGE and _exists(name))


def _used(tree: ast.Module, function: str) -> list[ast.stmt]:
    """The definition of ``function`` and the top-level statements whose names it needs."""
    defined = {name: node for node in tree.body for name in _defined(node)}
    entry = defined[function]
    if isinstance(entry, ast.FunctionDef):
        entry.decorator_list = []  # of a command: how it is called, not what it does
    needed: set[int] = set()
    waiting = [function]
    while waiting:
        node = defined.get(waiting.pop())
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            waiting += _free_names(node)
    return [node for node in tree.body if id(node) in needed]


def _free_names(node: ast.stmt) -> set[str]:
    """The names that a statement takes from its module."""
    names = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    local: set[str] = set()
    if isinstance(node, ast.FunctionDef):
        local = {inner.arg for inner in ast.walk(node.args) if isinstance(inner, ast.arg)}
        local |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
        local |= {name for inner in node.body for name in _defined(inner)}
    return {name.id for name in names} - local


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    return [
        inner.id
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
    ]


class _Meaning(ast.NodeTransformer):
    """Takes away what changes no output: bare strings, annotations of functions, text of errors,
    and ``__all__``, since nothing here imports ``*``."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        bare = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if bare else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return None if names == ["__all__"] else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        node.returns = None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(called, None)


@cache
def _tree(module: str) -> ast.Module:
    return _Meaning().visit(ast.parse(_file(module).read_text(encoding="utf-8")))


_text = cache(ast.unparse)


def _file(module: str) -> Path:
    parts = module.split(".")[1:]
    folder = SOURCE.joinpath(*parts)
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def _exists(module: str) -> bool:
    return module.split(".")[0] == PACKAGE and _file(module).is_file()
