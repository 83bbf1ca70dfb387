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

from mmqsa.config.evaluation import BASELINES
from mmqsa.config.tables import METRICS
from mmqsa.config.workflow import Config
from mmqsa.page.summary import page_table
from mmqsa.paths import COMPRESSED, Paths, beside
from mmqsa.reporting.inputs import figure_inputs, figures, table_inputs
from mmqsa.reporting.results import load_spec

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


RANKED = ("metrics", "leaderboard")
SEES_NO_LABELS = ["controls", *(name for name, kind in BASELINES.items() if kind == "method")]


def specs(made, name):
    return [load_spec(path) for path in sorted((made / name / "config/tables").glob("*.yaml"))]


def everything(folder, image_set):
    """The mean of all that is scored on an image set and sees no labels, listed or not."""
    tables = [
        pd.read_csv(path).assign(name=path.parts[-4])
        for path in folder.glob(f"runs/*/seed*/metrics/{image_set}.csv")
    ]
    files = [Paths(folder).reference(image_set, method) for method in SEES_NO_LABELS]
    tables += [pd.read_csv(path) for path in files if path.is_file()]
    keys = ["name", "matching", "mask_source", "protocol", "metric"]
    return pd.concat(tables).groupby(keys, dropna=False)["value"].mean().reset_index()


def bold_cells(folder, name):
    """Label, heading and number of every bold cell of a printed table."""
    table = page_table(Paths(folder), name, [])
    for row in table.rows:
        for heading, cell in zip(table.heading, row, strict=True):
            if cell.bold:
                yield row[0].text, heading, float(re.match(r"[\d.]+", cell.text)[0])


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_bold_is_the_best_of_all_that_is_scored_on_its_images(made, name):
    """Also of what the table does not list, by the same protocol, matchings and mask sources."""
    headings = {heading: metric for metric, heading in METRICS.items()}
    folder, found = ROOT / "results" / name, 0
    ranked = [spec for spec in specs(made, name) if spec.table.kind in RANKED]
    for spec in ranked:
        tidy = pd.read_csv(folder / f"tables/{spec.name}.csv").dropna(subset="mean")
        for label, heading, value in bold_cells(folder, spec.name):
            own = tidy[(tidy["label"] == label) & (tidy["metric"] == headings[heading])].iloc[0]
            row = own.get("row", "")
            (images,) = spec.images[row if isinstance(row, str) else ""]
            scored = everything(folder, images)
            pair = [own["protocol"], own["metric"]]
            scored = scored[(scored[["protocol", "metric"]] == pair).all(axis=1)]
            alike = scored["matching"].isin(spec.table.matchings)
            alike &= scored["mask_source"].isin(spec.table.mask_sources)
            scored = scored[alike | scored["matching"].isna()]
            best = scored.loc[scored["value"].idxmax()]
            assert value >= best["value"] - 0.06, (spec.name, label, heading, best["name"])
            found += 1
    assert found or not ranked


def test_what_is_bold_in_a_table_of_strata_is_its_best():
    folder = ROOT / "results/voc-vits14"
    tidy = pd.read_csv(folder / "tables/sizes.csv").query("kind != 'supervised'")
    cells = list(bold_cells(folder, "sizes"))
    for _, heading, value in cells:
        stratum = tidy[tidy["stratum"] == heading.rpartition(" (")[0]]
        assert value >= stratum["mean"].max() - 0.06, heading
    assert len(cells) == 8


def test_what_is_bold_in_a_joined_table_is_the_best_of_all_that_it_joins():
    joined = page_table(Paths(ROOT / "results/backbones"), "summary", [])
    apart = [page_table(Paths(ROOT / "results" / name), "summary", []) for name in JOINED]
    rows = [row for table in apart for row in table.rows]
    for place, heading in enumerate(joined.heading[1:]):
        bold = [row[place + 1].text for row in joined.rows if row[place + 1].bold]
        best = [row[place].text for row in rows if row[place].bold]
        assert bold == [text for text in best if text == max(best)], heading


@pytest.mark.parametrize("name", SHIPPED)
def test_a_setting_has_one_name_in_all_tables(made, name):
    """And no other setting has it; a name that says \"the paper\" is of masking by the mean."""
    names, scores = {}, {}
    for spec in specs(made, name):
        names_here = {setting: spec.label(setting) for setting in spec.table.settings}
        for setting, label in names_here.items():
            assert names.setdefault(setting, label) == label, (spec.name, setting)
        scores |= spec.scores
        tidy = pd.read_csv(ROOT / "results" / name / f"tables/{spec.name}.csv")
        if {"setting", "label"} <= set(tidy) and len(names_here) > 1:
            of_settings = tidy.dropna(subset="setting")
            for setting, label in set(of_settings[["setting", "label"]].itertuples(index=False)):
                assert f"{label}, ".startswith(f"{names[setting]}, "), (spec.name, label)
    assert len(set(names.values())) == len(names)
    assert all(scores[one] == "mean" for one, label in names.items() if "the paper" in label)


def test_claims_that_name_the_paper_are_of_masking_by_the_mean():
    """What is masked by another score says so in its row, and whose claim it is like."""
    paths = [ROOT / "results" / name / "tables/claims.csv" for name in SHIPPED]
    assert sum(path.exists() for path in paths) > 1
    for path in filter(Path.exists, paths):
        table = pd.read_csv(path, keep_default_na=False)
        papers = table[table["source"].str.contains("^(?:Table |summary)")]
        assert set(papers["masking"]) <= {"", "mean (the paper)"}, path
        assert table["masking"].str.contains("ours").any()


def test_numbers_in_the_readme_are_those_that_ship():
    """Its table has two metrics of each backbone, of the rows of its summary.

    Of the methods without training, and of the controls, each cell has the best and its name. What
    is bold there is bold here.
    """
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^\| .*mBO\^c.*\n\|[-:|]+\n((?:\|.*\n)+)", readme, re.MULTILINE)[1]
    rows = [row.strip("|").split("|")[1:] for row in table.splitlines()]
    expected = []
    for name in JOINED:
        printed = page_table(Paths(ROOT / "results" / name), "summary", [])
        tidy = pd.read_csv(ROOT / f"results/{name}/tables/summary.csv")
        for metric in ("miou_with_background", "mbo_c"):
            place = printed.heading.index(METRICS[metric])
            bold = [row[place].text for row in printed.rows if row[place].bold]
            of_metric = tidy[(tidy["metric"] == metric) & (tidy["protocol"] == "paper")]
            cells = []
            for kind, of_kind in of_metric.groupby("kind", sort=False):
                for entry in of_kind.to_dict("records"):
                    text = f"{entry['mean']:.1f}"
                    text += "" if pd.isna(entry["sd"]) else f" ± {entry['sd']:.1f}"
                    text = f"**{text}**" if text in bold else text
                    if kind in ("setting", "supervised"):
                        cells.append(text)
                    elif entry["mean"] == of_kind["mean"].max():
                        cells.append(f"{text} ({re.split('[,(]', entry['label'])[0].strip()})")
            expected.append(cells)
    assert [[cell.strip() for cell in column] for column in zip(*rows, strict=True)] == expected
