"""How much work a stage is, before anything runs: for a scheduler's limits, and for a plan.

From the config alone, within a factor of two or so: the seconds per image are of 42 settings on
1,210 photographs, on a core of an Intel Xeon; benchmarks/run.py measures operations per second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

from mmqsa.config.data import BackboneConfig, DatasetConfig, ExtractionConfig
from mmqsa.config.evaluation import EvaluationConfig, FusionConfig, SimilarityConfig
from mmqsa.config.networks import Network
from mmqsa.config.training import RunConfig

# Official splits; a folder of another kind is assumed to be no larger.
IMAGES = {
    "voc": {
        **{"train": 1464, "val": 1449, "trainval": 2913, "trainaug": 10582, "all-but-val": 15676},
        **{"detection-train": 5717, "detection-val": 5823, "detection-trainval": 11540},
    },
    "voc2007": {
        **{"train": 209, "val": 213, "trainval": 422, "all-but-val": 4798},
        **{"detection-train": 2501, "detection-val": 2510, "detection-trainval": 5011},
    },
    "coco": {"train": 118_287, "val": 5_000},
    "coco20k": {"train": 19_817},
}
# Photographs, px: most of VOC and COCO have about this size, and none has twice its patches.
PHOTOGRAPHS = {"voc": (500, 375), "voc2007": (500, 375), "coco": (640, 480), "coco20k": (640, 480)}
UNKNOWN = Network(patch=16, dim=768, depth=12)  # of another version of timm
MEGABYTE = 1 << 20
START = 8  # seconds: Python, torch, the weights
LIBRARIES, CUDA = 1000, 3000  # MB
LABELS_KEPT = 600_000_000  # px that mmqsa.evaluation.scoring keeps prepared
COCO_IMAGE = 30_000  # bytes of an image's annotations in memory: 3.5 GB for 860,001 made ones


@dataclass(frozen=True)
class Workload:
    """Of one job: floating-point operations, further seconds on a CPU, MB of memory."""

    flop: float
    seconds: float
    memory: int

    def minutes(self, teraflops: float) -> float:
        """Expected minutes at ``teraflops`` (10^12 operations per second), the start included."""
        return (self.flop / (teraflops * 1e12) + self.seconds + START) / 60


def num_images(dataset: DatasetConfig, split: str) -> int:
    """Images of a split; for an unknown split, those of the largest."""
    if dataset.kind == "scenes":
        sizes = {"train": dataset.scenes.train, "val": dataset.scenes.val}
        return sizes.get(split.removeprefix("detection-"), sum(sizes.values()))
    known = IMAGES[dataset.kind]
    return known.get(split, max(known.values()))


def num_patches(backbone: BackboneConfig) -> int:
    """N: patches of the square."""
    return (backbone.image_size // _network(backbone).patch) ** 2


def _network(backbone: BackboneConfig) -> Network:
    return backbone.network or UNKNOWN


def at_own_size(backbone: BackboneConfig, dataset: DatasetConfig) -> BackboneConfig:
    """The backbone of squares that have about as many patches as photographs at their own size."""
    side, patch = dataset.scenes.side, _network(backbone).patch
    width, height = PHOTOGRAPHS.get(dataset.kind, (round(1.2 * side), side))
    square = ceil(sqrt(width * height) / patch) * patch
    return backbone.model_copy(update={"image_size": square})


def network_dim(backbone: BackboneConfig) -> int:
    """Features of a patch in one block."""
    return _network(backbone).dim


def feature_dim(backbone: BackboneConfig) -> int:
    """D: features of a patch, of all blocks."""
    several = len(backbone.blocks) if backbone.combine == "concatenate" else 1
    return several * network_dim(backbone)


def feature_megabytes(backbone: BackboneConfig, images: int) -> int:
    """Size of the features of ``images`` images in float16, MB."""
    return 2 * images * num_patches(backbone) * feature_dim(backbone) // MEGABYTE


def extraction(config: ExtractionConfig, images: int, gpu: bool) -> Workload:
    """A feature cache of ``images`` images."""
    backbone = config.backbone
    tokens, dim = num_patches(backbone) + 1, network_dim(backbone)
    depth = _network(backbone).depth
    last = max(block % depth for block in backbone.blocks)
    network = (last + 1) * (24 * tokens * dim**2 + 4 * tokens**2 * dim)
    batch = backbone.batch_size * backbone.image_size**2 * 12 * 30 // MEGABYTE
    annotated = {"coco": images, "coco20k": 82_783}.get(config.dataset.kind, 0)  # read whole
    annotations = annotated * COCO_IMAGE // MEGABYTE
    memory = LIBRARIES + CUDA * gpu + 500 + batch + annotations
    return Workload(images * network, 0.005 * images, memory)


def training(config: RunConfig, images: int, gpu: bool) -> Workload:
    """A run on ``images`` images: forward, and twice that for backward."""
    budget, patches = config.training, num_patches(config.backbone)
    decoded = min(patches, config.decoder.patches_per_step or patches)
    heads = config.slots.num_heads if budget.heads_per_step == "all" else 1
    step = budget.batch_size * heads
    hidden = 4 * step * _decoder_width(config) * decoded
    # A GPU holds its own activations. Features that do not fit into memory are mapped.
    activations = 0 if gpu else 14 * hidden // MEGABYTE
    features = min(2 * feature_megabytes(config.backbone, images), 32_000)
    attention = _attention_flop(config, _encoded_patches(config))
    together = config.slots.num_heads if budget.heads_per_step == "merged" else 1
    flop = 3 * budget.steps * step * (together * attention + _decoder_flop(config, decoded))
    return Workload(flop, 0, LIBRARIES + CUDA * gpu + activations + features)


def merging(
    config: RunConfig, learned: SimilarityConfig | FusionConfig, images: int, gpu: bool
) -> Workload:
    """What merges heads: every head's slots of a step's images, and small gradients."""
    seen = learned.steps * learned.batch_size
    features = min(2 * feature_megabytes(config.backbone, images), 32_000)
    decoded = config.decoder.patches_per_step or num_patches(config.backbone)
    flop = config.slots.num_heads * _attention_flop(config) + 3 * _decoder_flop(config, decoded)
    return Workload(seen * flop, 0.002 * seen, LIBRARIES + CUDA * gpu + 1000 + features)


def scoring(
    config: RunConfig,
    evaluation: EvaluationConfig,
    images: int,
    gpu: bool,
    matchings: Sequence[str],
    sources: Sequence[str],
    others: int = 0,
) -> Workload:
    """Scoring a run on ``images`` images under ``matchings``, with masks from ``sources``.

    ``others``: how many other values of slots or iterations it is scored with as well.
    """
    patches, heads = num_patches(config.backbone), config.slots.num_heads
    decodings = {"decoder": len(matchings), "decoder-masks": heads}
    times = images * len(evaluation.seeds) * (1 + others)
    flop = sum(decodings.get(source, 0) for source in sources) * _decoder_flop(config, patches)
    hidden = 4 * evaluation.batch_size * _decoder_width(config)
    labels = 2 * min(images * config.backbone.image_size**2, LABELS_KEPT)
    activations = 3 * hidden * patches
    memory = LIBRARIES + CUDA * gpu + 1000 + (labels + activations) // MEGABYTE
    cuts = sum(name.startswith("consensus") for name in matchings)
    cut = 0.01 * (patches / 200) ** 2  # eigenvectors of an image's graph of patches
    seconds = times * len(sources) * (0.002 * len(matchings) + cut * cuts)
    return Workload(times * (flop + heads * _attention_flop(config)), seconds, memory)


def reference(
    backbone: BackboneConfig,
    evaluation: EvaluationConfig,
    images: int,
    fitted_on: int,
    scored: BackboneConfig | None = None,
) -> Workload:
    """A baseline, or the controls, on the features of ``images`` images.

    ``scored``: of these images, where they have other grids than those it is fitted on.
    """
    options = max(len(evaluation.kmeans_clusters), 2)
    growth = (num_patches(scored or backbone) / num_patches(backbone)) ** 2.4  # TokenCut's
    seconds = 0.012 * options * growth * images * len(evaluation.seeds) + 0.005 * fitted_on
    features = feature_megabytes(backbone, min(fitted_on, 3000))
    return Workload(0, seconds, LIBRARIES + 2000 + 3 * features)


def premise(backbone: BackboneConfig, images: int) -> Workload:
    """Features of 128 images at a time, in float32 and float64, and their label maps."""
    labels = 2 * 128 * backbone.image_size**2 // MEGABYTE
    features = 10 * feature_megabytes(backbone, 128)
    return Workload(0, 0.01 * images, LIBRARIES + 500 + features + labels)


def page(images: int) -> Workload:
    """The page: label maps, scores and objects of all methods; of docs/scale.md."""
    return Workload(0, 0.3 * images, LIBRARIES + 500 + images)


def _encoded_patches(config: RunConfig) -> int:
    """Patches of an image that a training step encodes: one stands for all that are hidden."""
    patches, masking = num_patches(config.backbone), config.masking
    hidden = 0 if masking.strategy == "none" else round(masking.ratio * patches)
    return patches - max(hidden - 1, 0)


def _attention_flop(config: RunConfig, patches: int | None = None) -> float:
    """Operations of the encoder and one head's slot attention on one image of so many patches."""
    slots, dim = config.slots, feature_dim(config.backbone)
    if slots.reads == "block":
        dim = network_dim(config.backbone)
    patches = patches or num_patches(config.backbone)
    encoder = 4 * patches * slots.encoder_dim * dim
    keys_and_values = 4 * patches * dim * slots.slot_dim
    attention = 4 * slots.iterations * patches * slots.num_slots * slots.slot_dim
    return encoder + keys_and_values + attention


def _decoder_width(config: RunConfig) -> int:
    """Numbers that the decoder holds for a patch at once: an MLP's layer, or a block's."""
    decoder = config.decoder
    if decoder.kind == "transformer":
        return decoder.layers * decoder.hidden_dim
    return config.slots.num_slots * decoder.hidden_dim


def _decoder_flop(config: RunConfig, patches: int) -> float:
    """Operations that decode ``patches`` patches of one image."""
    decoder, dim = config.decoder, config.decoder.hidden_dim
    ends = dim * feature_dim(config.backbone)
    if decoder.kind == "transformer":
        # Projections of the two attentions and the MLP, and every patch with every patch: the half
        # that is hidden is counted, as PyTorch does.
        block = (4 + 2 + 8) * dim**2 + 2 * patches * dim + 2 * config.slots.num_slots * dim
        return 2 * patches * (2 * ends + decoder.layers * block)
    return 2 * patches * (config.slots.num_slots * (decoder.layers - 1) * dim**2 + ends)
