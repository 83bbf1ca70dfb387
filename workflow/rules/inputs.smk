"""The functions behind the rules' inputs and params, file by file."""

from dataclasses import replace

from mmqsa.config.evaluation import LEARNED
from mmqsa.config.methods import read_methods
from mmqsa.page.spec import make_spec, page_spec
from mmqsa.reporting.inputs import figure_inputs, figures, table_inputs
from mmqsa.reporting.results import table_spec

DATASET_OF_ROOT = {dataset.root: name for name, dataset in CONFIG.datasets.items()}


# config.smk


def config_text(wildcards):
    """The YAML text of a stage's config file, of a setting's, or of a table's spec."""
    folder, _, name = wildcards.name.rpartition("/")
    if folder == "tables":
        return table_spec(CONFIG, name)
    if folder == "runs":
        return dump_yaml(CONFIG.setting(name).dependencies())
    if name == "page":
        return page_spec(CONFIG)
    if folder:  # data/DATASET
        return dump_yaml(with_dataset(folder.removeprefix("data/")).stage(name).dependencies())
    return dump_yaml(CONFIG.stage(name).dependencies())


def with_dataset(name):
    """The config with another of its data sets as the main one."""
    return CONFIG.model_copy(update={"dataset": CONFIG.datasets[name]})


# data.smk


def providing_stage(wildcards):
    """The stage that provides the data set below a root."""
    kind = CONFIG.datasets[DATASET_OF_ROOT[wildcards.root]].kind
    return "scenes" if kind == "scenes" else "download"


def providing_config(wildcards):
    """The config of that stage."""
    stage = with_dataset(DATASET_OF_ROOT[wildcards.root]).stage(providing_stage(wildcards))
    return dump_yaml(stage.dependencies())


def providing_code(wildcards):
    """Synthetic scenes depend on the code that draws them; photographs do not."""
    stage = providing_stage(wildcards)
    return code("mmqsa.cli.pipeline:scenes") if stage == "scenes" else ""


def part_config(wildcards):
    """The config that a part is fetched by."""
    stage = with_dataset(DATASET_OF_ROOT[wildcards.root]).stage("part")
    return dump_yaml(stage.dependencies())


# features.smk


def image_set_of(wildcards):
    """The image set that a cache is named after."""
    return ImageSet.parse(wildcards.file, wildcards.dataset)


def receipt(wildcards):
    """The file that says that the photographs are there."""
    return f"{CONFIG.datasets[wildcards.dataset].root}/receipt.json"


def part_receipts(wildcards):
    """The same of what the split needs besides."""
    dataset = CONFIG.datasets[wildcards.dataset]
    parts = dataset.parts_of(image_set_of(wildcards).split)
    return [f"{dataset.root}/receipt-{part}.json" for part in parts]


FETCHED = f"resources/weights/{CONFIG.backbone.name}.safetensors"


def fetched_weights(wildcards):
    """The weights that timm downloads, where the config names no others.

    Ancient: a cache says which weights it was made with, and needs no file of them once it is whole.
    """
    backbone = CONFIG.backbone
    return [] if backbone.weights or not backbone.pretrained else ancient(FETCHED)


def weights_config(wildcards):
    """The config that they are fetched by."""
    return dump_yaml(CONFIG.stage("weights").dependencies())


# evaluation.smk


def evaluated(wildcards):
    """The feature cache of the images that are scored."""
    return cached(IMAGE_SETS[wildcards.image_set])


def run_and_features(wildcards):
    """A run and the features that it is scored on."""
    return trained(PATHS.run(wildcards.setting, wildcards.seed)) | evaluated(wildcards)


def evaluation_input(wildcards):
    """The same, with what was learned to merge heads by where a table prints that matching."""
    files = run_and_features(wildcards) | {"config": str(PATHS.stage_config("evaluation"))}
    return files | learned(wildcards, printed("matchings", wildcards))


def learned(wildcards, matchings):
    """What was learned on a run for some of the matchings."""
    run = PATHS.run(wildcards.setting, wildcards.seed)
    files = {"learned": ("similarity", SIMILARITY), "fusion": ("fusion", FUSION)}
    return {
        name: str(run / file) for matching, (name, file) in files.items() if matching in matchings
    }


def sweep_input(wildcards):
    files = run_and_features(wildcards) | {"config": str(PATHS.stage_config("sweep"))}
    return files | learned(wildcards, CONFIG.evaluation.sweep.strategies)


def snapshots_input(wildcards):
    run = PATHS.run(wildcards.setting, wildcards.seed)
    return run_and_features(wildcards) | {
        "config": str(PATHS.stage_config("evaluation")),
        "snapshots": ancient(str(run / SNAPSHOTS)),
    }


def printed(what, wildcards):
    """The matchings or mask sources of these scores that some table prints; else the first."""
    known = {
        "matchings": CONFIG.matching.strategies,
        "mask_sources": CONFIG.evaluation.mask_sources,
    }[what]
    tables = CONFIG.tables_with(wildcards.setting, IMAGE_SETS[wildcards.image_set])
    names = {name for table in tables for name in getattr(table, what)}
    if what == "matchings" and SETTING_CONFIGS[wildcards.setting].slots.num_heads == 1:
        names -= LEARNED  # from several heads
    return [name for name in known if name in names] or known[:1]


def evaluation_options(wildcards, input):
    matchings, sources = printed("matchings", wildcards), printed("mask_sources", wildcards)
    return " ".join(
        [option("--config", input.config)]
        + [option("--matching", name) for name in matchings]
        + [option("--mask-source", name) for name in sources]
    )


def train_cache(image_set=TRAIN_SET):
    """The features of the training set, beside those that are scored."""
    return {f"train_{name}": path for name, path in cached(image_set).items()}


def baseline_input(wildcards):
    """The features that are scored, and those of the training set, to standardise by."""
    return evaluated(wildcards) | train_cache() | {"config": str(PATHS.stage_config("baselines"))}


def controls_input(wildcards):
    """The same; controls are fitted where the training set has labels that fit the images.

    Boxes of squashed images are stretched over photographs at their own size.
    """
    files = evaluated(wildcards) | {"config": str(PATHS.stage_config("controls"))}
    variant = IMAGE_SETS[wildcards.image_set].variant
    fitting = replace(TRAIN_SET, variant="squash" if variant == "native" else variant)
    if fitting in (TRAIN_SET, *IMAGE_SETS.values()):
        files |= train_cache(fitting)
    return files


def reference_input(wildcards):
    """What a baseline, or the controls, are made of."""
    return (controls_input if wildcards.reference == "controls" else baseline_input)(wildcards)


# reporting.smk

try:
    # Tables, figures and the page list methods of other code that are scored in the results folder.
    read_methods(PATHS)
except InputError as error:
    raise WorkflowError(str(error)) from None


def table_files(wildcards):
    """The metrics files and records that a table reads."""
    return [str(path) for path in table_inputs(CONFIG, wildcards.table, PATHS)]


def figure_files(wildcards):
    """The metrics files and records that a figure reads."""
    files = figure_inputs(CONFIG, wildcards.table, wildcards.kind, PATHS)
    return [str(path) for path in files]


def page_files():
    """The files that the explorer reads, the records of all runs, and the page's own parts."""
    spec = make_spec(CONFIG)
    records = [
        str(PATHS.run(name, seed) / PROVENANCE)
        for name, seeds in spec.trained.items()
        for seed in seeds
    ]
    parts = [*SOURCE.glob("mmqsa/page/static/*"), *SOURCE.glob("mmqsa/page/*.jinja")]
    return [*map(str, spec.files(PATHS)), *records, *map(str, sorted(parts))]


# One label each: of two the report makes switches, which break where a combination is missing.
def table_labels(wildcards):
    return {"table": CONFIG.tables[wildcards.table].caption}


def figure_labels(wildcards):
    return {"figure": f"{wildcards.table}: {wildcards.kind}"}


def gallery_labels(wildcards):
    return {"figure": wildcards.gallery}


def table_category(wildcards):
    """The section of the report that a table is in."""
    kind = CONFIG.tables[wildcards.table].kind
    tests = ("claims", "seeds", "diagnosis", "comparisons", "leaderboard")
    verdicts = dict.fromkeys(tests, "Verdicts")
    return (verdicts | dict.fromkeys(("compute", "provenance"), "Runs")).get(kind, "Metrics")
