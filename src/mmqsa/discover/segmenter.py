"""Segmentation of images of any size with a trained run and its backbone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import label
from torch import Tensor

from mmqsa.config.choices import ALIKE, MaskSource, MatchingName, one_of
from mmqsa.config.data import BackboneConfig
from mmqsa.data.geometry import Geometry
from mmqsa.data.photograph import as_rgb
from mmqsa.device import choose_device, computing_in
from mmqsa.discover.refine import refined_slots
from mmqsa.errors import InputError
from mmqsa.evaluation.boxes import boxes
from mmqsa.evaluation.draws import image_draws
from mmqsa.evaluation.scoring import winning_slots
from mmqsa.features.attributes import NETWORK_ATTRIBUTES
from mmqsa.features.backbone import FrozenViT, load_backbone
from mmqsa.features.extract import cache_attributes, normalise
from mmqsa.training.run import Run

__all__ = ["Segmentation", "Segmenter", "load"]

MAX_OBJECTS = 255  # a label map is uint8
DRAWN_PIXELS = 4_000_000
BACKBONE = "backbone"  # name, with any suffix, of the backbone's weights in a run's folder


@dataclass
class Segmentation:
    """The objects of one image of h x w pixels, the largest first.

    The background is the slot that covers most of the image's border; it is no object.

    >>> labels = np.array([[0, 0, 2], [1, 1, 2], [1, 1, 0]], dtype=np.uint8)
    >>> boxes = np.array([[0.0, 1, 2, 3], [2, 0, 3, 2]])
    >>> found = Segmentation(labels, np.array([0.9, 0.8]), boxes, background_score=0.7)
    >>> found.masks.shape, found.areas
    ((2, 3, 3), array([3, 4, 2]))
    """

    labels: np.ndarray
    """(h, w) uint8: 0 is background, m is object m"""
    scores: np.ndarray
    """(M,) in 0..1: mean over an object's pixels of its slot's mask, which sums to 1 over slots"""
    boxes: np.ndarray
    """(M, 4) tight, x0 y0 x1 y1 in px, x1 and y1 exclusive"""
    background_score: float
    """the score of the background"""

    @property
    def masks(self) -> np.ndarray:
        """The mask of every object: (M, h, w) bool."""
        return self.labels == np.arange(1, len(self.scores) + 1)[:, None, None]

    @property
    def areas(self) -> np.ndarray:
        """Pixels of the background and of every object: (1 + M,)."""
        # Pillow counts without an integer of 8 bytes for every pixel.
        return np.array(Image.fromarray(self.labels).histogram()[: len(self.scores) + 1])


class Segmenter:
    """Segments images with the trained run in a folder; called with a PIL image, or a list of them.

    An image is squashed to the square that the backbone takes, so that all of it is seen, and masks
    are drawn at its own size. Slot noise and reference head are those of the evaluation seed 0 for
    the image's id; an image's masks do not depend on the other images.

    >>> segmenter = load("run")
    >>> photograph = Image.open("photo.jpg")
    >>> objects = segmenter(photograph)
    >>> objects.labels.shape == (photograph.height, photograph.width)
    True
    >>> len(objects.masks) == len(objects.boxes) == len(objects.scores)
    True
    >>> [len(found.boxes) < 2 for found in load("run", num_slots=2)([photograph] * 3)]
    [True, True, True]
    """

    def __init__(
        self,
        run: str | Path,
        device: str = "auto",
        backbone: str | Path | None = None,
        mask_source: MaskSource = "attention",
        matching: MatchingName = "hungarian",
        num_slots: int | None = None,
        alike: float = ALIKE,
        smallest: float = 0.0,
        split: bool = False,
        refine: bool = True,
    ):
        """``backbone`` names a file of the backbone's weights; else they are the run folder's own
        (``mmqsa export`` puts them there), else those that the run's config names. ``num_slots``
        None: as in training. Of these slots, the matchings ``joined`` and ``consensus-chosen``
        leave as many as an image has objects; ``alike`` is for the first (see ``join_alike``).
        ``smallest`` is the share of the image that an object has at least. ``split`` makes every
        connected part an object of its own. ``refine`` makes masks follow the edges of the image.
        Raises InputError when the weights are not the ones that the run was trained on, and when
        the run has not learned what the matching needs, and on a value that there is not.
        """
        one_of("mask_source", mask_source, MaskSource)
        one_of("matching", matching, MatchingName)
        for name, value in {"alike": alike, "smallest": smallest}.items():
            if not 0 <= value <= 1:
                raise InputError(f"{name}: {value} is no share; expected 0 to 1")
        if num_slots is not None and not 1 <= num_slots <= MAX_OBJECTS:
            raise InputError(f"num_slots: {num_slots}; expected 1 to {MAX_OBJECTS}")
        trained = Run.load(run)
        merging = trained.merging(alike, [matching])
        self.backbone, _ = run_backbone(Path(run), trained, backbone)
        self.device = choose_device(device)
        self.mask_source, self.matching = mask_source, matching
        self.smallest, self.split, self.refine = smallest, split, refine
        self.geometry = Geometry("squash", trained.config.backbone.image_size)
        self.precision = trained.config.backbone.precision
        self.backbone.network.to(self.device)
        self.model = trained.model.to(self.device)
        self.merging = merging.to(self.device)
        self.num_slots = num_slots

    @overload
    def __call__(self, images: Image.Image, image_ids: str = "") -> Segmentation: ...

    @overload
    def __call__(
        self, images: Sequence[Image.Image], image_ids: Sequence[str] = ()
    ) -> list[Segmentation]: ...

    def __call__(
        self, images: Image.Image | Sequence[Image.Image], image_ids: str | Sequence[str] = ()
    ) -> Segmentation | list[Segmentation]:
        """PIL images of any size and mode -> the segmentation of each.

        An image's id, for example the stem of its file's name, draws its slot noise and reference
        head as in the pipeline; without ids all images share one draw.
        """
        if isinstance(images, str | Path | np.ndarray):
            raise InputError(
                f"{type(images).__name__}: expected a PIL image; Image.open opens a file, and "
                "Image.fromarray takes an array"
            )
        if isinstance(images, Image.Image):
            return self([images], [str(image_ids or "")])[0]
        photographs = [as_rgb(image) for image in images]
        squares = [self.geometry.image(image) for image in photographs]
        masks = self._masks(squares, image_ids or [""] * len(squares))
        return [
            find_objects(
                image_masks, *image.size, self.smallest, self.split, image if self.refine else None
            )
            for image_masks, image in zip(masks, photographs, strict=True)
        ]

    @torch.inference_mode()
    def _masks(self, squares: list[np.ndarray], image_ids: Sequence[str]) -> Tensor:
        """Squares (S, S, 3) uint8 -> masks (B, K, N)."""
        images = normalise(squares, self.backbone, self.device)
        with computing_in(self.precision, self.device):
            features = self.backbone.features(images).half()  # as they are cached
        noise, reference = image_draws(self.model, image_ids, num_slots=self.num_slots)
        sources = [self.mask_source]
        masks = self.model.segment(
            features, noise, self.matching, sources, reference, merging=self.merging
        )
        return masks[self.mask_source]


load = Segmenter  # as its users call it


def find_objects(
    masks: Tensor,
    width: int,
    height: int,
    smallest: float = 0.0,
    split: bool = False,
    guide: Image.Image | None = None,
) -> Segmentation:
    """The masks (K, N) of one image -> its objects at ``width`` x ``height`` px.

    They follow the edges of ``guide``, the image in RGB, if it is given; split parts then have the
    size of a patch at least. Of more than 255 objects the largest are kept. A large image's objects
    are found on DRAWN_PIXELS, which is far finer than the patches, and enlarged.
    """
    if width * height > DRAWN_PIXELS:
        scale = (DRAWN_PIXELS / (width * height)) ** 0.5
        small = (max(1, int(width * scale)), max(1, int(height * scale)))
        found = find_objects(masks, *small, smallest, split, guide)
        whole = Image.fromarray(found.labels).resize((width, height), Image.Resampling.NEAREST)
        labels = np.asarray(whole)
        return replace(found, labels=labels, boxes=boxes(labels))
    if guide is None:
        won = winning_slots(masks[None], height, width)
    else:
        won = refined_slots(masks, guide.resize((width, height)))
        if split:  # specks along the edges are no parts
            smallest = max(smallest, 1 / masks.shape[1])
    slots, values = (maps.view(height, width).cpu().numpy() for maps in won)
    border = np.concatenate([slots[[0, -1]].ravel(), slots[1:-1, [0, -1]].ravel()])
    background = np.bincount(border, minlength=len(masks)).argmax()
    parts = np.zeros(slots.shape, dtype=np.int32)  # 0 background, then candidates for objects
    for slot in np.unique(slots[slots != background]):
        inside = label(slots == slot)[0] if split else slots == slot
        parts = np.where(inside, parts.max() + inside, parts)
    areas, totals = np.bincount(parts.ravel()), np.bincount(parts.ravel(), values.ravel())
    kept = 1 + np.flatnonzero(areas[1:] >= max(1, smallest * slots.size))
    kept = kept[np.argsort(-areas[kept], kind="stable")][:MAX_OBJECTS]
    label_of_part = np.zeros(len(areas), dtype=np.uint8)  # parts that are no object: 0
    label_of_part[kept] = np.arange(1, len(kept) + 1)
    labels = label_of_part[parts]
    rest = label_of_part == 0
    return Segmentation(
        labels=labels,
        scores=totals[kept] / areas[kept],
        boxes=boxes(labels),
        background_score=float(totals[rest].sum() / max(areas[rest].sum(), 1)),
    )


def run_backbone(
    folder: Path, run: Run, file: str | Path | None = None
) -> tuple[FrozenViT, BackboneConfig]:
    """The backbone that a run was trained on, and the config that made it here.

    From ``file``, else from the run folder's own, else as the run's config says. Raises InputError
    when its features are not those that the run was trained on.
    """
    config = run.config
    file = file or next(folder.glob(f"{BACKBONE}.*"), None)
    if file is not None:
        changed = config.backbone.model_copy(update={"weights": str(file)})
        config = config.model_copy(update={"backbone": changed})
    network = load_backbone(config.backbone)
    trained_on = run.provenance["cache"]
    here = cache_attributes(network, config, split="", ids=[])
    if trained_on["weights_sha256"] == network.state_sha256:  # the same tensors in another file
        here["weights_sha256"] = network.state_sha256
    for name in NETWORK_ATTRIBUTES:
        if here[name] != trained_on.get(name):
            raise InputError(
                f"{config.backbone.weights or folder}: the backbone's {name} is {here[name]!r}, "
                f"but the run was trained on {trained_on.get(name)!r}; name its own weights "
                "(--backbone), and leave its config unchanged"
            )
    return network, config.backbone
