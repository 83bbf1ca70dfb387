"""Writes quickstart.ipynb: the cells of quickstart.py, executed, with their outputs.

    python examples/build_notebook.py

The script is what is edited. A test compares the two.
"""

import re
import tempfile
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

HERE = Path(__file__).parent
SCRIPT, NOTEBOOK = HERE / "quickstart.py", HERE / "quickstart.ipynb"


def notebook_of(script: str) -> NotebookNode:
    """A script in percent format -> the notebook of its cells, without outputs."""
    cells: list[NotebookNode] = []
    for part in re.split(r"^# %%", script, flags=re.MULTILINE)[1:]:
        kind, _, source = part.partition("\n")
        source, name = source.strip("\n"), f"cell-{len(cells)}"
        if kind == " [markdown]":
            text = re.sub(r"^# ?", "", source, flags=re.MULTILINE)
            cells.append(new_markdown_cell(text, id=name))
        else:
            cells.append(new_code_cell(source, id=name))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def executed(notebook: NotebookNode, folder: str | Path) -> NotebookNode:
    """The notebook with the outputs of a run in ``folder``.

    Without standard error, where progress is shown; pictures are JPEG, a quarter of the size.
    Raises CellExecutionError where a cell fails.
    """
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, record_timing=False, resources=resources).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
            for output in cell.outputs:
                if picture := output.get("data", {}).pop("image/png", None):
                    output.data["image/jpeg"] = jpeg(picture)
    return notebook


def jpeg(png: str) -> str:
    """A picture in base64, as JPEG."""
    compressed = BytesIO()
    image = Image.open(BytesIO(b64decode(png))).convert("RGB")
    image.save(compressed, "JPEG", quality=85, optimize=True)
    return b64encode(compressed.getvalue()).decode()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(notebook_of(SCRIPT.read_text("utf-8")), folder), NOTEBOOK)
