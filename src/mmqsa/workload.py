"""How much work a stage is, before anything is run: for a scheduler's limits, and for a plan.

From the config alone, within a factor of two or so: the seconds per image are of 42 settings on 1,210
photographs, on a core of an Intel Xeon; benchmarks/run.py measures operations a second.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mmqsa.config.data import BackboneConfig, DatasetConfig
from mmqsa.config.workflow import Config

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


def images(dataset: DatasetConfig, split: str) -> int:
    """Images of a split; of a split that nobody knows, the largest."""
    if dataset.kind == "scenes":
        sizes = {"train": dataset.scenes.train, "val": dataset.scenes.val}
        return sizes.get(split.removeprefix("detection-"), sum(sizes.values()))
    known = IMAGES[dataset.kind]
    return known.get(split, max(known.values()))


def patches(backbone: BackboneConfig) -> int:
    """P: patches of the square."""
    found = re.search(r"patch(\d+)", backbone.name)
    return (backbone.image_size // int(found[1] if found else 16)) ** 2


def width(backbone: BackboneConfig) -> int:
    """D: features of a patch."""
    return next((size for word, size in WIDTHS.items() if word in backbone.name), 768)


def feature_megabytes(config: Config, number: int) -> int:
    """Of the keys of ``number`` images in float16."""
    return 2 * number * patches(config.backbone) * width(config.backbone) // MEGABYTE


def extraction(config: Config, number: int, gpu: bool) -> Work:
    """Of a feature cache of ``number`` images."""
    tokens, size = patches(config.backbone) + 1, width(config.backbone)
    blocks = next((n for word, n in BLOCKS.items() if word in config.backbone.name), 12)
    network = blocks * (24 * tokens * size**2 + 4 * tokens**2 * size)
    batch = config.backbone.batch_size * config.backbone.image_size**2 * 12 * 30 // MEGABYTE
    annotations = number * COCO_IMAGE // MEGABYTE if config.dataset.kind == "coco" else 0
    memory = LIBRARIES + CUDA * gpu + 500 + batch + annotations
    return Work(number * network, 0.005 * number, memory)


def training(config: Config, number: int, gpu: bool) -> Work:
    """Of a run on ``number`` images: forward and twice that for backward."""
    slots, budget = config.slots, config.training
    seen = patches(config.backbone)
    decoded = min(seen, config.decoder.patches_per_step or seen)
    heads = slots.num_heads if budget.heads_per_step == "all" else 1
    image = _slots(config) + _decoding(config, decoded)
    # A GPU holds its own activations. Keys that find no room in memory are mapped: less would do.
    held = 4 * budget.batch_size * heads * slots.num_slots * decoded * config.decoder.hidden_dim
    activations = 0 if gpu else 14 * held // MEGABYTE
    keys = min(2 * feature_megabytes(config, number), 32_000)
    flop = 3 * budget.steps * budget.batch_size * heads * image
    return Work(flop, 0, LIBRARIES + CUDA * gpu + activations + keys)


def similarity(config: Config, number: int, gpu: bool) -> Work:
    """Of the learned matching: every head's slots of a step's images, and small gradients."""
    learned = config.matching.similarity
    seen = learned.steps * learned.batch_size
    keys = min(2 * feature_megabytes(config, number), 32_000)
    decoded = 3 * _decoding(config, config.decoder.patches_per_step or patches(config.backbone))
    flop = seen * (config.slots.num_heads * _slots(config) + decoded)
    return Work(flop, 0.002 * seen, LIBRARIES + CUDA * gpu + 1000 + keys)


def scoring(
    config: Config,
    number: int,
    gpu: bool,
    matchings: int,
    sources: Sequence[str],
    others: int = 0,
) -> Work:
    """Of scoring a run on ``number`` images under as many matchings, its masks from ``sources``.

    ``others``: numbers of slots or iterations that it is scored with besides its own.
    """
    evaluation = config.evaluation
    decoded = {"decoder": matchings, "decoder-masks": config.slots.num_heads}
    decodings = sum(decoded.get(source, 0) for source in sources)
    each = decodings * _decoding(config, patches(config.backbone))
    times = number * len(evaluation.seeds) * (1 + others)
    flop = times * (each + config.slots.num_heads * _slots(config))
    activations = 4 * evaluation.batch_size * config.slots.num_slots * config.decoder.hidden_dim
    memory = 3 * activations * patches(config.backbone) // MEGABYTE
    seconds = 0.002 * times * matchings * len(sources)
    return Work(flop, seconds, LIBRARIES + CUDA * gpu + 1000 + memory)


def methods(config: Config, number: int, fitted_on: int) -> Work:
    """Of another method, or of the controls, on the keys of ``number`` images."""
    options = max(len(config.evaluation.kmeans_clusters), 2)
    seconds = 0.012 * options * number * len(config.evaluation.seeds) + 0.005 * fitted_on
    return Work(0, seconds, LIBRARIES + 2000 + 3 * feature_megabytes(config, min(fitted_on, 3000)))


def _slots(config: Config) -> float:
    """Operations of one head's encoder and slot attention on one image."""
    slots, seen = config.slots, patches(config.backbone)
    encoder = 2 * seen * slots.encoder_dim * (width(config.backbone) + slots.slot_dim)
    return encoder + 4 * slots.iterations * seen * slots.num_slots * slots.slot_dim


def _decoding(config: Config, seen: int) -> float:
    """Operations that decode ``seen`` patches of one image."""
    decoder = config.decoder
    hidden = config.slots.num_slots * (decoder.layers - 1) * decoder.hidden_dim**2
    return 2 * seen * (hidden + decoder.hidden_dim * width(config.backbone))
