"""A new project: all of its files or none, and none in the place of another."""

import itertools
from pathlib import Path

import pytest
from project import ROOT

from mmqsa import __version__
from mmqsa.errors import InputError
from mmqsa.project import WORKFLOW, workflow_for, write_project


def test_a_project_has_the_configs_and_profiles_and_no_code(tmp_path):
    write_project(tmp_path / "new" / "study")
    folder = tmp_path / "new" / "study"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("Snakefile", "config.yaml", "config", "profiles", "README.md", ".gitignore"),
    }
    for name in ("config.yaml", "config", "profiles"):
        for path in [ROOT / name, *(ROOT / name).rglob("*")]:
            copy = folder / path.relative_to(ROOT)
            assert copy.is_dir() if path.is_dir() else copy.read_bytes() == path.read_bytes()


@pytest.mark.faults
@pytest.mark.parametrize("name", ["Snakefile", "config", "config.yaml", ".gitignore"])
def test_a_file_that_is_there_stays_and_nothing_is_written(tmp_path, name):
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(InputError, match=f"{tmp_path / name}: exists, so nothing is written"):
        write_project(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / name).unlink()
    (tmp_path / "other.txt").touch()
    write_project(tmp_path)
    assert (tmp_path / "other.txt").exists() and (tmp_path / "Snakefile").is_file()


@pytest.mark.faults
def test_a_full_disk_leaves_no_half_of_a_project(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_project(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.faults
@pytest.mark.parametrize("step", ["mkdir", "write_bytes", "write_text", "rename"])
def test_a_disk_that_fails_is_named_and_nothing_is_left(tmp_path, monkeypatch, step):
    """At any step, also where the folder and those above it were new."""
    real = getattr(Path, step)
    for count, folder in itertools.product((1, 2, 3), (tmp_path, tmp_path / "new" / "study")):
        calls = itertools.count(1)

        def full(path, *arguments, count=count, calls=calls, **options):
            if ".mmqsa-" in str(path) and next(calls) == count:
                raise OSError(28, "No space left on device")
            return real(path, *arguments, **options)

        monkeypatch.setattr(Path, step, full)
        with pytest.raises(OSError, match="No space") as error:
            write_project(folder)
        assert error.value.filename == str(folder)
        assert not list(tmp_path.iterdir())


@pytest.mark.faults
@pytest.mark.parametrize("place", ["{study}", "a{b/study", "linked"])
def test_no_project_where_snakemake_takes_the_path_for_a_wildcard(tmp_path, place):
    (tmp_path / "linked").symlink_to("{elsewhere")
    with pytest.raises(InputError, match=r"a brace in the path .*; name another folder"):
        write_project(tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["linked"]


def test_a_project_of_another_version_is_told_so(capsys):
    assert workflow_for(__version__) == str(WORKFLOW) == str(ROOT / "workflow/Snakefile")
    assert capsys.readouterr() == ("", "")
    assert workflow_for("0.0.1") == str(WORKFLOW)
    assert f"mmqsa {__version__} runs a project of mmqsa 0.0.1" in capsys.readouterr().err
