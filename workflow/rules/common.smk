"""What the rules share: the checked config, paths, and the functions behind their inputs."""

import os
import sys
from pathlib import Path

SOURCE = Path(os.path.relpath(Path(workflow.basedir) / "src"))
sys.path.insert(0, str(SOURCE))

from mmqsa.errors import InputError
from mmqsa.reporting.results import table_spec
from mmqsa.config import Config
from mmqsa.settings import dump_yaml

try:
    CONFIG = Config.parse(config)
except InputError as error:
    raise WorkflowError(str(error)) from None

RESULTS = CONFIG.results
DATASET = CONFIG.dataset
TRAIN_CACHE = f"{RESULTS}/features/{DATASET.name}/{DATASET.train_split}.h5"
EVAL_CACHE = f"{RESULTS}/features/{DATASET.name}/{DATASET.eval_split}.h5"
EVALUATED = f"{DATASET.name}-{DATASET.eval_split}"
GPU = 0 if CONFIG.device == "cpu" else 1
SHOWCASE = f"{RESULTS}/runs/{CONFIG.showcase}/seed{CONFIG.seeds[0]}"
DATA_STAGE = "scenes" if DATASET.kind == "scenes" else "download"
CONTROLS = expand(
    f"{RESULTS}/controls/{EVALUATED}-{{kind}}.csv", kind=["controls", "kmeans"]
)
DRAWN = {
    name: table
    for name, table in CONFIG.tables.items()
    if set(table.settings) & set(CONFIG.names)
}
TABLES = expand(
    f"{RESULTS}/tables/{{table}}.{{suffix}}", table=DRAWN, suffix=["csv", "md", "tex"]
)
FIGURES = [f"{RESULTS}/figures/gallery.png"]
FIGURES += expand(
    f"{RESULTS}/figures/{{figure}}.png",
    figure=(["heads"] if "heads" in DRAWN else [])
    + (["masking-controls", "masking-training"] if "masking" in DRAWN else []),
)

# The package is found by its path, so that it need not be installed in a rule's environment. The
# device goes by the environment too: as a param, another device would train everything anew.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={SOURCE} MMQSA_DEVICE={CONFIG.device}"
    f" MMQSA_REQUIRE_GPU={CONFIG.require_gpu:d}; "
)


wildcard_constraints:
    setting="|".join(CONFIG.settings),
    seed=r"\d+",
    split=r"[a-z-]+",
    table="|".join(CONFIG.tables) or "none",


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
    return dump_yaml(CONFIG.for_stage(name))


def run_files(setting, *files):
    """The given files of every seed's run of a setting."""
    return [
        f"{RESULTS}/runs/{setting}/seed{seed}/{file}"
        for seed in CONFIG.seeds
        for file in files
    ]


def table_files(table, file):
    """The given file of every run in a table, those of settings that are not run left out."""
    settings = [name for name in CONFIG.tables[table].settings if name in CONFIG.names]
    return [path for name in settings for path in run_files(name, file)]


def table_metrics(wildcards):
    """The metrics of all runs in a table."""
    return table_files(wildcards.table, f"metrics/{EVALUATED}.csv")


def table_histories(wildcards):
    """The training histories of all runs in a table."""
    return table_files(wildcards.table, "history.csv")
