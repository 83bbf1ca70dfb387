"""What the rules share: the checked config and its paths."""

import os
import re
import sys
from functools import cache as cache_calls
from hashlib import sha256
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
DRAWN = {name: table for name, table in CONFIG.tables.items() if CONFIG.rows(table)}


def cache(image_set):
    """The feature cache of an image set."""
    return f"{RESULTS}/features/{image_set.dataset}/{image_set.file}.h5"


def identity(image_set):
    """What that cache was made with, in a file so small that its content is compared.

    Rules take both: the cache itself as ancient, since a touch of a file of gigabytes would train
    everything anew, and this one plainly, so that another cache does.
    """
    return f"{RESULTS}/features/{image_set.dataset}/{image_set.file}.json"


TRAIN_SET = CONFIG.split_set(DATASET.train_split)
EVAL_SET = CONFIG.split_set(DATASET.eval_split)
TRAIN_CACHE, EVAL_CACHE = cache(TRAIN_SET), cache(EVAL_SET)
TRAIN_IDENTITY, EVAL_IDENTITY = identity(TRAIN_SET), identity(EVAL_SET)
EVALUATED = EVAL_SET.name
IMAGE_SETS = {
    image_set.name: image_set
    for table in DRAWN.values()
    for image_set in chain(*CONFIG.image_sets(table).values())
} | {EVALUATED: EVAL_SET}
TABLES = expand(
    f"{RESULTS}/tables/{{table}}.{{suffix}}",
    table=DRAWN,
    suffix=["csv", "md", "tex", "html"],
)
GALLERIES = ["gallery", "heads", "iterations"]
FIGURES = expand(f"{RESULTS}/figures/showcase-{{gallery}}.png", gallery=GALLERIES)
FIGURES += [
    f"{RESULTS}/figures/{name}-{kind}.png"
    for name, table in DRAWN.items()
    for kind in table.drawn
]

PREMISE = [] if EVAL_SET.variant else [f"{RESULTS}/controls/{EVALUATED}-premise.csv"]

# The package is found by its path, so that it need not be installed in a rule's environment. What
# changes speed alone goes by the environment too: as params it would train everything anew.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={SOURCE} MMQSA_DEVICE={CONFIG.device}"
    f" MMQSA_REQUIRE_GPU={CONFIG.require_gpu:d}"
    f" MMQSA_EXTRACTION_BATCH={CONFIG.backbone.batch_size}; "
)


wildcard_constraints:
    setting="|".join(CONFIG.settings),
    seed=r"\d+",
    table="|".join(CONFIG.tables) or "none",
    kind="curve|controls|training|strata|severity|similarity",
    gallery="|".join(GALLERIES),
    dataset="|".join(CONFIG.datasets),
    image_set="|".join(map(re.escape, IMAGE_SETS)),
    method="|".join(CONFIG.evaluation.baselines) or "none",
    root="|".join(re.escape(dataset.root) for dataset in CONFIG.datasets.values()),


@cache_calls
def code(*parts):
    """What stands in the source files that a stage's outcome depends on, as a param of its rule.

    As inputs they would be a dozen files for each of thousands of jobs, and newer than all results
    after a checkout.
    """
    files = sorted(path for part in parts for path in (SOURCE / "mmqsa").glob(part))
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
