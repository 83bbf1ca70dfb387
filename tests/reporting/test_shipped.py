"""The tables and figures that ship are those of the metrics that ship, and need little to make."""

import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmqsa.config.workflow import Config
from mmqsa.paths import COMPRESSED, Paths, beside
from mmqsa.reporting.inputs import figure_inputs, table_inputs

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


MEASURED = ("-sweep", "-agreement", "-slots")  # metrics files with no others beside them


def git(*arguments, **options):
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, **options)
    if done.returncode == 128:
        pytest.skip("no checkout of git")
    return {Path(line) for line in done.stdout.splitlines()}


def test_of_single_images_and_objects_what_is_read_ships_and_nothing_else():
    names = ("config.yaml", "config/tables.yaml", "config/voc-subset.yaml")
    config, paths = Config.load(*(ROOT / name for name in names)), Paths(Path("results/voc-subset"))
    read = set()
    for name, table in config.tables.items():
        read.update(table_inputs(config, name, paths))
        read.update(*(figure_inputs(config, name, kind, paths) for kind in table.drawn))
    means = {
        path
        for path in read
        if path.parent.name in ("metrics", "controls")
        and not path.stem.endswith(("-per_image.csv", "-per_object.csv", *MEASURED))
    }
    written = {beside(path, kind) for path in means for kind in COMPRESSED}
    shipped = {path for path in git("ls-files", paths.results) if "-per_" in path.name}
    assert shipped == written & read
    # What another run of the workflow writes beside them stays out of git.
    ignored = git("check-ignore", "--no-index", "--stdin", input="\n".join(map(str, written)))
    assert ignored == written - read


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


def paths_drawn(pdf):
    """Operators and coordinates (pt) of all paths and markers on a figure's page."""
    page = zlib.decompress(re.search(rb"stream\r?\n(.*?)\r?\nendstream", pdf.read_bytes(), re.S)[1])
    drawn = re.findall(rb"^([-\d. ]+) (m|l|c|cm)$", page, re.M)
    return [operator for _, operator in drawn], [
        float(number) for numbers, _ in drawn for number in numbers.split()
    ]


def test_figures_are_the_shipped_ones(made):
    """By the coordinates of what is drawn: a mean over pixels does not see a point that moved."""
    drawn = sorted(path.name for path in (made / "figures").iterdir())
    shipped = sorted(path.name for path in (SHIPPED / "figures").iterdir())
    assert drawn == [name for name in shipped if not name.startswith("showcase")]  # needs images
    for name in drawn:
        one, two = SHIPPED / "figures" / name, made / "figures" / name
        if name.endswith(".pdf"):
            (operators, numbers), (others, again) = paths_drawn(one), paths_drawn(two)
            assert operators == others and len(numbers) > 300, name
            np.testing.assert_allclose(numbers, again, atol=0.2, err_msg=name)
        else:  # a font renderer may differ between machines
            grey, other = (np.asarray(Image.open(path).convert("L"), float) for path in (one, two))
            assert grey.shape == other.shape and np.abs(grey - other).mean() < 0.5, name
