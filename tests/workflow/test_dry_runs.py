"""What the workflow plans, with nothing downloaded and nothing made."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import gettempdir

import pytest
import yaml
from project import ARGUMENTS, ROOT, copy_project, planned, snakemake

from mmqsa.paths import Paths, beside, label_maps_path
from mmqsa.reporting.plan import read_plan

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the project, as a fresh clone would be."""
    return copy_project(tmp_path_factory.mktemp("clone"))


def test_the_papers_plan_needs_nothing_downloaded(copy):
    jobs = planned(snakemake(copy, "-n"))
    assert jobs["train"] == 10 * 5
    # On val all of them, full and dinosaur on boxes; four of the audit on the released geometry, of
    # which full is in the grid; full and no-masking on 30 corrupted sets and the scenes.
    assert jobs["evaluate"] == (10 + 2 + 1 + 2 * 31) * 5
    assert jobs["extract"] == 2 + 1 + 1 + 30 + 1 and jobs["data"] == 2
    assert jobs["weights"] == 1
    assert jobs["similarity"] == jobs["fusion"] == jobs["sweep"] == 5


def test_a_backbones_file_plans_the_paper_with_nothing_downloaded(copy):
    paths = sorted((ROOT / "config/backbones").glob("*.yaml"))
    plain = [yaml.safe_load(path.read_text()) for path in paths]
    assert [config["results"] for config in plain] == [f"results/{path.stem}" for path in paths]
    done = snakemake(copy, "-n", "--configfile", "config/backbones/dinov3-vits16.yaml")
    assert planned(done) == planned(snakemake(copy, "-n"))


@pytest.mark.parametrize("name, parts", [("voc2007", 0), ("coco20k", 1)])
def test_object_discovery_plans_with_nothing_downloaded(copy, name, parts):
    """Four settings of three seeds, LOST and TokenCut, on squashed photographs and whole ones."""
    done = snakemake(copy, "-n", "--configfile", f"config/{name}.yaml", "--", "tables")
    jobs = planned(done)
    assert jobs["train"] == 4 * 3 and jobs["data"] == 1 and jobs.get("part", 0) == parts
    assert jobs["extract"] == 3 and jobs["evaluate"] == 2 * 4 * 3 and jobs["baseline"] == 2 * 2
    (controls,) = re.findall(r"input: (\S+-native\.h5, .*)\n    output: \S+-controls", done.stdout)
    assert "-squash.h5" in controls  # fixed boxes are fitted to these
    assert jobs["table"] == 4 and "figure" not in jobs and "page" not in jobs


@pytest.mark.parametrize("changes", ['{"weights": "my.pth"}', '{"pretrained": false}'])
def test_no_weights_are_fetched_where_the_config_says_which(copy, changes):
    plain = planned(snakemake(copy, "-n"))
    jobs = planned(snakemake(copy, "-n", "--config", f"backbone={changes}"))
    assert jobs == {name: count for name, count in plain.items() if name != "weights"}


def test_weights_that_somebody_brought_are_not_fetched(copy):
    path = copy / "resources/weights/vit_small_patch16_224.dino.safetensors"
    path.parent.mkdir(parents=True)
    path.touch()
    assert "weights" not in planned(snakemake(copy, "-n"))
    path.unlink()


def test_masks_are_fetched_for_trainaug_alone(copy):
    plain = planned(snakemake(copy, "-n"))
    jobs = planned(snakemake(copy, "-n", "--config", 'dataset={"train_split": "trainaug"}'))
    assert "part" not in plain and jobs == plain | {"part": 1}


@pytest.mark.parametrize("mode, waits", [("default", True), ("remote", False)])
def test_a_job_on_a_node_waits_for_no_process_of_another_machine(copy, mode, waits):
    """sbatch exports the variable to the node, where Snakemake reads the Snakefile again."""
    lines = [
        "import os",
        "include: 'Snakefile'",
        "print('worker:', os.environ.get('MMQSA_WORKER'))",
    ]
    (copy / "probe.smk").write_text("\n".join(lines) + "\n")
    demo = ("-s", "probe.smk", "-n", "--mode", mode, "--configfile", "config/demo.yaml")
    exported = {**os.environ, "MMQSA_WORKER": "/of/the/submitting/machine"}
    (folder,) = re.findall(
        "^worker: (.*)", snakemake(copy, *demo, env=exported).stdout, re.MULTILINE
    )
    assert folder.startswith(f"{gettempdir()}/mmqsa-") if waits else folder == "None"


def test_lint_and_format_are_clean(copy):
    assert "good condition" in snakemake(copy, "--lint").stderr
    done = subprocess.run(
        [sys.executable, "-m", "snakefmt", "--check", ROOT / "Snakefile", ROOT / "workflow"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_values_on_the_command_line(copy):
    """Snakemake reads what is inside of braces as text."""
    demo = ("-n", "--configfile", "config/demo.yaml", "--config")
    assert planned(snakemake(copy, *demo, 'training={"learning_rate": 0.003}', "grid=null"))[
        "train"
    ] == 3 * len(yaml.safe_load((copy / "config.yaml").read_text())["settings"])
    refused = snakemake(copy, *demo, 'training={"learning_rate": -1}', check=False)
    assert refused.returncode and "training.learning_rate" in refused.stdout + refused.stderr


def test_a_setting_with_one_seed_is_trained_once_and_scored_at_its_snapshots(copy, tmp_path):
    path, plain = tmp_path / "long.yaml", planned(snakemake(copy, "-n"))
    path.write_text(yaml.safe_dump(LONG))
    jobs = planned(snakemake(copy, "-n", "--configfile", path))
    assert jobs["train"] == plain["train"] + 1
    assert jobs["snapshots"] == 1 + 5  # of the untrained control as well, to compare with
    assert jobs["figure"] == plain["figure"] + 1


def test_a_setting_on_top_adds_a_row_and_takes_none_away(copy, tmp_path):
    """README's recipe."""
    path = tmp_path / "half.yaml"
    path.write_text(yaml.safe_dump(HALF))
    before = planned(snakemake(copy, "-n"))
    after = planned(snakemake(copy, "-n", "--configfile", str(path)))
    assert after["train"] == before["train"] + 5 and after["table"] == before["table"] + 1
    assert after["evaluate"] == before["evaluate"] + 5


LONG = {
    "settings": {"long": {"seeds": [0], "training": {"steps": 900, "snapshots": [0, 100]}}},
    "grid": {"long": ["long"]},
    "tables": {
        "course": {
            "caption": "The course of a training",
            "kind": "snapshots",
            "settings": ["long", "untrained"],
            "figures": ["snapshots"],
        }
    },
}
HALF = {
    "settings": {"half": {"masking": {"ratio": 0.5}}},
    "grid": {"mine": ["half"]},
    "tables": {"half": {"caption": "Half of the patches hidden", "settings": ["half", "full"]}},
}


@pytest.mark.parametrize(
    "change, said",
    [
        ({"masking": {"ratio": 1.2}}, "masking.ratio.*1.2"),
        ({"slots": {"heds": 4}}, "slots.heds: no such key"),
        ({"grid": ["fulll"]}, "unknown setting 'fulll'"),
        ({"backbone": {"image_size": 300}}, "backbone.image_size: 300 .* use 304"),
    ],
)
def test_a_bad_config_stops_before_any_job(copy, tmp_path, change, said):
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(change))
    done = snakemake(copy, "-n", "--configfile", str(path), check=False)
    assert done.returncode
    assert re.search(said, done.stdout + done.stderr)
    assert "Traceback" not in done.stderr


def test_a_method_of_other_code_makes_what_lists_it_anew_and_nothing_else(tmp_path):
    """Once `mmqsa score` has written it; empty files stand for a finished workflow."""
    folder = copy_project(tmp_path)
    plan = snakemake(folder, "-n", "--summary", *ARGUMENTS).stdout
    rows = [line.split("\t") for line in plan.splitlines() if line.count("\t") == 5][1:]
    now = time.time()
    for name, _, rule, *_ in rows:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if rule == "page" or path.name == "snapshots" else path.touch()
        os.utime(path, (now, now))
    assert planned(snakemake(folder, "-n", *ARGUMENTS)) == {}
    paths = Paths(folder / "results/demo")
    metrics, record = paths.method("scenes-val", "spot"), paths.methods / "spot.yaml"
    for path in (record, metrics, beside(metrics, "per_image"), label_maps_path(metrics)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("name: spot\ntitle: SPOT\n")
    done = snakemake(folder, "-n", *ARGUMENTS)
    assert set(planned(done)) == {"all", "table", "figure", "page"}
    again = set(re.findall(r"output: \S*/tables/([\w-]+)\.csv", done.stdout))
    assert {"summary", "comparisons", "leaderboard", "sizes"} <= again
    assert not again & {"provenance", "compute", "claims"}  # which list no method
    record.write_text("name: other\n")
    done = snakemake(folder, "-n", *ARGUMENTS, check=False)
    assert done.returncode and "spot.yaml: " in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("place, there", [("", []), ("--directory", []), ("", ["config.yaml"])])
def test_from_elsewhere_it_says_which_config_is_not_there(copy, tmp_path, place, there):
    """And both pieces of advice work, in a folder whose name needs quotes."""
    folder = tmp_path / "else where"
    folder.mkdir()
    for name in there:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(copy / name, folder / name)
    arguments = ["-n", "-s", copy / "workflow/Snakefile", "--configfile", copy / "config/demo.yaml"]
    elsewhere = [place, folder] if place else []
    started = tmp_path if place else folder
    refused = snakemake(started, *arguments, *elsewhere, check=False)
    said = refused.stdout + refused.stderr
    (line,) = re.findall(r"^\S.*not in the working directory.*$", said, re.MULTILINE)
    absent = [name for name in ("config.yaml", "config/tables.yaml") if name not in there]
    assert refused.returncode and line.startswith(f"{' and '.join(absent)}: not in the working")
    assert f"{folder}, " in line
    assert planned(snakemake(started, *arguments, "--directory", copy))["train"] == 9
    subprocess.run(line.partition("or copy: ")[2], shell=True, check=True, cwd=started)
    assert planned(snakemake(started, *arguments, *elsewhere))["train"] == 9


def test_a_clone_that_lost_its_tables_says_how_to_restore_them(copy, tmp_path):
    lost = copy / "config/tables.yaml"
    kept = lost.rename(tmp_path / "tables.yaml")
    try:
        done = snakemake(copy, "-n", "--configfile", "config/demo.yaml", check=False)
    finally:
        kept.rename(lost)
    said = done.stdout + done.stderr
    assert done.returncode and "config/tables.yaml: not in the working directory" in said
    assert "checkout -- config/tables.yaml" in said


def test_the_plan_counts_the_images_of_a_folder_of_ones_own(copy, tmp_path):
    """Photographs that are there, in a folder among the sources; GPU-hours for a cluster alone."""
    voc = tmp_path / "my data" / "VOC2012"
    for folder in ("JPEGImages", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    names = [f"im{index}" for index in range(7)]
    for name in names:
        (voc / "JPEGImages" / f"{name}.jpg").touch()
    (voc / "ImageSets/Segmentation/val.txt").write_text("\n".join(names[:2]))
    mine = {"dataset": {"sources": [str(voc.parent)]}, "printed": ["summary"]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    for options, columns in (
        ([], ["CPU-hours"]),
        (["--workflow-profile", ROOT / "profiles/slurm"], ["GPU-hours", "CPU-hours"]),
    ):
        arguments = ["-n", "--configfile", tmp_path / "mine.yaml", *options]
        plan = read_plan(snakemake(copy, *arguments, env=environment).stdout)
        assert [name for name in plan.table() if name.endswith("-hours")] == columns
        assert f"voc2012/all-but-val 5 (counted in {voc})" in plan.images
        assert f"voc2012/val 2 (counted in {voc})" in plan.images
    assert (
        "voc2012/val 1,449 (the official number" in read_plan(snakemake(copy, "-n").stdout).images
    )
