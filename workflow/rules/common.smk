"""The checked config, the paths and the image sets that all rules share."""

import os
import re
import shlex
import sys
from contextlib import suppress
from functools import cache
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import get_args

HERE = Path(str(workflow.current_basedir))  # also where another workflow takes this one as a module
SOURCE = Path(os.path.relpath(HERE.parents[1] / "src"))
if SOURCE.is_dir():  # a checkout; otherwise the package is installed
    sys.path.insert(0, str(SOURCE))

from mmqsa import worker
from mmqsa.config.base import KNOBS
from mmqsa.config.choices import PartName
from mmqsa.config.files import dump_yaml, read_yaml
from mmqsa.config.tables import ImageSet
from mmqsa.config.workflow import Config
from mmqsa.digest import code_digest
from mmqsa.errors import InputError
from mmqsa.paths import (
    CONFIG as RUN_CONFIG,
    FUSION,
    HISTORY,
    PROVENANCE,
    SIMILARITY,
    SNAPSHOTS,
    WEIGHTS,
    Paths,
    label_maps_path,
)
from mmqsa.project import PACKAGE
from mmqsa.reporting.inputs import FIGURES as FIGURE_KINDS

if "{" in str(HERE):  # in the path of environment.yml Snakemake takes it for a wildcard
    raise WorkflowError(f"{HERE.parents[1]}: a folder with a brace in its name; move the workflow")


def absent_configs():
    """The files of the base config that are not there, and that nothing else stands for.

    Snakemake passes over them in silence where --configfile is given. Another workflow that takes
    this one as a module brings the config itself.
    """
    if workflow.modifier.skip_configfile:
        return []
    tables = config.get("tables")
    captions = isinstance(tables, dict) and ["caption" in (one or {}) for one in tables.values()]
    whole = {
        "config.yaml": set(KNOBS) <= set(config),
        "config/tables.yaml": captions and all(captions),
    }
    return [name for name, there in whole.items() if not (there or Path(name).exists())]


def how_to_get(names):
    """What to do where they are absent; every command works in any folder."""
    home, here = HERE.parents[1], Path.cwd()
    if lost := [name for name in names if not (home / name).is_file()]:
        kept = f"git -C {shlex.quote(str(home))} checkout -- {' '.join(lost)}"
        return f"restore {' and '.join(lost)} (in a clone: {kept})"
    copies = [shlex.join(["cp", str(home / name), str(here / name)]) for name in names]
    return (
        f"add --directory {shlex.quote(str(home))} to work there, or copy: "
        f"{shlex.join(['mkdir', '-p', str(here / 'config')])} && {' && '.join(copies)}"
    )


if absent := absent_configs():
    raise WorkflowError(
        f"{' and '.join(absent)}: not in the working directory, {os.getcwd()}, where Snakemake looks "
        f"for them; {how_to_get(absent)}"
    )
try:
    for path in workflow.configfiles:
        read_yaml(path)  # Snakemake takes the last of two equal keys in silence
    CONFIG = Config.parse(config)
except InputError as error:
    raise WorkflowError(str(error)) from None


def linked(target, link):
    """A link below .snakemake to a folder; jobs of a cluster may make it at the same moment."""
    link = Path(".snakemake") / link
    link.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        link.symlink_to(target)
    return link


def short_digest(path):
    return sha256(str(path).encode()).hexdigest()[:12]


def carried(folder):
    """A folder as Snakemake can carry it: a brace in its name would be a wildcard, a link has none."""
    if "{" not in folder:
        return folder
    target = Path(folder).resolve()
    target.mkdir(parents=True, exist_ok=True)
    return str(linked(target, f"folders/{short_digest(target)}"))


def with_carried(dataset):
    return dataset.model_copy(update={"root": carried(dataset.root)})


CONFIG = CONFIG.model_copy(
    update={
        "results": carried(CONFIG.results),
        "dataset": with_carried(CONFIG.dataset),
        "other_datasets": {
            name: with_carried(dataset) for name, dataset in CONFIG.other_datasets.items()
        },
    }
)
PATHS = Paths(Path(CONFIG.results))
DATASET = CONFIG.dataset
GPU = 0 if CONFIG.device == "cpu" else 1

if not SOURCE.is_dir():
    # A folder that holds the package alone. What else is installed beside it would hide the packages
    # of the conda environment that a job runs in.
    SOURCE = linked(PACKAGE, f"packages/{short_digest(PACKAGE)}/mmqsa").parent

# Jobs get these through the environment. They change speed alone: as params they would start every
# training again. The package is found by its path, so it need not be installed where a rule runs.
os.environ |= {
    "MMQSA_SOURCE": str(SOURCE.resolve()),
    "MMQSA_DEVICE": CONFIG.device,
    "MMQSA_REQUIRE_GPU": str(int(CONFIG.require_gpu)),
    "MMQSA_EXTRACTION_BATCH": str(CONFIG.backbone.batch_size),
}

# A job on a node of a cluster comes alone, and runs in a process of its own.
os.environ.pop(worker.FOLDER, None)
if CONFIG.scheduling.worker and not workflow.remote_exec:
    os.environ[worker.FOLDER] = str(worker.new_folder())

TRAIN_SET = CONFIG.split_set(DATASET.train_split)
EVAL_SET = CONFIG.split_set(DATASET.eval_split)
PRINTED = {name: table for name, table in CONFIG.tables.items() if CONFIG.rows(table)}
IMAGE_SETS = {
    image_set.name: image_set
    for table in PRINTED.values()
    for image_set in chain(*CONFIG.image_sets(table).values())
} | {EVAL_SET.name: EVAL_SET}


wildcard_constraints:
    setting="|".join(map(re.escape, CONFIG.settings)),
    seed=r"\d+",
    table="|".join(map(re.escape, CONFIG.tables)) or "none",
    kind="|".join(FIGURE_KINDS),
    gallery="gallery|heads|iterations",
    dataset="|".join(map(re.escape, CONFIG.datasets)),
    image_set="|".join(map(re.escape, IMAGE_SETS)),
    method="|".join(CONFIG.evaluation.baselines) or "none",
    reference="|".join([*CONFIG.evaluation.baselines, "controls"]),
    part="|".join(get_args(PartName)),
    root="|".join(re.escape(dataset.root) for dataset in CONFIG.datasets.values()),


def cached(image_set):
    """The feature cache of an image set, and what it was made with.

    The cache is ancient, since a touch of a file of gigabytes would start everything again. The
    identity beside it is small, so Snakemake compares its content: another cache has another one.
    """
    images = (image_set.dataset, image_set.file)
    return {
        "features": ancient(str(PATHS.cache(*images))),
        "identity": str(PATHS.identity(*images)),
    }


def trained(run_folder):
    """The weights of a run, ancient, and its record, which Snakemake compares by content."""
    return {
        "weights": ancient(str(run_folder / WEIGHTS)),
        "record": str(run_folder / PROVENANCE),
    }


def option(name, value):
    """A command line option, quoted for the shell; empty without a value."""
    return f"{name} {shlex.quote(str(value))}" if value else ""


code = cache(code_digest)
