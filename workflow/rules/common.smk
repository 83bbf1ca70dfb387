"""What the rules share: the checked config, paths, and the functions behind their inputs."""

import os
import sys
from pathlib import Path

SOURCE = Path(os.path.relpath(Path(workflow.basedir) / "src"))
sys.path.insert(0, str(SOURCE))

from mmqsa.errors import InputError
from mmqsa.reporting.results import table_spec
from mmqsa.settings import (
    EVALUATION_SECTIONS,
    FEATURE_SECTIONS,
    RUN_SECTIONS,
    Config,
    dump_yaml,
)

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
    f"set -euo pipefail; export PYTHONPATH={SOURCE} MMQSA_DEVICE={CONFIG.device}; "
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
    """What stands in a settings file: the sections that its readers depend on, and no others."""
    name = wildcards.name
    if name == "features":
        return dump_yaml(CONFIG.sections(*FEATURE_SECTIONS))
    if name == "dataset":
        return dump_yaml(CONFIG.sections("dataset"))
    if name == "baselines":
        return dump_yaml(CONFIG.sections("keys", "evaluation"))
    if name == "evaluation":
        return dump_yaml(CONFIG.sections(*EVALUATION_SECTIONS))
    folder, _, setting = name.partition("/")
    if folder == "tables":
        return table_spec(CONFIG, setting)
    resolved = CONFIG.setting(setting).sections(*FEATURE_SECTIONS, *RUN_SECTIONS)
    return dump_yaml(resolved)


def run_files(setting, *files):
    """The given files of every seed's run of a setting."""
    return [
        f"{RESULTS}/runs/{setting}/seed{seed}/{file}"
        for seed in CONFIG.seeds
        for file in files
    ]


def table_metrics(wildcards):
    """The metrics of all runs in a table."""
    settings = [
        name for name in CONFIG.tables[wildcards.table].settings if name in CONFIG.names
    ]
    return [
        path
        for name in settings
        for path in run_files(name, f"metrics/{EVALUATED}.csv")
    ]


def table_histories(wildcards):
    """The training histories of all runs in a table."""
    settings = [
        name for name in CONFIG.tables[wildcards.table].settings if name in CONFIG.names
    ]
    return [path for name in settings for path in run_files(name, "history.csv")]
