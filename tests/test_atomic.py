import errno
import fcntl
import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mmqsa import atomic
from mmqsa.atomic import claimed, whole_file, write_new, write_text, write_together
from mmqsa.errors import InputError


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "new/table.csv"
    write_text(path, "first")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".csv"
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]
    write_text(path, "second")
    assert path.read_text() == "second" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("letter", ["a", "é", "🙂"])
def test_a_name_may_be_as_long_as_the_system_takes(tmp_path, letter):
    names = [letter * (240 // len(letter.encode())) + f"-{end}.png" for end in (1, 2)]
    write_text(tmp_path / names[0], "whole")
    with claimed(tmp_path / names[0]), claimed(tmp_path / names[1]):
        write_together({tmp_path / name: b"whole" for name in names})
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_an_error_of_the_system_names_the_file(tmp_path):
    with pytest.raises(OSError) as error, whole_file(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path / "a") and not list(tmp_path.iterdir())


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def files(folder: Path, of: bytes) -> dict[Path, bytes]:
    return {folder / name: of + name.encode() for name in ("images", "objects", "means")}


def child(*calls: Callable[[], object]) -> int:
    """The exit code of a process that makes some calls; 2 where InputError is raised."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        for call in calls:
            call()
        code = 0
    except InputError:
        code = 2
    finally:
        os._exit(code)


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_files_are_written_together_or_not_at_all(tmp_path):
    one, other = files(tmp_path, b"one "), files(tmp_path, b"other ")
    write_new(tmp_path / "objects", one[tmp_path / "objects"])  # some may be there
    write_together(one)
    write_together(one)
    before = content(tmp_path)
    assert before == {path.name: text for path, text in one.items()}
    with pytest.raises(InputError, match=r"images: exists and was made otherwise .*it stays"):
        write_together(other)
    for path in one:  # wherever the one is that differs, and whatever it is
        for kind in (lambda path: path.write_text("mine"), Path.mkdir, os.mkfifo):
            for inner in tmp_path.iterdir():
                inner.rmdir() if inner.is_dir() else inner.unlink()
            kind(path)
            with pytest.raises(InputError, match=f"{path}: exists and was made otherwise"):
                write_together(one)
            assert list(tmp_path.iterdir()) == [path]


def test_a_temporary_file_is_moved_and_one_of_the_same_content_is_not(tmp_path):
    for number in range(2):
        (tmp_path / ".made").write_bytes(b"maps")
        write_together({tmp_path / "maps": tmp_path / ".made", tmp_path / "means": b"50"})
        assert (tmp_path / ".made").exists() == bool(number)
    assert (tmp_path / "maps").read_bytes() == b"maps"


@pytest.mark.parametrize("links", [True, False])
def test_an_error_withdraws_what_was_written(tmp_path, monkeypatch, links):
    """Also where a file system has no second name for a file."""

    def fails(number: int, real: Callable) -> Callable:
        calls = itertools.count(1)

        def call(*arguments: object) -> object:
            if next(calls) == number:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments)

        return call

    name = "link" if links else "rename"
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "")))
    for number in (1, 2, 3):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
            patch.setattr(os, name, fails(number, getattr(os, name)))
            write_together(files(tmp_path, b""))
        assert not list(tmp_path.iterdir())
    write_together(files(tmp_path, b""))
    write_together(files(tmp_path, b""))
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.faults
@pytest.mark.parametrize("name", ["link", "unlink", "ftruncate", "pwrite", "close"])
def test_killed_anywhere_while_files_are_written(tmp_path, name):
    """None or all of them are there once the next has come, whether it writes the same or other."""
    one, other = files(tmp_path, b"one "), files(tmp_path, b"other ")

    def dying(count: int, when: str) -> None:
        calls, real = itertools.count(1), getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            last = next(calls) == count
            if last and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **options)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(os, name, call)
        write_together(one)

    seen = set()
    for count, when, after in itertools.product(range(1, 99), ("before", "after"), (one, other)):
        died = ended(child(lambda count=count, when=when: dying(count, when))) == -signal.SIGKILL
        if not died:
            assert content(tmp_path) == {path.name: text for path, text in one.items()}
            break
        with claimed(tmp_path / "means"):
            left = content(tmp_path)  # what is not whole is gone before the next is computed
            assert not any(path.endswith((".new", ".publish")) for path in left)
        left = content(tmp_path)
        seen.add(len(left))
        assert len(left) in (0, 3)
        code = ended(child(lambda after=after: write_together(after)))
        if left and after is other:
            assert code == 2 and content(tmp_path) == left
        else:
            assert code == 0
            assert content(tmp_path) == {path.name: text for path, text in after.items()}
        for path in tmp_path.iterdir():
            path.unlink()
    assert count > 1 and seen <= {0, 3}


@pytest.mark.faults
def test_of_two_that_write_at_once_one_is_refused(tmp_path):
    for number in range(30):
        folder, (ready, go) = tmp_path / str(number), os.pipe()

        def start(of: bytes, ready=ready, go=go, folder=folder) -> int:
            wait = (lambda: os.close(go), lambda: os.read(ready, 1))
            return child(*wait, lambda: write_together(files(folder, of)))

        racing = [start(of) for of in (b"one ", b"other ")]
        os.close(go)
        codes = [ended(process) for process in racing]
        os.close(ready)
        assert sorted(codes) == [0, 2]
        expected = files(folder, (b"one ", b"other ")[codes.index(0)])
        assert content(folder) == {path.name: text for path, text in expected.items()}


@pytest.mark.faults
@pytest.mark.parametrize("folder", [True, False])
def test_one_process_at_a_time_has_a_claim(tmp_path, folder):
    """Many come and go; nobody is lost between the removal of a lock file and the next."""
    target, counter = tmp_path / "new" / "target", tmp_path / "counter"
    counter.write_text("0")
    if folder:
        target.mkdir(parents=True)

    def count() -> None:
        for _ in range(50):
            with claimed(target, wait=True):
                counter.write_text(str(int(counter.read_text()) + 1))

    assert [ended(process) for process in [child(count) for _ in range(4)]] == [0] * 4
    assert counter.read_text() == "200"
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_a_claim_keeps_others_out_and_leaves_nothing(tmp_path, monkeypatch):
    target = tmp_path / "results" / "run"
    linked = tmp_path / "linked"
    linked.symlink_to("results")

    def tried(path: Path, **options: bool) -> int:
        def claim() -> None:
            with claimed(path, **options):
                pass

        return ended(child(claim))

    with claimed(target):
        monkeypatch.chdir(tmp_path)
        for path in (target, linked / "run", Path("results/../results/run")):
            assert tried(path) == tried(path, shared=True) == 2
        assert tried(target / "file") == tried(target.parent) == 0
    assert os.listdir(tmp_path) == ["linked"]
    target.mkdir(parents=True)
    with claimed(target, shared=True):
        assert tried(target, shared=True) == 0  # and leaves the lock to this one
        assert tried(target) == 2
    assert tried(target) == 0 and os.listdir(target.parent) == ["run"]
    ended(child(lambda: claimed(target).__enter__(), lambda: os.kill(os.getpid(), 9)))
    assert tried(target) == 0 and os.listdir(target.parent) == ["run"]


def test_a_folder_in_one_that_may_not_be_written(tmp_path, monkeypatch):
    """Then the folder itself is locked; where it is absent, the error names it."""
    real = os.open

    def refused(path, flags, *rest):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags, *rest)

    write_together(files(tmp_path, b""))
    monkeypatch.setattr(os, "open", refused)
    with claimed(tmp_path / "means"):  # and the same scores again are no error
        write_together(files(tmp_path, b""))
    (tmp_path / "mine").mkdir()
    with claimed(tmp_path / "mine"):
        assert ended(child(lambda: claimed(tmp_path / "mine").__enter__())) == 2
    with pytest.raises(PermissionError) as error, claimed(tmp_path / "new"):
        pass
    assert error.value.filename == str(tmp_path / "new")


def test_without_locks_a_command_works_alone(tmp_path, monkeypatch):
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with claimed(tmp_path / "out"):
        write_together(files(tmp_path, b""))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_note_of_someone_else_removes_nothing(tmp_path):
    """A results folder may come from anywhere."""
    results, mine = tmp_path / "results", tmp_path / "mine"
    results.mkdir()
    mine.write_text("mine")
    (tmp_path / ".mine.new").write_text("mine")
    note = atomic._hidden(results / "means", "publish")
    note.write_bytes(b"../mine\0../.mine.new\0/etc/hostname\0" + os.fsencode(str(mine)))
    write_together(files(results, b""))
    assert mine.read_text() == "mine" and (tmp_path / ".mine.new").exists()
    assert len(list(results.iterdir())) == 3
