"""The command line: bad input is one line on stderr and exit code 1."""

import subprocess
import sys
import time

import pytest
import yaml

from mmqsa.config.base import dump_yaml, merged
from mmqsa.config.training import RunConfig
from mmqsa.config.workflow import Config


def mmqsa(*arguments, **environment):
    import os

    return subprocess.run(
        [sys.executable, "-m", "mmqsa", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_every_stage_is_a_subcommand():
    started = time.monotonic()
    found = mmqsa("--help")
    assert found.returncode == 0
    for stage in (
        "download",
        "scenes",
        "extract",
        "train",
        "evaluate",
        "sweep",
        "similarity",
        "controls",
        "premise",
        "baseline",
        "agreement",
        "table",
        "figure",
        "discover",
        "export",
    ):
        assert stage in found.stdout
    assert time.monotonic() - started < 20  # torch is not imported for it


@pytest.mark.parametrize(
    "text, said",
    [
        ("masking: {ratio: 1.2}", "masking.ratio"),
        ("slots: {num_heads: 0}", "slots.num_heads"),
        ("sluts: {}", "sluts: no such key"),
    ],
)
def test_bad_settings(tmp_path, caches, text, said):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    found = mmqsa("train", "--features", caches["train"], "--config", path, "--out", tmp_path / "r")
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1 and found.stderr.startswith(f"mmqsa: {path}: ")
    assert said in found.stderr
    assert not (tmp_path / "r").exists()


def test_a_gpu_that_is_not_there(tmp_path, caches):
    command = ["train", "--features", caches["train"], "--out", tmp_path / "r"]
    found = mmqsa(*command, "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    assert found.returncode == 1 and "torch sees no GPU" in found.stderr
    found = mmqsa(*command, CUDA_VISIBLE_DEVICES="", MMQSA_REQUIRE_GPU="1")  # as the rules say it
    assert found.returncode == 1 and "require_gpu: a GPU is required" in found.stderr


def test_stages_run_alone_from_files_to_files(tmp_path, voc_root, settings):
    path = tmp_path / "config.yaml"
    short = {"matching": {"similarity": {"steps": 2}}}
    short["evaluation"] = {"sweep": {"num_slots": [3], "iterations": [1]}}
    quick = Config.model_validate(merged(settings.model_dump(mode="json"), short))
    path.write_text(dump_yaml(quick.model_dump(mode="json")))
    for split in ("train", "val"):
        done = mmqsa(
            "extract",
            "--data",
            voc_root,
            "--split",
            split,
            "--config",
            path,
            "--out",
            tmp_path / f"{split}.h5",
        )
        assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    steps = [
        ("train", "--features", tmp_path / "train.h5", "--config", path, "--out", run),
        ("evaluate", "--run", run, "--features", tmp_path / "val.h5", "--out", run / "metrics"),
        ("similarity", "--run", run, "--features", tmp_path / "train.h5", "--config", path),
        (
            "sweep",
            "--run",
            run,
            "--features",
            tmp_path / "val.h5",
            "--config",
            path,
            "--out",
            run,
        ),
        ("controls", "--features", tmp_path / "val.h5", "--out", tmp_path),
        ("premise", "--features", tmp_path / "val.h5", "--out", tmp_path),
        (
            *("baseline", "--method", "lost", "--features", tmp_path / "val.h5"),
            *("--train", tmp_path / "train.h5", "--config", path, "--out", tmp_path),
        ),
        ("agreement", "--run", run, "--features", tmp_path / "val.h5", "--out", run / "metrics"),
        *(
            (
                *("figure", "gallery", "--kind", kind, "--run", run, "--data", voc_root),
                *("--features", tmp_path / "val.h5", "--out", tmp_path / kind),
                *("--per-image", run / "metrics/scenes-val-per_image.csv"),
            )
            for kind in ("gallery", "heads", "iterations")
        ),
        ("export", "--run", run, "--out", tmp_path / "exported"),
        ("discover", "--run", tmp_path / "exported", voc_root, "--out", tmp_path / "found"),
    ]
    for step in steps:
        done = mmqsa(*step)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1  # each says in one line what it did
    for kind in ("gallery", "heads", "iterations"):
        assert (tmp_path / f"{kind}.png").stat().st_size > 10_000
    written = yaml.safe_load((run / "config.yaml").read_text())
    assert written == RunConfig.load(path).dependencies()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            ("baseline", "--method", "lots", "--train", "x.h5"),
            "baselines.0: unknown baseline 'lots'; expected",
        ),
        (
            ("extract", "--data", ".", "--split", "val", "--variant", "rain3"),
            "unknown corruption 'rain3'",
        ),
        (("discover", "x.jpg", "--run", "nowhere"), "nowhere/config.yaml"),
    ],
)
def test_a_bad_option(tmp_path, arguments, said):
    features = ("--features", "x.h5") if arguments[0] == "baseline" else ()
    found = mmqsa(*arguments, *features, "--out", tmp_path / "out")
    assert found.returncode == 1 and said in found.stderr and found.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_written_to(tmp_path, run_folder):
    (tmp_path / "file").touch()
    found = mmqsa("export", "--run", run_folder, "--out", tmp_path / "file/below")
    assert found.returncode == 1 and found.stderr.count("\n") == 1
    assert found.stderr.startswith(f"mmqsa: {tmp_path}/file")
