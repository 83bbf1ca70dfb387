"""The tables and figures that ship are those of the metrics that ship, and need little to make."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "results/voc-subset"
HEAVY = [
    *("torch", "torchvision", "timm", "h5py", "sklearn", "safetensors", "requests", "pycocotools"),
]
# What `make tables` does, where none of the heavy packages can be imported.
MAKE = f"""
import sys
class Absent:
    def find_spec(self, name, *others):
        if name.split(".")[0] in {HEAVY}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from mmqsa.cli import application
root, results = sys.argv[1:]
specs = results + "/config/tables"
def run(*arguments):
    application.app([*arguments], standalone_mode=False)
files = [root + "/config.yaml", root + "/config/tables.yaml", root + "/config/voc-subset.yaml"]
run("specs", *files, "--out", specs)
from pathlib import Path
files = sorted(map(str, Path(specs).glob("*.yaml")))
run("table", *files, "--results", results)
run("figure", "metrics", *files, "--results", results)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The shipped metrics, and what is made of them anew."""
    results = tmp_path_factory.mktemp("shipped") / "results"
    shutil.copytree(SHIPPED, results, ignore=shutil.ignore_patterns("tables", "figures", "config"))
    done = subprocess.run(
        [sys.executable, "-c", MAKE, ROOT, results], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return results


def test_tables_are_the_shipped_bytes(made):
    shipped = [path for path in sorted((SHIPPED / "tables").iterdir()) if path.suffix != ".html"]
    again = [path for path in sorted((made / "tables").iterdir()) if path.suffix != ".html"]
    assert [path.name for path in shipped] == [path.name for path in again] and len(shipped) > 30
    for one, two in zip(shipped, again, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name


def test_figures_look_as_shipped(made):
    """Bytes where text is drawn alike; a font renderer may differ between machines."""
    drawn = sorted((SHIPPED / "figures").glob("*.png"))
    shipped = [path for path in drawn if not path.name.startswith("showcase")]  # needs images
    assert [path.name for path in shipped] == sorted(
        path.name for path in (made / "figures").glob("*.png")
    )
    for path in shipped:
        one, two = (
            np.asarray(Image.open(own).convert("L"), dtype=float)
            for own in (path, made / "figures" / path.name)
        )
        assert one.shape == two.shape and np.abs(one - two).mean() < 0.5, path.name
