"""What a job asks a scheduler for, from the size of its work: minutes, MB, cores.

A second attempt gets twice as much, a third three times. `expected_seconds` is for `mmqsa plan` alone.
"""

from math import ceil

from mmqsa import work

ON_GPU = bool(GPU)
SETTINGS = {name: CONFIG.setting(name) for name in CONFIG.names}


def memory(estimate):
    """MB of the work that ``estimate(wildcards)`` tells."""
    return lambda wildcards, attempt: ceil(estimate(wildcards).memory * attempt)


def limit(estimate):
    """Minutes after which a scheduler may kill it."""
    return lambda wildcards, attempt: attempt * (
        10 + ceil(CONFIG.scheduling.margin * _minutes(estimate(wildcards)))
    )


def expected(estimate):
    """Seconds that it is expected to take."""
    return lambda wildcards: ceil(60 * _minutes(estimate(wildcards)))


def _minutes(amount):
    rates = CONFIG.scheduling
    return amount.minutes(rates.gpu_tflops if ON_GPU else rates.cpu_tflops)


def _number(image_set):
    return work.images(CONFIG.datasets[image_set.dataset], image_set.split)


TRAINED_ON, EVALUATED_ON = _number(TRAIN_SET), _number(EVAL_SET)
MOST = max(map(_number, IMAGE_SETS.values()))


def extraction(wildcards):
    image_set = ImageSet.parse(wildcards.file, wildcards.dataset)
    own = CONFIG.model_copy(update={"dataset": CONFIG.datasets[image_set.dataset]})
    return work.extraction(own, _number(image_set), ON_GPU)


def extraction_threads(wildcards):
    """Cores that decode photographs: a GPU waits for them."""
    image_set = ImageSet.parse(wildcards.file, wildcards.dataset)
    return 8 if ON_GPU and _number(image_set) > 1000 else 2


def training(wildcards):
    return work.training(SETTINGS[wildcards.setting], TRAINED_ON, ON_GPU)


def scoring(wildcards):
    number = _number(IMAGE_SETS[wildcards.image_set])
    matchings = printed("matchings", CONFIG.matching.strategies, wildcards)
    sources = printed("mask_sources", CONFIG.evaluation.mask_sources, wildcards)
    own = SETTINGS[wildcards.setting]
    return work.scoring(own, number, ON_GPU, len(matchings), sources)


@cache_calls
def _most_scoring():
    matchings, sources = CONFIG.matching.strategies, CONFIG.evaluation.mask_sources
    return work.scoring(CONFIG, MOST, ON_GPU, len(matchings), sources)


def largest_scoring(wildcards):
    """Of any setting: all jobs of an array have the limits of its first."""
    return _most_scoring()


def sweeping(wildcards):
    others = len(CONFIG.evaluation.sweep.slots + CONFIG.evaluation.sweep.iterations)
    sources = CONFIG.evaluation.mask_sources
    return work.scoring(CONFIG, EVALUATED_ON, ON_GPU, 1, sources, others)


def agreeing(wildcards):
    """Slots alone: nothing is decoded."""
    return work.scoring(CONFIG, EVALUATED_ON, ON_GPU, 1, ["attention"])


def method(wildcards):
    return work.methods(CONFIG, _number(IMAGE_SETS[wildcards.image_set]), TRAINED_ON)


def largest_method(wildcards):
    return work.methods(CONFIG, MOST, TRAINED_ON)


def learning_similarity(wildcards):
    return work.similarity(SETTINGS[wildcards.setting], TRAINED_ON, ON_GPU)
