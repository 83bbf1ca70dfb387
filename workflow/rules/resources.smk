"""What a job asks a scheduler for, from the size of its work: minutes, MB, cores.

A second attempt gets twice as much. `expected_minutes` is for `mmqsa plan` alone.
"""

from math import ceil

from mmqsa import work

ON_GPU = bool(GPU)


def memory(estimate):
    """MB of the work that ``estimate(wildcards)`` tells."""
    return lambda wildcards, attempt: ceil(estimate(wildcards).memory * attempt)


def limit(estimate):
    """Minutes after which a scheduler may kill it."""
    return lambda wildcards, attempt: attempt * (
        10 + ceil(CONFIG.scheduling.margin * _minutes(estimate(wildcards)))
    )


def expected(estimate):
    """Minutes that it is expected to take, at least one."""
    return lambda wildcards: ceil(_minutes(estimate(wildcards)))


def _minutes(amount):
    rates = CONFIG.scheduling
    return amount.minutes(rates.gpu_tflops if ON_GPU else rates.cpu_tflops)


def _number(image_set):
    return work.images(CONFIG.datasets[image_set.dataset], image_set.split)


TRAINED_ON, EVALUATED_ON = _number(TRAIN_SET), _number(EVAL_SET)
MOST = max(map(_number, IMAGE_SETS.values()))


def extraction(wildcards):
    image_set = ImageSet.parse(wildcards.file, wildcards.dataset)
    return work.extraction(CONFIG, _number(image_set), ON_GPU)


def extraction_threads(wildcards):
    """Cores that decode photographs: a GPU waits for them."""
    image_set = ImageSet.parse(wildcards.file, wildcards.dataset)
    return 8 if ON_GPU and _number(image_set) > 1000 else 2


def training(wildcards):
    return work.training(CONFIG.setting(wildcards.setting), TRAINED_ON, ON_GPU)


def scoring(wildcards):
    number = _number(IMAGE_SETS[wildcards.image_set])
    return work.scoring(CONFIG.setting(wildcards.setting), number, ON_GPU)


def largest_scoring(wildcards):
    """The same of the largest image set: all jobs of an array have the limits of its first."""
    return work.scoring(CONFIG, MOST, ON_GPU)


def sweeping(wildcards):
    others = CONFIG.evaluation.sweep.slots + CONFIG.evaluation.sweep.iterations
    return work.scoring(CONFIG, EVALUATED_ON, ON_GPU, len(others))


def largest_method(wildcards):
    return work.methods(CONFIG, MOST, TRAINED_ON)


def learning_similarity(wildcards):
    """Of the learned matching: an inference and its gradient a step."""
    learned = CONFIG.matching.similarity
    return work.scoring(CONFIG, 4 * learned.steps * learned.batch_size, ON_GPU)
