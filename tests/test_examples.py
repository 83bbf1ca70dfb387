"""examples/: the script and the notebook are one, and both run."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPT, NOTEBOOK = EXAMPLES / "quickstart.py", EXAMPLES / "quickstart.ipynb"
PICTURES = {"scenes.png", "objects.png", "comparison.png"}
MAX_BYTES = 300_000

build = runpy.run_path(str(EXAMPLES / "build_notebook.py"))


@pytest.fixture(scope="module")
def stored():
    return nbformat.read(NOTEBOOK, as_version=4)


def printed(cells) -> str:
    return "".join(
        output.text for cell in cells for output in cell.get("outputs", []) if "text" in output
    )


def pictures(cells) -> int:
    """How many pictures the cells show."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return sum("image/jpeg" in output.get("data", {}) for output in outputs)


def test_the_notebook_is_the_script(stored):
    made = build["notebook_of"](SCRIPT.read_text(encoding="utf-8"))
    cells = [[(cell.cell_type, cell.source) for cell in one.cells] for one in (made, stored)]
    assert cells[0] == cells[1], "run `python examples/build_notebook.py`"


def test_the_notebook_is_stored_with_small_outputs(stored):
    assert pictures(stored.cells) == len(PICTURES)
    assert "k-means" in printed(stored.cells)
    assert NOTEBOOK.stat().st_size < MAX_BYTES


def test_the_notebook_runs(stored, tmp_path):
    cells = build["executed"](stored, tmp_path).cells
    assert pictures(cells) == len(PICTURES)
    assert {path.name for path in (tmp_path / "quickstart").glob("*.png")} == PICTURES
    scores = {
        line[:13].strip(): float(line.split()[-1])
        for line in printed(cells).splitlines()
        if line.startswith(("slots", "k-means", "centre square"))
    }
    assert scores["centre square"] < min(scores["slots"], scores["k-means"]) < 100


def test_the_script_runs(tmp_path):
    environment = os.environ | {"MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "quickstart").glob("*.png")} == PICTURES
    assert "slots" in done.stdout and "centre square" in done.stdout
