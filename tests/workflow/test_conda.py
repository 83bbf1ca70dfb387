"""The conda environment: valid, pinned, the same as pip's, and used by the README's command."""

import os
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from project import HANDFUL, ROOT, copy_project, snakemake
from rattler import Channel, MatchSpec

from mmqsa.config.base import merged

STANDIN = Path(__file__).parent / "standin"
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA, PIP = ENVIRONMENT["dependencies"][:-1], ENVIRONMENT["dependencies"][-1]["pip"]


def pins() -> dict[str, str]:
    """constraints.txt: package -> version."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_every_spec_is_one():
    assert [Channel(name).name for name in ENVIRONMENT["channels"]] == ["conda-forge"]
    names = {str(MatchSpec(spec, strict=True)).split()[0] for spec in CONDA}
    assert names == {"python", "pip"}
    python = CONDA[0].split("=")[1]
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")
    for line in PIP:
        requirement = Requirement(line)  # raises on what is none, such as `-e .`
        (pin,) = requirement.specifier
        assert pin.operator == "==" and "*" not in pin.version, f"{line}: not pinned"


def test_conda_and_pip_install_the_same_versions():
    """environment.yml, constraints.txt, and what pyproject.toml asks for."""
    extras = PROJECT["optional-dependencies"]
    asked = {Requirement(line).name for line in PROJECT["dependencies"] + extras["workflow"]}
    conda = {Requirement(line).name: line.split("==")[1] for line in PIP}
    assert set(conda) == asked
    others = {Requirement(line).name for line in extras["test"] + extras["docs"]}
    assert pins().items() >= conda.items()  # and of the rest, what those packages need themselves
    assert pins().keys() >= others
    for name, pin in pins().items():
        assert version(name).split("+")[0] == pin, f"{name}: the tests run with another version"


@pytest.mark.workflow
def test_the_command_of_the_readme(tmp_path):
    """That command itself; config.yaml is smaller, and tests/workflow/standin plays conda."""
    assert "snakemake --cores all --use-conda" in (ROOT / "README.md").read_text()
    folder = copy_project(tmp_path / "project")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for changes in (yaml.safe_load((folder / "config/demo.yaml").read_text()), HANDFUL):
        config = merged(config, changes)
    config |= {"grid": ["full"], "seeds": [0], "results": "results"}
    config["evaluation"] |= {"baselines": []}
    config.pop("tables")
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    tables = yaml.safe_load((folder / "config/tables.yaml").read_text())["tables"]
    kept = {"tables": {"masking": tables["masking"]}}
    (folder / "config/tables.yaml").write_text(yaml.safe_dump(kept, sort_keys=False))
    log = tmp_path / "activated"
    path = os.pathsep.join([str(STANDIN), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {"MMQSA_STANDIN_PYTHON": sys.executable, "MMQSA_STANDIN_LOG": str(log)}
    snakemake(
        folder,
        *("--cores", "all", "--use-conda"),
        env={**os.environ, "PATH": path, **environment},
    )
    assert "one training seed each" in (folder / "results/tables/masking.md").read_text()
    (made,) = (folder / ".snakemake/conda").glob("*_/bin/python")
    activated = log.read_text().split()
    assert {Path(line) for line in activated} == {made.parents[1]}
    assert len(activated) > 10  # every rule in the one environment
