"""The tables and figures that ship are those of the metrics that ship, and need little to make."""

import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmqsa.config.workflow import Config
from mmqsa.paths import COMPRESSED, Paths, beside
from mmqsa.reporting.inputs import figure_inputs, figures, table_inputs

ROOT = Path(__file__).parents[2]
MAKEFILE = dict(re.findall(r"^(\w+) := (voc.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
SHIPPED, JOINED = MAKEFILE["SHIPPED"].split(), MAKEFILE["JOINED"].split()
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
from pathlib import Path
root, results, *names = sys.argv[1:]
def run(*arguments):
    application.app([*map(str, arguments)], standalone_mode=False)
for name in names:
    folder = Path(results, name)
    files = [f"{{root}}/{{file}}.yaml" for file in ("config", "config/tables", "config/" + name)]
    run("specs", *files, "--out", folder / "config/tables")
    specs = sorted(folder.glob("config/tables/*.yaml"))
    run("table", *specs, "--results", folder)
    run("figure", "metrics", *specs, "--results", folder)
specs = [Path(results, name, "config/tables/summary.yaml") for name in {JOINED}]
run("join", *specs, "--out", Path(results, "backbones"))
"""


MEASURED = ("-sweep", "-snapshots", "-agreement", "-slots")  # with no others beside them


def git(*arguments, **options):
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, **options)
    if done.returncode == 128:
        pytest.skip("no checkout of git")
    return {Path(line) for line in done.stdout.splitlines()}


@pytest.mark.parametrize("name", SHIPPED)
def test_of_single_images_and_objects_what_is_read_ships_and_nothing_else(name):
    files = ("config.yaml", "config/tables.yaml", f"config/{name}.yaml")
    config, paths = Config.load(*(ROOT / file for file in files)), Paths(Path("results", name))
    read = set()
    for name, table in config.tables.items():
        read.update(table_inputs(config, name, paths))
        read.update(*(figure_inputs(config, name, kind, paths) for kind in figures(config, table)))
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
    for name in SHIPPED:
        ignore = shutil.ignore_patterns("tables", "figures", "config")
        shutil.copytree(ROOT / "results" / name, results / name, ignore=ignore)
    arguments = [sys.executable, "-c", MAKE, ROOT, results, *SHIPPED]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return results


@pytest.mark.parametrize(
    "name, files",
    [
        ("voc-subset", 27),
        ("voc-vits14", 57),
        ("voc-vits14-trials", 3),
        ("voc-vits14-blocks", 3),
        ("voc-vits14-long", 3),
        ("voc-vits14-methods", 30),
        ("voc-vits14-layers", 9),
        ("backbones", 6),
    ],
)
def test_tables_are_the_shipped_bytes(made, name, files):
    shipped, again = (
        [path for path in sorted((folder / name / "tables").iterdir()) if path.suffix != ".html"]
        for folder in (ROOT / "results", made)
    )
    assert [path.name for path in shipped] == [path.name for path in again]
    assert len(shipped) == files
    for one, two in zip(shipped, again, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name


def paths_drawn(pdf):
    """Operators and coordinates (pt) of all paths and markers on a figure's page."""
    page = zlib.decompress(re.search(rb"stream\r?\n(.*?)\r?\nendstream", pdf.read_bytes(), re.S)[1])
    drawn = re.findall(rb"^([-\d. ]+) (m|l|c|cm)$", page, re.M)
    return [operator for _, operator in drawn], [
        float(number) for numbers, _ in drawn for number in numbers.split()
    ]


@pytest.mark.parametrize("folder", [*SHIPPED, "backbones"])
def test_figures_are_the_shipped_ones(made, folder):
    """By the coordinates of what is drawn: a mean over pixels does not see a point that moved."""
    here, there = ROOT / "results" / folder / "figures", made / folder / "figures"
    drawn = sorted(path.name for path in there.iterdir())
    shipped = sorted(path.name for path in here.iterdir())
    assert drawn == [name for name in shipped if not name.startswith("showcase")]  # needs images
    for name in drawn:
        one, two = here / name, there / name
        if name.endswith(".pdf"):
            (operators, numbers), (others, again) = paths_drawn(one), paths_drawn(two)
            assert operators == others and len(numbers) > 300, name
            np.testing.assert_allclose(numbers, again, atol=0.2, err_msg=name)
        else:  # a font renderer may differ between machines
            grey, other = (np.asarray(Image.open(path).convert("L"), float) for path in (one, two))
            assert grey.shape == other.shape and np.abs(grey - other).mean() < 0.5, name


def test_numbers_in_the_readme_are_those_that_ship():
    """Its table has the rows of the joined summary, and two metrics of each backbone."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^\| .*mBO\^c.*\n\|[-:|]+\n((?:\|.*\n)+)", readme, re.MULTILINE)[1]
    printed = [re.findall(r"\d+\.\d(?: ± \d+\.\d)?", row) for row in table.splitlines()]
    joined = pd.read_csv(ROOT / "results/backbones/tables/summary.csv").query("protocol == 'paper'")
    expected = [[] for _ in printed]
    for _, block in joined.groupby("features", sort=False):
        for cells, (_, row) in zip(expected, block.groupby("label", sort=False), strict=True):
            for metric in ("miou_with_background", "mbo_c"):
                mean, sd = row.set_index("metric").loc[metric, ["mean", "sd"]]
                cells.append(f"{mean:.1f}" + (f" ± {sd:.1f}" if pd.notna(sd) else ""))
    assert printed == expected
