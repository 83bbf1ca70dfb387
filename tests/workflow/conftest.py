"""Fixtures: a copy of the project, and the demo's chain in it."""

import pytest
import yaml
from project import HANDFUL, copy_project, snakemake


@pytest.fixture(scope="session")
def copy(tmp_path_factory):
    """A copy of the project, as a fresh clone would be."""
    return copy_project(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="session")
def demo(copy):
    """The demo's chain on a handful of scenes: the arguments, and the finished folder."""
    (copy / "handful.yaml").write_text(yaml.safe_dump(HANDFUL))
    arguments = ["--cores", "2", "--configfile", "config/demo.yaml", "handful.yaml"]
    snakemake(copy, *arguments)
    return copy, arguments
