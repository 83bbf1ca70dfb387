"""How much work a stage is, before anything is run: for a scheduler's limits, and for a plan.

From settings alone, within a factor of two or so: the seconds per image are of 42 settings on 1,210
photographs, on a core of an Intel Xeon; benchmarks/run.py measures operations a second.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mmqsa.settings import Backbone, Dataset, Settings

# Official splits; a folder of one's own is taken for no larger.
IMAGES = {
    "voc": {
        **{"train": 1464, "val": 1449, "trainval": 2913, "trainaug": 10582, "all-but-val": 15676},
        **{"detection-train": 5717, "detection-val": 5823, "detection-trainval": 11540},
    },
    "coco": {"train": 118_287, "val": 5_000},
}
WIDTHS = {"tiny": 192, "small": 384, "base": 768, "large": 1024}
BLOCKS = {"large": 24}  # the others have 12
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Work:
    """Of one job: floating-point operations, further seconds on a CPU, MB of memory."""

    flop: float
    seconds: float
    memory: int

    def minutes(self, teraflops: float) -> float:
        """Expected minutes at ``teraflops`` (10^12 operations a second), the start included."""
        return (self.flop / (teraflops * 1e12) + self.seconds + START) / 60


START = 8  # seconds: Python, torch, the weights
LIBRARIES, CUDA = 1000, 3000  # MB
COCO_IMAGE = 30_000  # bytes of an image's annotations in memory: 3.5 GB for 860,001 made ones


def images(dataset: Dataset, split: str) -> int:
    """Images of a split; of a split that nobody knows, the largest."""
    if dataset.kind == "scenes":
        sizes = {"train": dataset.scenes.train, "val": dataset.scenes.val}
        return sizes.get(split.removeprefix("detection-"), sum(sizes.values()))
    known = IMAGES[dataset.kind]
    return known.get(split, max(known.values()))


def patches(backbone: Backbone) -> int:
    """P: patches of the square."""
    found = re.search(r"patch(\d+)", backbone.name)
    return (backbone.image_size // int(found[1] if found else 16)) ** 2


def width(backbone: Backbone) -> int:
    """D: features of a patch."""
    return next((size for word, size in WIDTHS.items() if word in backbone.name), 768)


def keys_megabytes(settings: Settings, number: int) -> int:
    """Of the keys of ``number`` images in float16."""
    return 2 * number * patches(settings.backbone) * width(settings.backbone) // MEGABYTE


def extraction(settings: Settings, number: int, gpu: bool) -> Work:
    """Of a feature cache of ``number`` images."""
    tokens, size = patches(settings.backbone) + 1, width(settings.backbone)
    blocks = next((n for word, n in BLOCKS.items() if word in settings.backbone.name), 12)
    network = blocks * (24 * tokens * size**2 + 4 * tokens**2 * size)
    batch = settings.backbone.batch_size * settings.backbone.image_size**2 * 12 * 30 // MEGABYTE
    annotations = number * COCO_IMAGE // MEGABYTE if settings.dataset.kind == "coco" else 0
    memory = LIBRARIES + CUDA * gpu + 500 + batch + annotations
    return Work(number * network, 0.005 * number, memory)


def training(settings: Settings, number: int, gpu: bool) -> Work:
    """Of a run on ``number`` images: forward and twice that for backward."""
    slots, config = settings.slots, settings.training
    seen = patches(settings.backbone)
    decoded = min(seen, settings.decoder.patches_per_step or seen)
    heads = slots.heads if config.heads_per_step == "all" else 1
    image = _slots(settings) + _decoding(settings, decoded)
    # A GPU holds its own activations. Keys that find no room in memory are mapped: less would do.
    held = 4 * config.batch_size * heads * slots.number * decoded * settings.decoder.width
    activations = 0 if gpu else 14 * held // MEGABYTE
    keys = min(2 * keys_megabytes(settings, number), 32_000)
    flop = 3 * config.steps * config.batch_size * heads * image
    return Work(flop, 0, LIBRARIES + CUDA * gpu + activations + keys)


def similarity(settings: Settings, number: int, gpu: bool) -> Work:
    """Of the learned matching: every head's slots of a step's images, and small gradients."""
    learned = settings.matching.similarity
    seen = learned.steps * learned.batch_size
    keys = min(2 * keys_megabytes(settings, number), 32_000)
    decoded = 3 * _decoding(
        settings, settings.decoder.patches_per_step or patches(settings.backbone)
    )
    flop = seen * (settings.slots.heads * _slots(settings) + decoded)
    return Work(flop, 0.002 * seen, LIBRARIES + CUDA * gpu + 1000 + keys)


def scoring(
    settings: Settings,
    number: int,
    gpu: bool,
    matchings: int,
    sources: Sequence[str],
    others: int = 0,
) -> Work:
    """Of scoring a run on ``number`` images under as many matchings, its masks from ``sources``.

    ``others``: numbers of slots or iterations that it is scored with besides its own.
    """
    evaluation = settings.evaluation
    decoded = {"decoder": matchings, "decoder-masks": settings.slots.heads}
    decodings = sum(decoded.get(source, 0) for source in sources)
    each = decodings * _decoding(settings, patches(settings.backbone))
    times = number * len(evaluation.seeds) * (1 + others)
    flop = times * (each + settings.slots.heads * _slots(settings))
    activations = 4 * evaluation.batch_size * settings.slots.number * settings.decoder.width
    memory = 3 * activations * patches(settings.backbone) // MEGABYTE
    seconds = 0.002 * times * matchings * len(sources)
    return Work(flop, seconds, LIBRARIES + CUDA * gpu + 1000 + memory)


def methods(settings: Settings, number: int, fitted_on: int) -> Work:
    """Of another method, or of the controls, on the keys of ``number`` images."""
    options = max(len(settings.evaluation.kmeans_clusters), 2)
    seconds = 0.012 * options * number * len(settings.evaluation.seeds) + 0.005 * fitted_on
    return Work(0, seconds, LIBRARIES + 2000 + 3 * keys_megabytes(settings, min(fitted_on, 3000)))


def _slots(settings: Settings) -> float:
    """Operations of one head's encoder and slot attention on one image."""
    slots, seen = settings.slots, patches(settings.backbone)
    encoder = 2 * seen * slots.encoder_width * (width(settings.backbone) + slots.width)
    return encoder + 4 * slots.iterations * seen * slots.number * slots.width


def _decoding(settings: Settings, seen: int) -> float:
    """Operations that decode ``seen`` patches of one image."""
    decoder = settings.decoder
    hidden = settings.slots.number * (decoder.layers - 1) * decoder.width**2
    return 2 * seen * (hidden + decoder.width * width(settings.backbone))
