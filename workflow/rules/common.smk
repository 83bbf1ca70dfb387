"""What the rules share: the checked config, paths, and the functions behind their inputs."""

import os
import re
import sys
from itertools import chain
from pathlib import Path

SOURCE = Path(os.path.relpath(Path(workflow.basedir) / "src"))
sys.path.insert(0, str(SOURCE))

from mmqsa.errors import InputError
from mmqsa.reporting.results import table_spec
from mmqsa.config import Config, ImageSet
from mmqsa.settings import dump_yaml

try:
    CONFIG = Config.parse(config)
except InputError as error:
    raise WorkflowError(str(error)) from None

RESULTS = CONFIG.results
DATASET = CONFIG.dataset
GPU = 0 if CONFIG.device == "cpu" else 1
SHOWCASE = f"{RESULTS}/runs/{CONFIG.showcase}/seed{CONFIG.seeds[0]}"
DRAWN = {
    name: table
    for name, table in CONFIG.tables.items()
    if set(table.settings) & set(CONFIG.names)
}


def cache(image_set):
    """The feature cache of an image set."""
    return f"{RESULTS}/features/{image_set.dataset}/{image_set.file}.h5"


TRAIN_SET = CONFIG.split_set(DATASET.train_split)
EVAL_SET = CONFIG.split_set(DATASET.eval_split)
TRAIN_CACHE, EVAL_CACHE = cache(TRAIN_SET), cache(EVAL_SET)
EVALUATED = EVAL_SET.name
IMAGE_SETS = {
    image_set.name: image_set
    for table in DRAWN.values()
    for image_set in chain(*CONFIG.image_sets(table).values())
} | {EVALUATED: EVAL_SET}
TABLES = expand(
    f"{RESULTS}/tables/{{table}}.{{suffix}}", table=DRAWN, suffix=["csv", "md", "tex"]
)
FIGURES = [f"{RESULTS}/figures/gallery.png"]
FIGURES += expand(
    f"{RESULTS}/figures/{{figure}}.png",
    figure=(["heads"] if "heads" in DRAWN else [])
    + (["masking-controls", "masking-training"] if "masking" in DRAWN else []),
)

PREMISE = [] if EVAL_SET.variant else [f"{RESULTS}/controls/{EVALUATED}-premise.csv"]

# The package is found by its path, so that it need not be installed in a rule's environment. The
# device goes by the environment too: as a param, another device would train everything anew.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={SOURCE} MMQSA_DEVICE={CONFIG.device}"
    f" MMQSA_REQUIRE_GPU={CONFIG.require_gpu:d}; "
)


wildcard_constraints:
    setting="|".join(CONFIG.settings),
    seed=r"\d+",
    table="|".join(CONFIG.tables) or "none",
    dataset="|".join(CONFIG.datasets),
    image_set="|".join(map(re.escape, IMAGE_SETS)),
    method="|".join(CONFIG.evaluation.baselines) or "none",
    root="|".join(re.escape(dataset.root) for dataset in CONFIG.datasets.values()),


def code(*parts):
    """The source files that a stage's outcome depends on; small, so compared by content."""
    files = [path for part in parts for path in (SOURCE / "mmqsa").glob(part)]
    return sorted(str(path) for path in files)


def settings_text(wildcards):
    """What stands in a settings file: what its readers depend on, and nothing else."""
    folder, _, name = wildcards.name.rpartition("/")
    if folder == "tables":
        return table_spec(CONFIG, name)
    if folder == "runs":
        return dump_yaml(CONFIG.setting(name).for_stage("run"))
    if folder:  # of one of the data sets
        dataset = CONFIG.datasets[folder.removeprefix("data/")]
        return dump_yaml(CONFIG.model_copy(update={"dataset": dataset}).for_stage(name))
    return dump_yaml(CONFIG.for_stage(name))


def data_stage(dataset):
    """The stage that provides a data set."""
    return "scenes" if dataset.kind == "scenes" else "download"


def evaluated_cache(wildcards):
    """The feature cache that a run or a control is scored on."""
    return cache(IMAGE_SETS[wildcards.image_set])


def run_files(setting, *files):
    """The given files of every seed's run of a setting."""
    return [
        f"{RESULTS}/runs/{setting}/seed{seed}/{file}"
        for seed in CONFIG.seeds
        for file in files
    ]


def table_files(table, *files):
    """The given files of every run in a table, those of settings that are not run left out."""
    settings = [name for name in table.settings if name in CONFIG.names]
    return [path for name in settings for path in run_files(name, *files)]


def table_sets(table):
    """All image sets of a table."""
    return list(chain(*CONFIG.image_sets(table).values()))


def table_metrics(wildcards):
    """The metrics of all runs in a table, on all of its image sets."""
    table = CONFIG.tables[wildcards.table]
    suffix = "-sweep" if table.kind == "sweep" else ""
    names = [f"metrics/{image_set.name}{suffix}.csv" for image_set in table_sets(table)]
    return table_files(table, *names)


def table_references(wildcards):
    """Controls and other methods on all image sets of a table that shows them."""
    table = CONFIG.tables[wildcards.table]
    shown = table_sets(table) if table.references else []
    return [path for image_set in shown for path in references(image_set)]


def references(image_set):
    """The metrics of controls and other methods on an image set."""
    kinds = ["controls", *CONFIG.evaluation.baselines]
    if image_set.variant == "squash" and "oracle" in kinds:
        kinds.remove("oracle")  # of label maps; these images are scored by boxes
    return [f"{RESULTS}/controls/{image_set.name}-{kind}.csv" for kind in kinds]


def table_histories(wildcards):
    """The training histories of all runs in a table."""
    return table_files(CONFIG.tables[wildcards.table], "history.csv")
