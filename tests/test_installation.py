"""tools/environment and its targets of the Makefile, among stand-ins of Python, uv and a driver."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PINS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
)
SUFFIX = "+cpu" if platform.machine() == "x86_64" else ""
CPU = f"--no-deps torch=={PINS['torch']}+cpu torchvision=={PINS['torchvision']}{SUFFIX}"
INDEX = "--index-url https://download.pytorch.org/whl/cpu"
ALL = "-c constraints.txt -e .[workflow]"
PYPI = f"{ALL} torch==={PINS['torch']} torchvision==={PINS['torchvision']}"

PYTHON = """#!/bin/sh
case "$*" in
*--dry-run*) echo "$* within $PIP_DEFAULT_TIMEOUT s" >> "$CALLS" ;;
-m*) echo "$*" >> "$CALLS" ;;
esac
case "$*" in
"-m venv --clear "*) rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
*"${FAILS:-nothing}"*) exit 1 ;;
esac
"""
UV = """#!/bin/sh
echo "uv $*${UV_HTTP_TIMEOUT:+ within $UV_HTTP_TIMEOUT s}" >> "$CALLS"
if [ "$1" = venv ]; then
    mkdir -p .venv/bin && cp "$(dirname "$0")/python3" .venv/bin/python
fi
"""


class Machine:
    """A checkout, and a PATH of stand-ins and of what the script needs besides."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.bin, self.log = folder / "mmqsa", folder / "bin", folder / "calls"
        self.bin.mkdir()
        (self.checkout / "tools").mkdir(parents=True)
        shutil.copy(ROOT / "tools/environment", self.checkout / "tools")
        shutil.copy(ROOT / "constraints.txt", self.checkout)
        for name in ("cat", "cp", "dirname", "grep", "ls", "mkdir", "rm", "sed", "uname"):
            (self.bin / name).symlink_to(shutil.which(name) or name)
        self.has("python3", PYTHON)
        self.has("ldconfig")

    def has(self, name: str, script: str = "#!/bin/sh\n") -> None:
        """Puts a program on the PATH."""
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def install(self, code: int = 0, **variables: str) -> tuple[list[str], str]:
        """The calls, and what the user reads."""
        self.log.write_text("")
        done = subprocess.run(
            [self.checkout / "tools/environment", ".venv", "workflow"],
            env={"PATH": str(self.bin), "CALLS": str(self.log), **variables},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        calls = self.log.read_text().splitlines()
        return [call.removeprefix("-m pip install --quiet ") for call in calls], done.stderr

    @property
    def build(self) -> str:
        """Which torch the environment is said to have."""
        return (self.checkout / ".venv/build").read_text().strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("name", ["nvidia-smi", "sbatch", "ldconfig"])
def test_cuda_where_there_may_be_a_gpu(machine, name):
    machine.has(name, "#!/bin/sh\necho libcuda.so.1\n")
    calls, said = machine.install()
    assert calls == ["-m venv --clear .venv", PYPI]
    assert machine.build == "cuda" and "TORCH=cpu make environment" in said


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has a driver")
def test_cpu_where_there_is_no_driver(machine):
    calls, said = machine.install()
    assert calls == [
        "-m venv --clear .venv",
        f"--dry-run {CPU} {INDEX} within 5 s",
        f"{CPU} {INDEX}",
        ALL,
    ]
    assert machine.build == "cpu" and said.count("\n") == 1
    assert "no NVIDIA driver" in said and "TORCH=cuda make environment" in said


def test_without_the_index_pypi_is_enough(machine):
    calls, said = machine.install(TORCH="cpu", FAILS="--index-url")
    assert calls == ["-m venv --clear .venv", f"--dry-run {CPU} {INDEX} within 5 s", PYPI]
    assert said.startswith(f"environment: {INDEX.split()[1]} cannot be reached")
    assert said.count("\n") == 1


def test_a_folder_of_wheels(machine):
    wheels = machine.checkout / "wheels"
    wheels.mkdir()
    calls, said = machine.install(TORCH="cpu", TORCH_INDEX=str(wheels))
    assert f"{CPU} --no-index --find-links {wheels}" in calls
    assert said == ""


def test_uv_where_it_is(machine):
    machine.has("uv", UV)
    calls, _ = machine.install(TORCH="cpu")
    pip = "uv pip install --quiet --python .venv/bin/python"
    assert calls == [
        "uv venv --quiet --clear --seed --python >=3.11,<3.14 .venv",
        f"{pip} --dry-run {CPU} {INDEX} within 5 s",
        f"{pip} {CPU} {INDEX}",
        f"{pip} {ALL}",
    ]
    calls, _ = machine.install(TORCH="cuda", UV="")
    assert calls == ["-m venv --clear .venv", PYPI]


def test_another_build_starts_anew_and_the_same_does_not(machine):
    machine.install(TORCH="cpu")
    installed = f".venv/lib/python3.11/site-packages/torch-{PINS['torch']}+cpu.dist-info"
    (machine.checkout / installed).mkdir(parents=True)
    machine.has("nvidia-smi")
    assert machine.install() == ([ALL], "")  # what the folder has counts, and torch is there
    assert machine.install(TORCH="cuda")[0] == ["-m venv --clear .venv", PYPI]
    assert machine.build == "cuda"


def test_an_environment_from_before_there_was_a_choice_is_kept(machine):
    machine.install(TORCH="cuda")
    (machine.checkout / ".venv/build").rename(machine.checkout / ".venv/ready")
    assert machine.install() == ([PYPI], "") and machine.build == "cuda"


def test_other_systems_have_no_cuda(machine):
    machine.has("uname", "#!/bin/sh\necho Darwin\n")
    assert machine.install() == (["-m venv --clear .venv", PYPI], "")


def test_other_processors(machine):
    machine.has("uname", '#!/bin/sh\n[ "$1" = -m ] && echo aarch64 || echo Linux\n')
    calls, _ = machine.install(TORCH="cpu")
    assert f"{CPU.removesuffix('+cpu')} {INDEX}" in calls


@pytest.mark.parametrize(
    ("fails", "says"),
    [("(3, 11)", "3.11 or newer"), ("import torchvision", "not built for this torch")],
)
def test_what_is_no_environment_is_not_ready(machine, fails, says):
    _, said = machine.install(1, TORCH="cuda", FAILS=fails)
    assert says in said
    assert not (machine.checkout / ".venv/build").exists()


def test_torch_is_cpu_or_cuda(machine):
    assert machine.install(2, TORCH="gpu") == (
        [],
        "environment: TORCH=gpu is neither cpu nor cuda\n",
    )


def planned(folder: Path, target: str, torch: str = "") -> list[str]:
    """Which extras `make TARGET` would install into the folder."""
    command = ["make", "--dry-run", "--no-print-directory", f"VENV={folder}", target]
    outer = ("TORCH", "MAKEFLAGS")  # of the make that runs the tests
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    if torch:
        environment["TORCH"] = torch
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return [words[2] for words in lines if words[:1] == ["tools/environment"]]


def test_make_installs_what_a_target_needs(tmp_path):
    both = ["workflow", "workflow,test,docs"]
    assert planned(tmp_path, "demo") == planned(tmp_path, "environment") == ["workflow"]
    for target in ("develop", "test", "lint", "docs"):
        assert planned(tmp_path, target) == both, target
    for name in ("ready", "develop"):
        (tmp_path / name).touch()
    (tmp_path / "build").write_text("cpu\n")
    assert planned(tmp_path, "test") == planned(tmp_path, "test", "cpu") == []
    assert planned(tmp_path, "test", "cuda") == both
