"""Names of a package that are imported when they are first used (PEP 562)."""

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def lazily(
    package: str, names: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Module -> the names that ``package`` takes from it: its ``__getattr__`` and ``__dir__``.

    So ``import mmqsa`` takes no time, and a stage that needs no ViT does not load timm. Names and
    modules stand under TYPE_CHECKING as well, for those who read code without running it.

    >>> attribute, _ = lazily("mmqsa", {"math": ["pi", "tau"]})
    >>> attribute("pi")
    3.141592653589793
    """
    home = {name: module for module, of_module in names.items() for name in of_module}

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home[name]), name)

    return __getattr__, lambda: sorted({*vars(sys.modules[package]), *home})
