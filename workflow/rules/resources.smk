"""What a job asks a scheduler for, from the size of its work: minutes, MB, cores.

A second attempt gets twice as much, a third three times. `mmqsa plan` alone reads `expected_seconds`.
"""

from math import ceil
from operator import attrgetter

from snakemake.logging import logger

from mmqsa import workload
from mmqsa.data.present import check_split, present_images
from mmqsa.gpus import num_gpus


def on_a_cluster():
    """Whether jobs go to other machines, which a dry run does not say: `-j` alone is this one."""
    asked = {argument.partition("=")[0] for argument in sys.argv}
    profile = asked & {"-e", "--executor", "--profile", "--workflow-profile"}
    return workflow.resource_settings.nodes is not None and bool(
        profile or not asked & {"-j", "--jobs"}
    )


# Whether jobs compute on a GPU: on a machine without one they do not, whatever they ask for.
ON_GPU = bool(GPU) and (on_a_cluster() or num_gpus() > 0)
SETTING_CONFIGS = {name: CONFIG.setting(name) for name in CONFIG.names}


def memory(estimate):
    """MB of the work that ``estimate(wildcards)`` returns."""
    return lambda wildcards, attempt: ceil(estimate(wildcards).memory * attempt)


def limit(estimate):
    """Minutes after which a scheduler may kill it."""
    return lambda wildcards, attempt: attempt * (
        10 + ceil(CONFIG.scheduling.margin * _minutes(estimate(wildcards)))
    )


def expected(estimate):
    """Seconds that it is expected to take."""
    return lambda wildcards: ceil(60 * _minutes(estimate(wildcards)))


def _minutes(work):
    rates = CONFIG.scheduling
    return work.minutes(rates.gpu_tflops if ON_GPU else rates.cpu_tflops)


@cache
def counted(dataset, split):
    """How many images a split has, and by what: those that are there, else the official number."""
    config = CONFIG.datasets[dataset]
    if config.kind == "scenes":
        return workload.num_images(config, split), "made scenes"
    if found := present_images(config, split):
        return found[0], f"counted in {found[1]}"
    return workload.num_images(config, split), "the official number, for none are here yet"


def num_images(image_set):
    """How many images a set has."""
    return counted(image_set.dataset, image_set.split)[0]


for image_set in (TRAIN_SET, *IMAGE_SETS.values()):
    if CONFIG.datasets[image_set.dataset].kind == "scenes":
        continue
    try:
        check_split(CONFIG.datasets[image_set.dataset], image_set.split)
    except InputError as error:
        printing = [
            f"{name}: null"
            for name, table in PRINTED.items()
            if image_set in chain(*CONFIG.image_sets(table).values())
        ]
        without = (
            f", or print no table of it: tables: {{{', '.join(printing)}}}" if printing else ""
        )
        raise WorkflowError(f"{error}{without}") from None


TRAINED_ON, EVALUATED_ON = num_images(TRAIN_SET), num_images(EVAL_SET)
LARGEST = max(map(num_images, IMAGE_SETS.values()))
# `mmqsa plan` reads these two lines.
logger.info(f"computes on: {'GPU' if ON_GPU else 'CPU'}")
logger.info(
    "images: "
    + "; ".join(
        "{}/{} {:,} ({})".format(*split, *counted(*split))
        for split in dict.fromkeys(
            (one.dataset, one.split) for one in (TRAIN_SET, *IMAGE_SETS.values())
        )
    )
)


def backbone_of(image_set):
    """The backbone; for photographs at their own size, that of squares with as many patches."""
    if image_set.geometry != "native":
        return CONFIG.backbone
    return workload.at_own_size(CONFIG.backbone, CONFIG.datasets[image_set.dataset])


def on_images(config, image_set):
    """A config as it is on an image set."""
    return config.model_copy(update={"backbone": backbone_of(image_set)})


def extraction(wildcards):
    image_set = ImageSet.parse(wildcards.file, wildcards.dataset)
    config = on_images(with_dataset(wildcards.dataset), image_set)
    return workload.extraction(config, num_images(image_set), ON_GPU)


def extraction_threads(wildcards):
    """Cores that decode photographs: a GPU waits for them."""
    image_set = ImageSet.parse(wildcards.file, wildcards.dataset)
    return 8 if ON_GPU and num_images(image_set) > 1000 else 2


def training(wildcards):
    return workload.training(SETTING_CONFIGS[wildcards.setting], TRAINED_ON, ON_GPU)


def learning_similarity(wildcards):
    run, similarity = SETTING_CONFIGS[wildcards.setting], CONFIG.matching.similarity
    return workload.merging(run, similarity, TRAINED_ON, ON_GPU)


def learning_fusion(wildcards):
    run, fusion = SETTING_CONFIGS[wildcards.setting], CONFIG.matching.fusion
    return workload.merging(run, fusion, TRAINED_ON, ON_GPU)


def score(run, images, matchings, sources, others=0):
    return workload.scoring(run, CONFIG.evaluation, images, ON_GPU, matchings, sources, others)


def scoring(wildcards):
    image_set = IMAGE_SETS[wildcards.image_set]
    run, images = (
        on_images(SETTING_CONFIGS[wildcards.setting], image_set),
        num_images(image_set),
    )
    return score(run, images, printed("matchings", wildcards), printed("mask_sources", wildcards))


# All jobs of a SLURM array have the limits of its first: those of the largest job of the rule.
@cache
def _largest_scoring():
    sources, matchings = CONFIG.evaluation.mask_sources, CONFIG.matching.strategies
    every = [score(run, LARGEST, matchings, sources) for run in SETTING_CONFIGS.values()]
    return workload.Workload(
        *(max(map(attrgetter(name), every)) for name in ("flop", "seconds", "memory"))
    )


def largest_scoring(wildcards):
    return _largest_scoring()


def sweeping(wildcards):
    sweep, sources = CONFIG.evaluation.sweep, CONFIG.evaluation.mask_sources
    others = len(sweep.num_slots) + len(sweep.iterations)
    return score(CONFIG, EVALUATED_ON, sweep.strategies, sources, others)


def sweeping_most_slots(wildcards):
    """The value that takes the most memory."""
    most = max(CONFIG.slots.num_slots, *CONFIG.evaluation.sweep.num_slots)
    run = CONFIG.model_copy(update={"slots": CONFIG.slots.model_copy(update={"num_slots": most})})
    return score(run, EVALUATED_ON, [], [])


def scoring_snapshots(wildcards):
    run, sources = SETTING_CONFIGS[wildcards.setting], CONFIG.evaluation.mask_sources
    others = len(run.training.snapshots)
    return score(run, EVALUATED_ON, ["hungarian"], sources, others)


def agreeing(wildcards):
    """Slots alone: nothing is decoded."""
    return score(CONFIG, EVALUATED_ON, ["hungarian"], ["attention"])


def reference(image_set):
    return workload.reference(
        CONFIG.backbone,
        CONFIG.evaluation,
        num_images(image_set),
        TRAINED_ON,
        backbone_of(image_set),
    )


def method(wildcards):
    return reference(IMAGE_SETS[wildcards.image_set])


@cache
def _largest_method():
    return max(map(reference, IMAGE_SETS.values()), key=lambda work: work.seconds)


def largest_method(wildcards):
    return _largest_method()


def all_masks(wildcards):
    return workload.page(EVALUATED_ON)


def whole_cache(wildcards):
    return workload.premise(CONFIG.backbone, EVALUATED_ON)
