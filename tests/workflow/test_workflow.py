"""The workflow end to end, and what re-runs when something changes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
import yaml
from project import ARGUMENTS, HANDFUL, copy_project, finish, planned, snakemake, start

from mmqsa.config.choices import MatchingName
from mmqsa.config.training import RunConfig
from mmqsa.reporting.plan import read_plan

pytestmark = pytest.mark.workflow


# Folders of results and data whose names are a command, quotes, a space and a wildcard.
NAME = "a b'$(touch x)\"{y}"
RESULTS, DATA = f"results {NAME}", f"data {NAME}"


def carried(folder: Path) -> str:
    """The link that stands for the folder of results: a brace in a path is a wildcard."""
    target = str((folder / RESULTS).resolve())
    return f".snakemake/folders/{sha256(target.encode()).hexdigest()[:12]}"


def copy_hostile(folder: Path) -> Path:
    """A copy of the project, with such folders for its results and data."""
    places = {"results": RESULTS, "dataset": {**HANDFUL["dataset"], "root": DATA}}
    copy_project(folder)
    (folder / "handful.yaml").write_text(yaml.safe_dump(HANDFUL | places))
    return folder


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, list[str]]:
    """The demo's chain on a handful of scenes: the finished folder, and Snakemake's arguments."""
    folder = copy_hostile(tmp_path_factory.mktemp("clone") / NAME.partition("{")[0])
    snakemake(folder, *ARGUMENTS)
    return folder, ARGUMENTS


def test_the_chain_ends_in_tables_and_figures(demo):
    folder, _ = demo
    results = folder / RESULTS
    for table in ("headline", "matching", "heads", "masking"):
        frame = pd.read_csv(results / "tables" / f"{table}.csv")
        assert {"setting", "method", "supervised", "control"} <= set(frame["kind"])
        own = frame[frame["kind"] == "setting"]
        assert (own["n_seeds"] == 2).all() and own[["mean", "sd"]].notna().all(axis=None)
        assert (results / "tables" / f"{table}.md").read_text().count("±") > 3
    assert set(own["mask_source"]) == {"decoder", "attention"}
    tables = {path.stem: pd.read_csv(path) for path in (results / "tables").glob("*.csv")}
    assert set(tables["matching"]["matching"].dropna()) == {
        *get_args(MatchingName),
    }
    assert set(tables["audit"]["protocol"]) == {"paper", "dinosaur", "spot", "released"}
    assert set(tables["boxes"].query("kind != 'published'")["protocol"]) == {"boxes"}
    course = tables["course"].groupby("setting")["images_seen"].unique().map(list).to_dict()
    assert course == {"full": [0, 40, 80], "untrained": [4]}
    assert set(tables["shift"]["row"]) == {"clean", "fog"}
    assert set(tables["sizes"]["labels"]) == {"class", "instance"}
    for name in ("sweep", "comparisons"):
        assert len(tables[name]) and tables[name].iloc[:, 0].notna().all()
    drawn = {path.stem for path in (results / "figures").glob("*.png")}
    assert drawn == {
        *("showcase-gallery", "showcase-heads", "showcase-iterations", "showcase-premise"),
        "leaderboard-forest",
        "summary-controls",  # and no heads-curve: of one number of heads it would be a point
        *("masking-controls", "masking-training", "sizes-strata", "shift-severity"),
        *("diagnosis-similarity", "course-snapshots", "sweep-sweep"),
    }
    for figure in drawn:
        assert (results / "figures" / f"{figure}.png").stat().st_size > 5000
    assert set(tables["diagnosis"]["detected"]) <= {"yes", "no", "not measured"}
    assert (
        tables["diagnosis"]
        .set_index("sign")
        .loc["slots collapsed", "detected"]
        .isin(["yes", "no"])
        .all()
    )
    assert len(tables["provenance"]) == 3 * 2
    resolved = yaml.safe_load((results / "runs/no-masking/seed1/config.yaml").read_text())
    assert resolved["masking"]["strategy"] == "none"
    # What the run depended on, and nothing else.
    assert set(resolved) == set(RunConfig.depends_on) and "root" not in resolved["dataset"]


def test_the_chain_ends_in_a_page(demo):
    page = demo[0] / RESULTS / "page"
    assert "Background masking" in (page / "index.html").read_text()
    catalogue = (page / "data/catalogue.js").read_text().strip()
    catalogue = json.loads(catalogue.removeprefix("mmqsa.receive(").removesuffix(")"))
    methods = {method["id"]: method for method in catalogue["methods"]}
    assert [*methods] == [
        *("full", "no-masking", "untrained"),
        *("controls", "kmeans", "lost", "oracle"),
    ]
    assert {view["matching"] for view in methods["full"]["views"]} == {*get_args(MatchingName)}
    assert len(catalogue["images"]) == len(list((page / "photographs").iterdir())) == 6


@pytest.mark.faults
def test_folders_whose_names_are_commands_and_wildcards(demo, tmp_path):
    """The demo ran in such folders; of the workflow's own, only a brace is refused."""
    folder, _ = demo
    assert (folder / RESULTS / "tables/matching.md").is_file()
    assert (folder / DATA / "receipt.json").is_file()
    assert not [path for path in folder.parent.rglob("x") if path.is_file()]
    braced = copy_project(tmp_path / NAME)
    refused = snakemake(braced, "-n", *ARGUMENTS, check=False)
    assert refused.returncode
    assert f"{braced}: a folder with a brace" in refused.stdout + refused.stderr


def test_nothing_is_left_to_do_and_touching_changes_nothing(demo):
    folder, arguments = demo
    assert planned(snakemake(folder, "-n", *arguments)) == {}
    for path in (
        *folder.glob("src/mmqsa/**/*.py"),
        folder / "config.yaml",
        folder / RESULTS / "features/scenes/train.h5",
    ):
        path.touch()
    assert planned(snakemake(folder, "-n", *arguments)) == {}


# Jobs of the whole chain that take long, each with how many of it there are.
EVERYTHING = {
    **{"data": 1, "extract": 5, "train": 6, "similarity": 2, "fusion": 2},
    **{"evaluate": 12, "sweep": 2, "baseline": 5, "controls": 2, "premise": 1},
}
HEAVY = list(EVERYTHING)
AFTER_DATA = {name: EVERYTHING[name] for name in HEAVY[1:]}


@pytest.mark.parametrize(
    "change, expected",
    [
        # One setting: its own two seeds, and the tables and figures that show them.
        ({"settings": {"no-masking": {"slots": {"iterations": 2}}}}, {"train": 2, "evaluate": 2}),
        # Under one evaluation seed more: every score of a run, on whatever images.
        (
            {"evaluation": {"seeds": [0, 1]}},
            {"evaluate": 12, "sweep": 2, "baseline": 5, "controls": 2},
        ),
        ({"evaluation": {"cut_segments": [3]}}, {"baseline": 5}),
        ({"matching": {"similarity": {"steps": 3}}}, {"similarity": 2, "evaluate": 2}),
        ({"matching": {"fusion": {"hidden_dim": 3}}}, {"fusion": 2, "evaluate": 2}),
        ({"matching": {"alike": 0.4}}, {"evaluate": 12, "sweep": 2}),
        ({"tables": {"masking": {"caption": "Other"}}}, {"table": 1}),
        # Not the untrained control, which has a learning rate of its own.
        (
            {"training": {"learning_rate": 0.003}},
            {"train": 4, "similarity": 2, "fusion": 2, "evaluate": 10, "sweep": 2},
        ),
        # Where the data came from and how many pass at once change no number of a run.
        ({"dataset": {"sources": ["/elsewhere"]}}, {}),
        ({"backbone": {"batch_size": 4}}, {}),
        ({"scheduling": {"margin": 9}}, {}),
        # Other photographs: everything that was made of them.
        ({"dataset": {"scenes": {"seed": 1}}}, EVERYTHING),
        ({"backbone": {"feature": "query"}}, AFTER_DATA),
        ({"device": "auto"}, {}),
    ],
)
def test_a_change_re_runs_only_what_depends_on_it(demo, tmp_path, change, expected):
    folder, arguments = demo
    path = tmp_path / "change.yaml"
    path.write_text(yaml.safe_dump(change))
    jobs = planned(snakemake(folder, "-n", *arguments, str(path)))
    found = {name: jobs[name] for name in HEAVY if name in jobs}
    assert found == {name: count for name, count in expected.items() if name in HEAVY}
    if "table" in expected:
        assert jobs["table"] == expected["table"]
    if not expected:
        assert jobs == {}


@pytest.mark.parametrize(
    "file, old, new, expected",
    [
        # A change of meaning re-runs the stages that import the module, and what follows them.
        ("features/cache_writer.py", '"f2"', '"f4"', AFTER_DATA),
        ("data/scenes.py", "MAX_AREA = 0.03, 0.5", "MAX_AREA = 0.03, 0.6", EVERYTHING),
        (
            "features/standardise.py",
            "clamp_min(1e-12)",
            "clamp_min(1e-6)",
            {"train": 6, "similarity": 2, "fusion": 2, "evaluate": 12, "sweep": 2, "baseline": 5},
        ),
        (
            "evaluation/metrics.py",
            "box_ious > 0.5",
            "box_ious > 0.4",
            {"evaluate": 12, "sweep": 2, "baseline": 5, "controls": 2, "premise": 1},
        ),
        (
            "model/decoder.py",
            "POSITION_SCALE = 0.7",
            "POSITION_SCALE = 0.5",
            {"train": 6, "similarity": 2, "fusion": 2, "evaluate": 12, "sweep": 2},
        ),
        # Words, and code that no job runs, re-run nothing.
        ("model/decoder.py", '"""Spatial-broadcast', '"""A spatial-broadcast', {}),
        ("features/cache_writer.py", "import errno", "import errno  # of the operating system", {}),
        ("training/loop.py", "is not finite at step", "is no finite number at step", {}),
        ("model/matching.py", '__all__ = ["align", ', "__all__ = [", {}),
        ("cli/pipeline.py", 'help="Of weights', 'help="For weights', {}),
        ("reporting/plan.py", "3600", "3601", {}),
    ],
)
def test_an_edit_re_runs_what_it_means(demo, file, old, new, expected):
    folder, arguments = demo
    path = folder / "src/mmqsa" / file
    text = path.read_text()
    assert old in text
    try:
        path.write_text(text.replace(old, new))
        jobs = planned(snakemake(folder, "-n", *arguments))
    finally:
        path.write_text(text)
    assert {name: jobs[name] for name in HEAVY if name in jobs} == expected
    if not expected:
        assert jobs == {}


def test_another_workflow_takes_this_one_as_a_module(demo, tmp_path):
    """From another folder, with a rule of its own on top."""
    folder, _ = demo
    configs = [folder / name for name in ("config.yaml", "config/tables.yaml")]
    changes = [folder / name for name in ("config/demo.yaml", "handful.yaml")]
    lines = [f"configfile: {str(path)!r}" for path in configs]
    lines += [
        f"module mmqsa:\n    snakefile: {str(folder / 'workflow/Snakefile')!r}\n    config: config"
    ]
    lines += ["use rule * from mmqsa as mmqsa_*"]
    rule = "rule mine:\n    default_target: True\n    input: rules.mmqsa_tables.input\n"
    rule += '    output: "mine.txt"\n    shell: "ls {input:q} > {output}"'
    (tmp_path / "Snakefile").write_text("\n".join([*lines, rule, ""]))
    arguments = ["--cores", "2", "--configfile", *changes]
    jobs = planned(snakemake(tmp_path, "-n", *arguments))
    assert jobs["mine"] == 1 and jobs["mmqsa_train"] == 6
    for made in (RESULTS, DATA):
        shutil.copytree(folder / made, tmp_path / made, dirs_exist_ok=True)
    assert planned(snakemake(tmp_path, "-n", *arguments)) == {"mine": 1}
    made = "controls/scenes-val-controls.csv"
    (tmp_path / RESULTS / made).unlink()
    target = f"{carried(tmp_path)}/{made}"
    snakemake(tmp_path, *arguments, "--allowed-rules", "mmqsa_controls", "--", target)
    assert (tmp_path / target).read_bytes() == (folder / RESULTS / made).read_bytes()


def test_the_report_opens_offline(demo):
    folder, arguments = demo
    snakemake(folder, *arguments, "--report", "report.html")
    page = (folder / "report.html").read_text()
    for name in ("masking.html", "claims.html", "showcase-heads.png", "masking-controls.png"):
        assert name in page
    text = page.replace("\\n", " ")
    assert "20 steps of 4 images" in text  # captions quote the run's settings
    assert "The masks of every image are in the page" in text and "<caption>In brief" in text
    loaded = re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["']?(https?://[^"'> ]+)""", page)
    assert not loaded


def test_what_changed_upstream_does_not_hide_what_is_missing(demo, tmp_path):
    """Snakemake looks at nothing below a changed job, but follows inputs that are not ancient."""
    folder, arguments = demo
    table, away = folder / RESULTS / "tables/masking.csv", tmp_path / "masking.csv"
    table.rename(away)
    try:
        path = tmp_path / "change.yaml"
        path.write_text(yaml.safe_dump({"dataset": {"scenes": {"seed": 1}}}))
        jobs = planned(snakemake(folder, "-n", *arguments, str(path)))
        assert jobs["table"] == jobs["all"] + 18
    finally:
        away.rename(table)


def test_a_plan_says_what_it_will_take(demo):
    folder, arguments = demo
    done = snakemake(folder, "-n", "-F", *arguments)
    table = read_plan(done.stdout).table().set_index("rule")
    assert table["jobs"].drop("total").to_dict() == planned(done)
    assert table.loc["train", "CPU-hours"] > 0 and "GPU-hours" not in table


def test_tables_from_results_without_features_or_weights(demo, tmp_path):
    """What ships is enough: the config and the metrics."""
    folder, _ = demo
    shipped = tmp_path / "results"
    shutil.copytree(
        folder / RESULTS,
        shipped,
        ignore=shutil.ignore_patterns(
            "*.h5", "*.safetensors", "tables", "figures", "logs", "config"
        ),
    )
    subprocess.run(
        [
            sys.executable,
            "-m",
            "mmqsa",
            "specs",
            folder / "config.yaml",
            folder / "config/tables.yaml",
            folder / "config/demo.yaml",
            folder / "handful.yaml",
            "--out",
            shipped / "config/tables",
        ],
        check=True,
        capture_output=True,
    )
    specs = sorted((shipped / "config/tables").glob("*.yaml"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "mmqsa",
            "table",
            *specs,
            "--results",
            shipped,
        ],
        check=True,
        capture_output=True,
    )
    for spec in specs:
        for suffix in ("csv", "md", "tex"):
            name = f"tables/{spec.stem}.{suffix}"
            assert (shipped / name).read_bytes() == (folder / RESULTS / name).read_bytes()


@pytest.mark.faults
def test_snakemake_and_all_its_jobs(demo, tmp_path):
    """The demo's chain was not killed; this one is, twice, in the middle of a job."""
    whole, arguments = demo
    folder = copy_hostile(tmp_path / "project")
    run = Path(RESULTS, "runs/full/seed0")
    target = f"{carried(folder)}/runs/full/seed0/metrics/scenes-val.csv"
    for made in (Path(DATA, "VOC2012"), run):
        process = start(folder, *arguments, "--", target)
        deadline = time.monotonic() + 120
        while not (folder / made).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGKILL)  # Snakemake, its shells and their stages
        process.communicate()
        assert process.returncode == -signal.SIGKILL and not (folder / target).exists()
        locked = snakemake(folder, *arguments, "--", target, check=False)
        assert "--unlock" in locked.stdout + locked.stderr
        snakemake(folder, *arguments, "--unlock")
    finish(start(folder, *arguments, "--", target))
    scores = [pd.read_csv(place / run / "metrics/scenes-val.csv") for place in (folder, whole)]
    pd.testing.assert_frame_equal(*scores)
    weights = run / "model.safetensors"
    assert (folder / weights).read_bytes() == (whole / weights).read_bytes()


@pytest.mark.faults
def test_results_from_the_future_are_not_made_again(demo):
    """All that a fast clock made looks newer than what came after it was set right."""
    folder, arguments = demo
    runs, later = folder / RESULTS, time.time() + 86_400
    found = [
        path
        for kind in ("*.h5", "*.json", "*.safetensors", "*/config.yaml")
        for path in runs.rglob(kind)
    ]
    before = {path: path.stat() for path in found}
    try:
        for path in found:
            os.utime(path, (later, later))
        assert planned(snakemake(folder, "-n", *arguments)) == {}
    finally:
        for path, stat in before.items():
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
