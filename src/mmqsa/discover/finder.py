"""A trained run and its backbone, from an image of any size to the masks of its objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import label
from torch import Tensor

from mmqsa.config.data import BackboneConfig
from mmqsa.config.evaluation import MaskSource, MatchingName
from mmqsa.config.training import RunConfig
from mmqsa.data.geometry import Geometry
from mmqsa.device import choose_device, computing_in
from mmqsa.discover.photographs import as_rgb
from mmqsa.errors import InputError
from mmqsa.evaluation.metrics import boxes
from mmqsa.evaluation.scoring import winning_slots
from mmqsa.features.backbone import FrozenViT, load_backbone
from mmqsa.features.cache import NETWORK_ATTRIBUTES
from mmqsa.features.extract import cache_attributes, normalise
from mmqsa.model.inference import Discoverer
from mmqsa.training.run import Run

MOST = 255  # objects
BACKBONE = "backbone"  # with any suffix, in a run's folder: its weights, wherever that goes


@dataclass
class Found:
    """The objects of one image of h x w pixels, the largest first.

    ``labels`` (h, w) uint8: 0 is background, m is object m. The background is the slot that covers
    most of the image's border; it is no object. ``scores`` (M,) are 0..1: the mean over an object's
    pixels of its slot's mask, which at each pixel sums to 1 over slots. ``boxes`` (M, 4) are tight:
    x0 y0 x1 y1 in px, x1 and y1 exclusive. ``background_score`` is the background's.
    """

    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    background_score: float

    @property
    def masks(self) -> np.ndarray:
        """Of every object: (M, h, w) bool."""
        return self.labels == np.arange(1, len(self.scores) + 1)[:, None, None]

    @property
    def areas(self) -> np.ndarray:
        """Of the background and of every object: (1 + M,) px."""
        return np.bincount(self.labels.ravel(), minlength=len(self.scores) + 1)


class Finder:
    """Finds objects in images; called with one image, or with a list of them.

    An image is squashed to the square that the backbone takes, so that all of it is seen, and masks
    are drawn at its own size. Slot noise is the same for every image: an image's masks do not
    depend on what else is asked for.
    """

    def __init__(
        self,
        run: Run,
        backbone: FrozenViT,
        device: torch.device,
        mask_source: MaskSource = "attention",
        matching: MatchingName = "hungarian",
        slots: int | None = None,
        smallest: float = 0.0,
        split: bool = False,
    ):
        """``slots``: other than the run was trained with; fewer give larger parts.

        ``smallest``: share of the image, 0..1, below which an object counts as background.
        ``split``: every connected part of a slot is an object of its own.

        Raises InputError for the matching ``learned`` where the run has no learned similarity.
        """
        if matching == "learned" and run.similarity is None:
            raise InputError("matching learned: this run has no learned similarity; choose another")
        self.backbone, self.device = backbone, device
        self.source, self.matching = mask_source, matching
        self.smallest, self.split = smallest, split
        self.geometry = Geometry("squash", run.config.backbone.image_size)
        self.precision = run.config.backbone.precision
        self.backbone.network.to(device)
        projection = None if run.similarity is None else run.similarity.to(device)
        self.discoverer = Discoverer(run.model.to(device), slots, projection=projection)
        self.noise = self.discoverer.noise(1, torch.Generator().manual_seed(0)).to(device)

    def __call__(self, images: Image.Image | Sequence[Image.Image]) -> Found | list[Found]:
        """PIL images of any size and mode -> what is found in each."""
        if isinstance(images, Image.Image):
            return self([images])[0]
        photographs = [as_rgb(image) for image in images]
        masks = self._masks([self.geometry.image(image) for image in photographs])
        return [
            objects(own, *image.size, self.smallest, self.split)
            for own, image in zip(masks, photographs, strict=True)
        ]

    @torch.inference_mode()
    def _masks(self, squares: list[np.ndarray]) -> Tensor:
        """Squares (S, S, 3) uint8 -> masks (B, K, N)."""
        images = normalise(squares, self.backbone, self.device)
        with computing_in(self.precision, self.device):
            keys = self.backbone.features(images).half()  # as they are cached
        noise = self.noise.expand(-1, len(keys), -1, -1)
        found = self.discoverer.run_heads_from(noise, keys)
        first = torch.zeros(len(keys), dtype=torch.int64, device=self.device)
        return self.discoverer.discover(found, first, self.matching, [self.source])[self.source]


def objects(
    masks: Tensor, width: int, height: int, smallest: float = 0.0, split: bool = False
) -> Found:
    """The masks (K, N) of one image -> its objects at ``width`` x ``height`` px.

    At most 255 are kept, the largest: a label map has no more.
    """
    won, value = (own[0].cpu().numpy() for own in winning_slots(masks[None], height, width))
    border = np.concatenate([won[[0, -1]].ravel(), won[1:-1, [0, -1]].ravel()])
    background = np.bincount(border, minlength=len(masks)).argmax()
    parts = np.zeros(won.shape, dtype=np.int32)  # 0 background, then candidates for objects
    for slot in np.unique(won[won != background]):
        found = label(won == slot)[0] if split else won == slot
        parts = np.where(found, parts.max() + found, parts)
    areas, totals = np.bincount(parts.ravel()), np.bincount(parts.ravel(), value.ravel())
    kept = 1 + np.flatnonzero(areas[1:] >= max(1, smallest * won.size))
    kept = kept[np.argsort(-areas[kept], kind="stable")][:MOST]
    number = np.zeros(len(areas), dtype=np.uint8)  # of parts that are no object: 0
    number[kept] = np.arange(1, len(kept) + 1)
    labels = number[parts]
    rest = number == 0
    return Found(
        labels=labels,
        scores=totals[kept] / areas[kept],
        boxes=boxes(labels),
        background_score=float(totals[rest].sum() / max(areas[rest].sum(), 1)),
    )


def load(
    run: str | Path,
    device: str = "auto",
    backbone: str | Path | None = None,
    mask_source: MaskSource = "attention",
    matching: MatchingName = "hungarian",
    slots: int | None = None,
    smallest: float = 0.0,
    split: bool = False,
) -> Finder:
    """A run's folder, ready for images; see Finder for the options.

    ``backbone`` names a file of the backbone's weights; else they are the run folder's own
    (``mmqsa export`` puts them there), else those that the run's config name. Raises InputError
    when they are not the ones that the run was trained on.
    """
    folder = Path(run)
    trained = Run.load(folder)
    network, _ = run_backbone(folder, trained, backbone)
    chosen = choose_device(device)
    return Finder(trained, network, chosen, mask_source, matching, slots, smallest, split)


def run_backbone(
    folder: Path, run: Run, file: str | Path | None = None
) -> tuple[FrozenViT, BackboneConfig]:
    """The backbone that a run was trained on, and the config that made it here.

    From ``file``, else from the run folder's own, else as the run's config say.
    """
    config = run.config
    file = file or next(folder.glob(f"{BACKBONE}.*"), None)
    if file is not None:
        changed = config.backbone.model_copy(update={"weights": str(file)})
        config = config.model_copy(update={"backbone": changed})
    network = load_backbone(config.backbone)
    _check_backbone(network, config, run, folder)
    return network, config.backbone


def _check_backbone(network: FrozenViT, config: RunConfig, run: Run, folder: Path) -> None:
    """The features must be those that the run was trained on."""
    trained_on = run.provenance["cache"]
    here = cache_attributes(network, config, split="", ids=[])
    if trained_on["weights_sha256"] == network.state_sha256:  # the same tensors in another file
        here["weights_sha256"] = network.state_sha256
    for name in NETWORK_ATTRIBUTES:
        if here[name] != trained_on.get(name):
            raise InputError(
                f"{config.backbone.weights or folder}: the backbone's {name} is {here[name]!r}, "
                f"but the run was trained on {trained_on.get(name)!r}; name its own weights "
                "(--backbone), and leave its config as they are"
            )
