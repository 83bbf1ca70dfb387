"""Docstrings as Markdown: examples and aligned columns become code, names in backticks stay."""

import re

from griffe import Extension, Object

EXAMPLE = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.DOTALL | re.MULTILINE)


class Examples(Extension):
    """Fences every example of a docstring, which Markdown would take for a quotation."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        """Change one docstring."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
