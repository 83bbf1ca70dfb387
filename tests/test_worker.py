import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmqsa import worker
from mmqsa.cli import waiting as waiting_module
from mmqsa.config.files import dump_yaml
from mmqsa.paths import WEIGHTS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the worker is for Linux")

MMQSA = [sys.executable, "-m", "mmqsa"]
# The waiting process, without the imports that make it worth while.
WAITING = "import mmqsa.cli.waiting as waiting; waiting.STAGES = (); waiting.main()"


def until(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never comes true"
        time.sleep(0.02)


def children_of(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def copies_of(waiting: subprocess.Popen) -> list[str]:
    return children_of(waiting.pid)


def waiting_at(path: Path) -> list[str]:
    """The numbers of the waiting processes of a socket."""
    found = subprocess.run(["pgrep", "-f", f"waiting {path}"], capture_output=True, text=True)
    return found.stdout.split()


@pytest.fixture
def owner() -> Iterator[subprocess.Popen]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture
def folder(tmp_path, owner) -> Path:
    path = tmp_path / f"mmqsa-{owner.pid}-00"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def waiting(folder, owner) -> Iterator[subprocess.Popen]:
    path = worker.socket_of(folder)
    command = [sys.executable, "-c", WAITING, str(path), str(owner.pid)]
    with subprocess.Popen(command) as process:
        until(path.exists)
        yield process
        process.kill()


@pytest.fixture
def handed_over(folder, waiting) -> dict[str, str]:
    """The environment of a command that the waiting process shall run."""
    return os.environ | {worker.FOLDER: str(folder)}


def run(arguments: list[str], environment: dict[str, str], **options) -> tuple[int, str, str]:
    done = subprocess.run(
        [*MMQSA, *arguments], env=environment, capture_output=True, text=True, **options
    )
    return done.returncode, done.stdout, done.stderr


def test_a_command_reads_writes_and_ends_as_it_does_alone(handed_over, tmp_path):
    alone, copied = tmp_path / "alone", tmp_path / "copied"
    for place, environment in ((alone, dict(os.environ)), (copied, handed_over)):
        place.mkdir()
        place.joinpath("result").write_text(
            repr(
                [
                    run(["plan"], environment, input="no plan", cwd=place),
                    run(["init", "."], environment | {"COLUMNS": "70"}, cwd=place, umask=0o027),
                    run(["train", "--sed", "1"], environment),
                    run(["train", "--help"], environment | {"COLUMNS": "60"}),
                ]
            )
        )
    assert copied.joinpath("result").read_text() == alone.joinpath("result").read_text()
    files = [
        {str(path.relative_to(place)): path.stat().st_mode for path in place.rglob("*")}
        for place in (alone, copied)
    ]
    assert len(files[0]) > 5
    assert files[0] == files[1]


def test_a_training_in_a_copy_has_the_bits_of_one_alone(handed_over, caches, config, tmp_path):
    settings = tmp_path / "config.yaml"
    settings.write_text(dump_yaml(config.model_dump(mode="json")))
    command = ["train", "--features", str(caches["train"]), "--config", str(settings)]
    for name, environment in (("alone", dict(os.environ)), ("copied", handed_over)):
        code, _, errors = run([*command, "--out", str(tmp_path / name)], environment)
        assert code == 0, errors
    weights = [(tmp_path / name / WEIGHTS).read_bytes() for name in ("alone", "copied")]
    assert weights[0] == weights[1]


def test_it_runs_in_a_copy(handed_over, waiting):
    with subprocess.Popen([*MMQSA, "plan"], env=handed_over, stdin=subprocess.PIPE) as asking:
        until(lambda: copies_of(waiting))
        asking.communicate(b"")
    assert asking.returncode == 2
    until(lambda: not copies_of(waiting))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_reaches_the_command(handed_over, waiting, number):
    with subprocess.Popen([*MMQSA, "plan"], env=handed_over, stdin=subprocess.PIPE) as asking:
        until(lambda: copies_of(waiting))
        time.sleep(0.3)  # it has told its number
        asking.send_signal(number)
        until(lambda: not copies_of(waiting))
        asking.wait(30)
    assert asking.returncode == (-9 if number == signal.SIGKILL else 143)


def test_a_waiting_process_ends_with_its_owner(waiting, owner, folder):
    assert waiting.poll() is None
    owner.kill()
    owner.wait()
    assert waiting.wait(30) == 0
    assert not folder.exists()


@pytest.mark.faults
def test_it_removes_its_own_files_alone(waiting, owner, folder):
    """At its end, and at that of the process that the folder is for."""
    (folder / "photographs").mkdir()
    others = {folder / "photographs", folder / "notes.txt", folder / "0123456789ab.txt"}
    for path in others - {folder / "photographs"}:
        path.write_text("mine")
    owner.kill()
    owner.wait()
    assert waiting.wait(30) == 0
    assert set(folder.iterdir()) == others
    own = worker.new_folder()
    own.mkdir(mode=0o700)
    for name in ("0123456789ab", "0123456789ab.log", "ba9876543210.lock", "notes.txt"):
        (own / name).write_text("")
    worker._remove_folder(own)
    assert os.listdir(own) == ["notes.txt"]
    (own / "notes.txt").unlink()
    worker._remove_folder(own)
    assert not own.exists()


@pytest.mark.faults
def test_a_folder_that_is_not_its_own_is_refused(tmp_path, owner, monkeypatch, capsys):
    """In a line; the command then runs without a waiting process, and the folder stays."""
    good = f"mmqsa-{owner.pid}-0a"
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    for name, mode, said in (
        ("data", 0o700, "is no folder of mmqsa-PROCESS-NUMBER's name"),
        ("mmqsa-old", 0o700, "is no folder of"),
        (f"mmqsa-{owner.pid}-", 0o700, "is no folder of"),
        (f"mmqsa-{owner.pid}-photographs", 0o700, "is no folder of"),
        ("line\nline", 0o700, "is no folder of"),
        ("results-2024", 0o700, "is no folder of"),
        (good, 0o755, "others may use it"),
        (good, 0o777, "others may use it"),
        (f"mmqsa-{ended.pid}-0a", 0o700, f"process {ended.pid}, which it was made for, has ended"),
    ):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
        (folder / "photograph.jpg").write_text("mine")
        assert worker.hand_over(folder, ["--version"]) is None
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and said in error and "no waiting process" in error
        assert [path.name for path in folder.iterdir()] == ["photograph.jpg"]
    for name in ("gone", "mmqsa-gone"):  # nothing is made either
        assert worker.hand_over(tmp_path / name, []) is None and not (tmp_path / name).exists()
    (tmp_path / good).chmod(0o700)
    linked = tmp_path / "linked" / good
    linked.parent.mkdir()
    linked.symlink_to(tmp_path / good)
    assert worker.hand_over(linked, []) is None
    assert "is a link or a file" in capsys.readouterr().err
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert worker.hand_over(tmp_path / good, []) is None
    assert "is another user's" in capsys.readouterr().err
    assert os.listdir(tmp_path / good) == ["photograph.jpg"]


def test_a_command_outlives_the_owner(handed_over, waiting, owner):
    with subprocess.Popen([*MMQSA, "plan"], env=handed_over, stdin=subprocess.PIPE) as asking:
        until(lambda: copies_of(waiting))
        owner.kill()
        owner.wait()
        time.sleep(1.5)  # longer than between two looks at the owner
        asking.communicate(b"")
    assert asking.returncode == 2
    assert waiting.wait(30) == 0


def test_without_a_place_for_sockets_a_command_runs_alone(tmp_path):
    for place in (tmp_path / "gone" / "mmqsa-1-00", tmp_path):
        code, output, errors = run(["--version"], os.environ | {worker.FOLDER: str(place)})
        assert (code, output.split()[0]) == (0, "mmqsa")
        assert len(errors.splitlines()) == 1
        assert "no waiting process" in errors


def test_a_command_does_not_wait_for_the_imports(folder, owner):
    """The first starts the waiting process, the second starts no other, a later one finds it."""
    path, environment = worker.socket_of(folder), os.environ | {worker.FOLDER: str(folder)}
    for _ in range(2):
        assert run(["--version"], environment)[0] == 0 and not path.exists()
    until(path.exists, 120)
    (waiting,) = waiting_at(path)
    with subprocess.Popen([*MMQSA, "plan"], env=environment, stdin=subprocess.PIPE) as asking:
        until(lambda: children_of(int(waiting)))
        asking.communicate(b"")
    assert asking.returncode == 2 and waiting_at(path) == [waiting]


def test_one_that_does_not_start_is_named_and_not_tried_again(folder):
    path = worker.socket_of(folder)
    path.with_suffix(".log").write_text("Traceback\nImportError: no torch\n")
    code, _, errors = run(["--version"], os.environ | {worker.FOLDER: str(folder)})
    assert (code, errors.count("\n"), waiting_at(path)) == (0, 1, [])
    assert "it does not start: ImportError: no torch" in errors


def test_a_dead_socket_is_replaced(folder, waiting, handed_over):
    waiting.kill()
    waiting.wait()
    assert run(["--version"], handed_over)[:2] == run(["--version"], dict(os.environ))[:2]
    until(lambda: waiting_at(worker.socket_of(folder)))


def test_a_command_ends_with_the_waiting_process(folder, waiting, handed_over):
    """Whoever runs it again finds no other at work, and nobody waits for an answer."""
    asking = [
        subprocess.Popen(
            [*MMQSA, "plan"], env=handed_over, stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    until(lambda: len(copies_of(waiting)) == 2)
    time.sleep(0.3)  # they have told their numbers
    copies = copies_of(waiting)
    waiting.kill()
    for process in asking:
        assert process.wait(10) == worker.LOST
        assert b"the waiting process ended; run it again" in process.stderr.read()
    until(lambda: not any(Path(f"/proc/{copy}").exists() for copy in copies))
    with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
        late.connect(str(worker.socket_of(folder)))


def test_who_asked_and_the_command_may_end_at_once(folder, waiting, handed_over):
    for _ in range(5):
        with subprocess.Popen([*MMQSA, "plan"], env=handed_over, stdin=subprocess.PIPE) as asking:
            until(lambda: copies_of(waiting))
            waiting.send_signal(signal.SIGSTOP)
            os.kill(int(copies_of(waiting)[0]), signal.SIGKILL)
            asking.kill()
            asking.wait()
            waiting.send_signal(signal.SIGCONT)  # it learns of both together
        until(lambda: not copies_of(waiting))
    assert run(["plan"], handed_over, input="")[0] == 2
    assert waiting.poll() is None


def test_another_process_of_the_owners_number_is_not_the_owner():
    began = waiting_module._began(os.getpid())
    assert began == waiting_module._began(os.getpid()) != waiting_module._began(1)
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    assert waiting_module._began(ended.pid) is None
