"""The command line: an error is one line, and an exit code that says whose fault it was."""

import errno
import json
import os
import subprocess
import sys

import pytest
import yaml

from mmqsa import __version__
from mmqsa.cli.application import HEADINGS
from mmqsa.cli.entry import main
from mmqsa.config.base import merged
from mmqsa.config.files import dump_yaml
from mmqsa.config.training import RunConfig
from mmqsa.config.workflow import Config
from mmqsa.errors import InputError


def mmqsa(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "mmqsa", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


STAGES = {
    *(
        "init",
        "download",
        "scenes",
        "weights",
        "extract",
        "train",
        "similarity",
        "fusion",
        "evaluate",
    ),
    *("sweep", "agreement", "snapshots", "label-maps", "score"),
    *("controls", "baseline", "premise", "specs", "plan", "table", "leaderboard", "join"),
    *("figure", "page"),
    *("discover", "export"),
}


def test_every_stage_is_a_subcommand_and_none_is_imported_for_the_help():
    code = "import sys, typer; from mmqsa.cli.entry import application\n"
    code += "print(*typer.main.get_command(application.app).commands)\n"
    code += "print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    commands, modules = map(str.split, done.stdout.splitlines())
    assert set(commands) == STAGES
    heavy = {"torch", "timm", "numpy", "pandas", "h5py", "matplotlib", "scipy", "pydantic", "rich"}
    assert not heavy & set(modules)
    shown = mmqsa("--help").stdout
    assert all(f" {stage} " in shown for stage in STAGES)


def test_the_help_lists_each_command_below_a_heading_with_its_whole_sentence():
    shown = " ".join(mmqsa("--help").stdout.split())
    places = [shown.index(f"{heading}: ") for heading in dict.fromkeys(HEADINGS.values())]
    assert places == sorted(places)
    assert "train Train one run on a feature cache; a killed one goes on where it was." in shown
    assert shown.index("Scores:") < shown.index(" evaluate ") < shown.index("Tables, figures")


def test_the_version():
    assert mmqsa("--version").stdout == f"mmqsa {__version__}\n"


def test_the_shell_completes_commands_options_and_choices():
    def completed(words):
        asked = {"_MMQSA_COMPLETE": "complete_bash", "COMP_WORDS": words}
        asked["COMP_CWORD"] = str(len(words.split(" ")) - 1)
        program = "import sys; sys.argv[0] = 'mmqsa'; from mmqsa.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | asked
        )
        return done.stdout.split()

    assert completed("mmqsa tra") == ["train"]
    assert "--require-gpu" in completed("mmqsa train --r")
    assert completed("mmqsa discover --mask-source dec") == ["decoder", "decoder-masks"]


def test_a_plan_for_programs():
    plan = "rule train:\n    resources: gpu=1, expected_seconds=3600, runtime=120, mem_mb=4000\n"
    done = subprocess.run(
        [sys.executable, "-m", "mmqsa", "plan", "--json"],
        input=plan,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = {row["rule"]: row for row in json.loads(done.stdout)}
    assert rows["train"]["GPU-hours"] == rows["total"]["GPU-hours"] == 1


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
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1 and found.stderr.startswith(f"mmqsa: {path}: ")
    assert said in found.stderr
    assert not (tmp_path / "r").exists()


def test_a_gpu_that_is_not_there(tmp_path, caches):
    command = ["train", "--features", caches["train"], "--out", tmp_path / "r"]
    found = mmqsa(*command, "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    assert found.returncode == 2 and "torch sees no GPU" in found.stderr
    found = mmqsa(*command, CUDA_VISIBLE_DEVICES="", MMQSA_REQUIRE_GPU="1")  # as the rules say it
    assert found.returncode == 2 and "require_gpu: a GPU is required" in found.stderr


def test_stages_run_alone_from_files_to_files(tmp_path, voc_root, config, monkeypatch, capsys):
    """In one process: the workflow's tests start one for each."""
    path = tmp_path / "config.yaml"
    short = {"matching": {"similarity": {"steps": 2}, "fusion": {"steps": 2}}}
    short["evaluation"] = {"sweep": {"num_slots": [3], "iterations": [1]}}
    quick = Config.model_validate(merged(config.model_dump(mode="json"), short))
    path.write_text(dump_yaml(quick.model_dump(mode="json")))
    run = tmp_path / "run"
    steps = [
        *(
            (
                *("extract", "--data", voc_root, "--split", split, "--config", path),
                *("--out", tmp_path / f"{split}.h5"),
            )
            for split in ("train", "val")
        ),
        ("train", "--features", tmp_path / "train.h5", "--config", path, "--out", run),
        ("evaluate", "--run", run, "--features", tmp_path / "val.h5", "--out", run / "metrics"),
        ("similarity", "--run", run, "--features", tmp_path / "train.h5", "--config", path),
        ("fusion", "--run", run, "--features", tmp_path / "train.h5", "--config", path),
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
        ("snapshots", "--run", run, "--features", tmp_path / "val.h5", "--out", run / "metrics"),
        ("controls", "--features", tmp_path / "val.h5", "--out", tmp_path),
        (
            *("premise", "--features", tmp_path / "val.h5"),
            *("--train", tmp_path / "train.h5", "--out", tmp_path),
            *("--data", voc_root, "--figure", tmp_path / "premise"),
        ),
        (
            *("baseline", "--method", "lost", "--features", tmp_path / "val.h5"),
            *("--train", tmp_path / "train.h5", "--config", path, "--out", tmp_path),
        ),
        ("agreement", "--run", run, "--features", tmp_path / "val.h5", "--out", run / "metrics"),
        *(
            (
                *("figure", "gallery", "--kind", kind, "--run", run, "--data", voc_root),
                *("--features", tmp_path / "val.h5", "--out", tmp_path / kind),
                *("--per-image", run / "metrics/scenes-val-per_image.csv.gz"),
            )
            for kind in ("gallery", "heads", "iterations")
        ),
        ("export", "--run", run, "--out", tmp_path / "exported"),
        ("discover", "--run", tmp_path / "exported", voc_root, "--out", tmp_path / "found"),
    ]
    for step in steps:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr(sys, "argv", ["mmqsa", *map(str, step)])
            main()
        printed = capsys.readouterr()
        assert not ended.value.code, printed.err
        assert printed.out.count("\n") == 1  # each says in one line what it did
    for kind in ("gallery", "heads", "iterations", "premise"):
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
        (("discover", "x.jpg", "--run", "x", "--num-slots", "0"), "'--num-slots': Input should"),
        (("scenes", "--aut", "x"), "No such option: --aut"),
    ],
)
def test_a_bad_option(tmp_path, arguments, said):
    features = ("--features", "x.h5") if arguments[0] == "baseline" else ()
    found = mmqsa(*arguments, *features, "--out", tmp_path / "out")
    assert found.returncode == 2 and said in found.stderr and found.stderr.count("\n") == 1


def test_an_option_without_its_value():
    found = mmqsa("scenes", "--out")
    said = "mmqsa: Option '--out' requires an argument. (see `mmqsa COMMAND --help`)\n"
    assert (found.returncode, found.stderr) == (2, said)


def test_a_folder_that_cannot_be_written_to(tmp_path, run_folder):
    (tmp_path / "file").touch()
    found = mmqsa("export", "--run", run_folder, "--out", tmp_path / "file/below")
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert found.stderr.startswith(f"mmqsa: {tmp_path}/file")


@pytest.mark.parametrize(
    "error, code, line",
    [
        (InputError("x.h5: damaged;\n delete it"), 2, "mmqsa: x.h5: damaged; delete it"),
        (OSError(errno.ENOENT, "No such file", "x.h5"), 2, "mmqsa: x.h5: No such file"),
        (OSError(errno.ENAMETOOLONG, "Too long", "x.h5"), 2, "mmqsa: x.h5: Too long"),
        (OSError(errno.ELOOP, "Too many links", "x.h5"), 2, "mmqsa: x.h5: Too many links"),
        (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "no"), 2, "mmqsa: 'a\\udcff': a name that"),
        (OSError(errno.ENOSPC, "No space left", "x.h5"), 74, "mmqsa: x.h5: No space left"),
        (MemoryError(), 74, "mmqsa: the machine has no more memory"),
        (
            KeyError("slots"),
            70,
            "mmqsa: a fault of mmqsa itself: KeyError: 'slots' (`mmqsa --debug",
        ),
    ],
)
def test_whatever_ends_a_command_is_one_line_and_a_code_of_its_own(
    error, code, line, monkeypatch, capsys
):
    def fails(*_):
        raise error

    monkeypatch.setattr("mmqsa.config.workflow.Config.load", fails)
    monkeypatch.setenv("MMQSA_DEBUG", "")  # which --debug sets
    command = ["specs", "config.yaml", "--out", "out"]
    monkeypatch.setattr(sys, "argv", ["mmqsa", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr().err
    assert ended.value.code == code
    assert printed.startswith(line) and printed.count("\n") == 1
    monkeypatch.setattr(sys, "argv", ["mmqsa", "--debug", *command])
    with pytest.raises(type(error)):
        main()


@pytest.mark.faults
@pytest.mark.parametrize(
    "command",
    [
        ("train", "--features", "x.h5"),
        ("evaluate", "--run", "run", "--features", "x.h5"),
        ("scenes",),
        ("specs", "config.yaml"),
    ],
)
def test_a_file_in_the_place_of_a_folder_is_refused_at_once(tmp_path, command):
    path = tmp_path / "file"
    path.write_text("mine")
    found = mmqsa(*command, "--out", path)
    assert found.returncode == 2 and found.stderr == f"mmqsa: --out {path}: a file; name a folder\n"
    assert path.read_text() == "mine"


@pytest.mark.faults
def test_a_folder_of_any_name(tmp_path):
    """One that is no UTF-8 is printed all the same; too long a one, or a circle, is bad input."""
    (tmp_path / "s.yaml").write_text("dataset: {scenes: {train: 1, val: 1, side: 32}}")
    (tmp_path / "circle").symlink_to("circle")
    names = {os.fsdecode(b"\xff"): 0, "a" * 300: 2, "circle": 2}
    for name, code in names.items():
        found = mmqsa("scenes", "--config", tmp_path / "s.yaml", "--out", tmp_path / name)
        assert found.returncode == code and (code == 0 or found.stderr.count("\n") == 1)
    assert (tmp_path / os.fsdecode(b"\xff") / "VOC2012").is_dir()
    assert (tmp_path / "circle").is_symlink()


@pytest.mark.faults
def test_specs_are_not_written_over_other_files(tmp_path):
    (tmp_path / "config.yaml").write_text("tables: {config: {caption: Mine}}\n")
    found = mmqsa("specs", tmp_path / "config.yaml", "--out", tmp_path)
    assert found.returncode == 2 and f"{tmp_path / 'config.yaml'}: " in found.stderr
    assert (tmp_path / "config.yaml").read_text() == "tables: {config: {caption: Mine}}\n"


@pytest.mark.faults
def test_a_spec_whose_name_is_a_path_writes_nowhere(tmp_path):
    spec = {"name": "../../outside", "table": {"caption": "x"}}
    (tmp_path / "spec.yaml").write_text(dump_yaml(spec))
    (tmp_path / "a/b").mkdir(parents=True)
    found = mmqsa("table", tmp_path / "spec.yaml", "--results", tmp_path / "a/b")
    assert found.returncode == 2 and "spec.yaml: name: " in found.stderr
