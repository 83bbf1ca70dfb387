"""The wheel alone, in a folder of its own: its files, its commands, and the workflow from it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from project import HANDFUL, ROOT, copy_project, planned, snakemake

VERSION = "9.0.1"  # no release: what says it comes from this wheel
STANDIN = ROOT / "tests/workflow/standin"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the project, of that version, with what builds it."""
    folder = copy_project(tmp_path_factory.mktemp("source"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    init = folder / "src/mmqsa/__init__.py"
    (line,) = (line for line in init.read_text().splitlines() if line.startswith("__version__"))
    init.write_text(init.read_text().replace(line, f'__version__ = "{VERSION}"'))
    return folder


def built(source: Path, kind: str, out: Path) -> Path:
    """The archive that the build backend makes."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", out]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (archive,) = out.iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    return built(source, "wheel", tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder that pip installs it to; its name has a space, a quote and a command."""
    folder = tmp_path_factory.mktemp("installed") / "a b'$(touch x)"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
    subprocess.run([*pip, wheel], check=True)
    return folder


@pytest.fixture(scope="module")
def environment(installed) -> dict[str, str]:
    """Python finds the wheel before the checkout that the tests run in."""
    return {**os.environ, "PYTHONPATH": str(installed)}


@pytest.fixture(scope="module")
def mmqsa(environment):
    """``mmqsa(folder, …)``: the installed command, in a folder."""
    program = Path(environment["PYTHONPATH"]) / "bin/mmqsa"

    def run(folder: Path, *arguments, check=True) -> subprocess.CompletedProcess:
        command = [sys.executable, program, *map(str, arguments)]
        return subprocess.run(
            command, cwd=folder, env=environment, check=check, capture_output=True, text=True
        )

    return run


@pytest.fixture(scope="module")
def study(mmqsa, tmp_path_factory) -> Path:
    """A project that the installed command wrote."""
    folder = tmp_path_factory.mktemp("empty")
    said = mmqsa(folder, "init", "my study").stdout
    assert "cd 'my study'" in said and "snakemake -n" in said
    (folder / "my study/handful.yaml").write_text(yaml.safe_dump(HANDFUL))
    return folder / "my study"


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path -> bytes, of every file but compiled ones."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_wheel_holds_the_package_and_what_a_project_starts_from(source, installed):
    package = contents(source / "src/mmqsa")
    for name in ("config", "profiles", "workflow"):
        files = contents(source / name).items()
        package |= {f"project_files/{name}/{path}": content for path, content in files}
    for name in ("config.yaml", "environment.yml"):
        package[f"project_files/{name}"] = (source / name).read_bytes()
    assert contents(installed / "mmqsa") == package
    assert {path.name for path in installed.iterdir()} == {
        *("bin", "mmqsa", f"mmqsa-{VERSION}.dist-info"),
    }


def test_the_source_archive_builds_the_same_wheel(source, wheel, tmp_path):
    shutil.unpack_archive(built(source, "sdist", tmp_path / "sdist"), tmp_path, filter="data")
    again = built(tmp_path / f"mmqsa-{VERSION}", "wheel", tmp_path / "wheel")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


def test_the_version_is_that_of_the_source(mmqsa, wheel, tmp_path):
    assert mmqsa(tmp_path, "--version").stdout == f"mmqsa {VERSION}\n"
    assert wheel.name.startswith(f"mmqsa-{VERSION}-")


def test_init_refuses_a_folder_that_is_a_project(study, mmqsa):
    before = contents(study)
    done = mmqsa(study, "init", ".", check=False)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == "mmqsa: config.yaml: exists, so nothing is written; name a new folder\n"
    assert contents(study) == before


@pytest.mark.workflow
def test_a_new_project_plans_what_a_checkout_plans(study, source, environment):
    demo = ("-n", "--configfile", "config/demo.yaml")
    jobs = planned(snakemake(source, *demo))
    own = snakemake(study, *demo, env=environment)
    assert planned(own) == jobs and jobs["train"] == 9
    assert VERSION not in own.stderr  # the project's version: nothing to say
    slurm = snakemake(study, *demo, "--workflow-profile", "profiles/slurm", env=environment)
    assert planned(slurm) == jobs


@pytest.mark.workflow
def test_jobs_run_the_installed_package_in_an_environment_without_it(
    study, installed, environment, tmp_path
):
    """Another workflow takes it as a module; tests/workflow/standin plays conda."""
    lines = ["from mmqsa.project import WORKFLOW"]
    lines += [
        f"configfile: {str(study / name)!r}" for name in ("config.yaml", "config/tables.yaml")
    ]
    lines += ["module mmqsa:\n    snakefile: str(WORKFLOW)\n    config: config"]
    (tmp_path / "Snakefile").write_text("\n".join([*lines, "use rule * from mmqsa", ""]))
    path = os.pathsep.join([str(STANDIN), str(Path(sys.executable).parent), os.environ["PATH"]])
    conda = {"PATH": path, "MMQSA_STANDIN_PYTHON": sys.executable}
    conda["MMQSA_STANDIN_LOG"] = str(tmp_path / "activated")
    configs = ("--configfile", study / "config/demo.yaml", study / "handful.yaml")
    made = "resources/demo-scenes/receipt.json"
    arguments = ("--cores", "1", "--use-conda", *configs, "--", made)
    snakemake(tmp_path, *arguments, env=environment | conda)
    assert (tmp_path / made).is_file()
    (python,) = tmp_path.glob(".snakemake/conda/*_/bin/python")
    plain = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    without = subprocess.run([python, "-m", "mmqsa"], env=plain, capture_output=True)
    assert b"No module named mmqsa" in without.stderr
    (package,) = tmp_path.glob(".snakemake/packages/*/*")
    assert package.name == "mmqsa" and package.resolve() == (installed / "mmqsa").resolve()


def test_tables_from_results_that_ship(study, mmqsa, tmp_path):
    """With the published numbers, which are the package's."""
    name = "voc-vits14-layers"
    results = tmp_path / name
    shutil.copytree(ROOT / "results" / name, results, ignore=shutil.ignore_patterns("tables"))
    configs = (study / "config.yaml", study / "config/tables.yaml", study / f"config/{name}.yaml")
    mmqsa(tmp_path, "specs", *configs, "--out", results / "config/tables")
    mmqsa(tmp_path, "table", results / "config/tables/methods.yaml", "--results", results)
    table = "tables/methods.csv"
    assert (results / table).read_bytes() == (ROOT / "results" / name / table).read_bytes()
