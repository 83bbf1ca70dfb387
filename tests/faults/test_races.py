"""Two processes at once: one works, the other says so in a line, and nothing is mixed or lost."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stages import ENVIRONMENT, killed, mmqsa, refused, write_config

from mmqsa.data.voc import VocFolder
from mmqsa.features.cache import FeatureCache
from mmqsa.training.loop import train
from mmqsa.training.run import Run

pytestmark = pytest.mark.faults
# Runs commands in processes that begin at the same moment, once all that they import is loaded.
STARTER = """
import json, os, sys
from mmqsa.cli import main
from mmqsa.cli.waiting import STAGES
for name in STAGES:
    __import__(name)
for line in sys.stdin:
    ready, go = os.pipe()
    processes = []
    for number, command in enumerate(json.loads(line)):
        process = os.fork()
        if not process:
            os.close(go)
            os.read(ready, 1)  # until the other end is closed
            with open(f"{sys.argv[1]}.{number}", "wb") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            sys.argv[1:] = command
            main()
        processes.append(process)
    os.close(ready)
    os.close(go)
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    print(json.dumps(codes), flush=True)
"""
# The command waits for a line on its standard input when it comes to a call, MODULE:NAME.
PAUSES = """
import sys
from importlib import import_module
module, name = sys.argv.pop(1).split(":")
module = import_module(module)
real = getattr(module, name)
def paused(*arguments, **options):
    print("there", flush=True)
    sys.stdin.readline()
    return real(*arguments, **options)
setattr(module, name, paused)
from mmqsa.cli import main
main()
"""
BUSY = "another process is at work on it; wait for it, or name another"


@pytest.fixture(scope="module")
def race(tmp_path_factory) -> Iterator[Callable[..., tuple[int, str]]]:
    """``race(one, other)``: which of two commands worked, and the line of the one that did not.

    With ``both`` they both work.
    """
    words = tmp_path_factory.mktemp("race") / "words"
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, words],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:

        def run(*commands: list, both: bool = False) -> tuple[int, str]:
            starter.stdin.write(json.dumps([list(map(str, command)) for command in commands]))
            starter.stdin.write("\n")
            starter.stdin.flush()
            codes = json.loads(starter.stdout.readline())
            said = [Path(f"{words}.{number}").read_text() for number in range(2)]
            assert sorted(codes) == [0, 0 if both else 2], said
            return codes.index(0), said[codes.index(max(codes))].strip().splitlines()[-1]

        yield run
        starter.stdin.close()


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, the hidden ones as well, by their place in it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def scoring(tmp_path_factory, voc_root) -> list[list]:
    """Two commands that score different predictions of one name, but for --results."""
    folder, commands = tmp_path_factory.mktemp("predictions"), []
    for kind in ("one", "other"):
        (folder / kind).mkdir()
        for image_id in (voc := VocFolder.find(voc_root)).ids("val"):
            width, height = voc.image(image_id).size
            labels = np.zeros((height, width), np.uint8)
            labels[:, width // 2 :] = kind == "one"
            labels[height // 2 :] += 2 * (kind == "other")
            Image.fromarray(labels).save(folder / kind / f"{image_id}.png")
        command = ["score", "--predictions", folder / kind, "--name", "own", "--data", voc_root]
        commands.append([*command, "--no-controls"])
    return commands


@pytest.fixture(scope="module")
def alone(tmp_path_factory, scoring) -> list[dict[str, bytes]]:
    """What each of the two writes alone."""
    folder, found = tmp_path_factory.mktemp("alone"), []
    for number, command in enumerate(scoring):
        done = mmqsa(*command, "--results", folder / str(number))
        assert not done.returncode, done.stderr
        found.append(contents(folder / str(number)))
    assert len(found[0]) == 5 and found[0].keys() == found[1].keys() and found[0] != found[1]
    return found


@pytest.fixture(scope="module")
def training(tmp_path_factory, config, caches) -> list[list]:
    """Two trainings of different seeds, but for --out."""
    short = {"steps": 6, "log_every": 3, "checkpoint_seconds": 0.001}
    file = write_config(tmp_path_factory.mktemp("train") / "c.yaml", config, training=short)
    command = ["train", "--features", caches["train"], "--config", file]
    return [[*command, "--seed", seed] for seed in (0, 1)]


def test_two_scores_of_one_name(race, tmp_path, scoring, alone):
    for number in range(6):
        results = tmp_path / str(number)
        first, line = race(*([*command, "--results", results] for command in scoring))
        assert contents(results) == alone[first]
        assert BUSY in line or "has scores of other predictions" in line


def test_two_methods_and_their_controls(race, tmp_path, scoring):
    """One scores the controls, the other waits for them."""
    results, command = tmp_path / "results", scoring[0][:-1]
    options = [["--results", results], ["--results", results, "--name", "mine"]]
    race(*([*command, *one] for one in options), both=True)
    both = contents(results)
    assert len(both) == 2 * 5 + 3 and not mmqsa(*command, *options[0]).returncode
    assert contents(results) == both


def test_two_trainings_into_one_new_folder(race, tmp_path, training):
    for number in range(4):
        out = tmp_path / str(number) / "run"
        first, line = race(*([*command, "--out", out] for command in training))
        assert BUSY in line or "holds a finished run with seed = " in line
        assert Run.load(out).provenance["seed"] == first
        assert os.listdir(out.parent) == ["run"] and not list(out.rglob(".*"))


def test_two_evaluations_into_one_folder(race, tmp_path, config, caches, run_folder):
    shorter = config.changed("test", {"training": {"steps": 3, "schedule": {"warmup_steps": 1}}})
    file = write_config(tmp_path / "c.yaml", config, matching={"strategies": ["hungarian"]})
    runs = [run_folder, tmp_path / "other"]
    train(FeatureCache(caches["train"]), shorter, 0, runs[1], torch.device("cpu"))
    command = ["--features", caches["val"], "--config", file, "--out"]
    for stage, files in (("evaluate", 3), ("agreement", 2), ("sweep", 1)):
        found = []
        for number, run in enumerate(runs):
            out = tmp_path / stage / str(number)
            options = command[:2] + command[-1:] if stage == "agreement" else command
            assert not mmqsa(stage, "--run", run, *options, out).returncode
            found.append(contents(out))
        out = tmp_path / stage / "both"
        first, line = race(*([stage, "--run", run, *options, out] for run in runs))
        assert contents(out) == found[first] and len(found[first]) == files
        assert BUSY in line or "exists and was made otherwise" in line


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize(("count", "when"), [(1, "before"), (3, "after"), (5, "after")])
def test_a_killed_score_leaves_none_or_all_after_the_next(
    tmp_path, scoring, alone, count, when, after
):
    """Its files get their names one by one, the means last."""
    command = [*scoring[after], "--results", tmp_path]
    killed("os:link", count, when, *scoring[0], "--results", tmp_path)
    done = mmqsa(*command)
    if count == 5 and after:  # all was there
        assert "has scores of other predictions" in refused(done)
        assert contents(tmp_path) == alone[0]
    else:
        assert not done.returncode, done.stderr
        assert contents(tmp_path) == alone[after]


@pytest.mark.parametrize("end", ["go on", "kill"])
def test_a_run_that_is_being_trained(tmp_path, training, caches, end):
    """Others are refused until it has ended; one that was killed keeps nobody out."""
    out = tmp_path / "run"
    command = [*training[0], "--out", out]
    first = subprocess.Popen(
        [sys.executable, "-c", PAUSES, "mmqsa.training.loop:_save", *map(str, command)],
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
        env=ENVIRONMENT,
        text=True,
    )
    assert first.stdout.readline() == "there\n"
    before = contents(tmp_path)
    for command in (
        [*training[1], "--out", out],
        [*training[0], "--out", out, "--overwrite"],
        ["agreement", "--run", out, "--features", caches["val"], "--out", out / "metrics"],
        ["export", "--run", out, "--out", tmp_path / "exported"],
    ):
        assert f"{out}: {BUSY}" in refused(mmqsa(*command))
        assert contents(tmp_path) == before
    if end == "kill":
        first.send_signal(signal.SIGKILL)
        first.communicate()
    else:
        _, errors = first.communicate("go\n" * 99)
        assert not first.returncode, errors
        assert Run.load(out).provenance["seed"] == 0
        assert "holds a finished run with seed = 0" in refused(mmqsa(*training[1], "--out", out))
    done = mmqsa(*training[1], "--out", out, "--overwrite")
    assert not done.returncode, done.stderr
    assert Run.load(out).provenance["seed"] == 1 and os.listdir(tmp_path) == ["run"]
