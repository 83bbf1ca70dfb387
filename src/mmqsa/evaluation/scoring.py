"""Masks to label maps to tables of metrics, for runs, controls and baselines alike."""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmqsa.atomic import write_new, write_together
from mmqsa.config.tables import GEOMETRY_PROTOCOLS, LABELS, OF_BOXES, pack, unpack
from mmqsa.evaluation.label_contents import LabelContents, allowed_metrics, not_allowed
from mmqsa.evaluation.labelled_images import LabelledImages, OfImages
from mmqsa.evaluation.metrics import GroundTruth, image_metrics
from mmqsa.paths import beside
from mmqsa.progress import progress_bar

if TYPE_CHECKING:  # torch takes seconds to import, and predictions of other code need none
    from torch import Tensor


__all__ = ["Scorer", "label_maps", "winning_slots"]


def label_maps(masks: "Tensor", side: int) -> np.ndarray:
    """Masks (B, K, N) -> the slot of each pixel, (B, S, S) uint8: bilinear upsampling, argmax.

    >>> masks = torch.tensor([[[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]])  # of 2 x 2 patches
    >>> label_maps(masks, 6)[0]
    array([[0, 0, 0, 1, 1, 1],
           [0, 0, 0, 1, 1, 1],
           [0, 0, 0, 1, 1, 1],
           [0, 0, 0, 1, 1, 1],
           [0, 0, 0, 1, 1, 1],
           [0, 0, 0, 1, 1, 1]], dtype=uint8)
    """
    return winning_slots(masks, side, side)[0].cpu().numpy()


def winning_slots(
    masks: "Tensor", height: int, width: int, grid: tuple[int, int] | None = None
) -> tuple["Tensor", "Tensor"]:
    """Masks (B, K, N) -> the slot that wins each pixel (B, h, w) uint8, and its mask's value there.

    Bilinear upsampling is linear in rows and in columns, so it is a product with one matrix for
    each. Slots are taken one at a time, so that K full-size maps are never held. Ties go to the
    earlier slot. ``grid``: rows and columns of the N patches; None: they are a square.

    >>> masks = torch.tensor([[[0.8, 0.1, 0.6, 0.3], [0.2, 0.9, 0.4, 0.7]]])
    >>> slots, values = winning_slots(masks, 2, 2)
    >>> slots[0], values[0]
    (tensor([[0, 1],
            [0, 1]], dtype=torch.uint8), tensor([[0.8000, 0.9000],
            [0.6000, 0.7000]]))
    """
    import torch

    batch, num_slots, num_patches = masks.shape
    grid = grid or (round(num_patches**0.5), round(num_patches**0.5))
    patches = masks.detach().float().view(batch, num_slots, *grid)
    to_rows, to_columns = (
        _bilinear(*lengths).to(masks.device) for lengths in zip(grid, (height, width), strict=True)
    )
    rows = to_rows @ patches  # (B, K, h, columns of the grid)
    best = rows[:, 0] @ to_columns.T
    winner = torch.zeros(best.shape, dtype=torch.uint8, device=masks.device)
    for slot in range(1, num_slots):
        candidate = rows[:, slot] @ to_columns.T
        higher = _greater(candidate, best)
        torch.maximum(winner, higher.mul_(slot), out=winner)  # a later slot's index is the larger
        torch.maximum(best, candidate, out=best)
    return winner, best


def _greater(first: "Tensor", second: "Tensor") -> "Tensor":
    """First > second, as uint8 of 0 and 1: on a CPU by NumPy, in half of PyTorch's time."""
    import torch

    if first.device.type == "cpu":
        return torch.from_numpy(np.greater(first.numpy(), second.numpy()).view(np.uint8))
    return torch.gt(first, second).view(torch.uint8)


def _bilinear(grid: int, side: int) -> "Tensor":
    """The (S, grid) matrix of bilinear upsampling along one axis."""
    import torch
    import torch.nn.functional as F

    impulses = torch.eye(grid)[None]  # (1, grid, grid): one channel per input position
    return F.interpolate(impulses, size=side, mode="linear", align_corners=False)[0].T


OBJECT_COLUMNS = ["image_id", "labels", "class", "share", "iou"]
KEPT = 600_000_000  # px of labels that stay prepared, at 2 bytes; COCO's val at 320 px has 512


class Scorer:
    """Collects metrics of named predictions on the labels of one set of images, image by image.

    The images' geometry decides the protocols (GEOMETRY_PROTOCOLS): the released one is scored with
    void counted, as there, and with void ignored, to tell what geometry and void cost.

    >>> from mmqsa.features import FeatureCache
    >>> cache = FeatureCache("val.h5")
    >>> scorer = Scorer(cache)
    >>> scorer.add(range(6), np.zeros((6, 96, 96), np.uint8), name="one slot")
    >>> scorer.add(range(6), np.where(cache.classes[:] == 255, 0, cache.classes[:]), name="truth")
    >>> means = scorer.metrics(["name"])  # in percent
    >>> mbo_c = means.query("protocol == 'paper' and metric == 'mbo_c'")
    >>> mbo_c[["name", "value"]].round(1).to_numpy().tolist()
    [['one slot', 17.0], ['truth', 100.0]]
    """

    def __init__(self, labels: LabelledImages, single_boxes: bool = False):
        """``single_boxes``: by the protocol ``single`` as well, which is slow.

        Reads all labels, and says what they hold. Raises InputError when no image has an object.
        """
        self.ids = labels.ids
        self._geometry, self._side = labels.attributes["geometry"], labels.attributes["image_size"]
        self._protocols = [
            protocol
            for protocol in GEOMETRY_PROTOCOLS[self._geometry]
            if single_boxes or protocol != "single"
        ]
        self._prepared: dict[int, list[GroundTruth]] = {}
        self._digests: dict[int, dict[str, bytes]] = {}  # of each image's labels, by their kind
        self._kept = 0
        contents = LabelContents(labels)
        self._labels: dict[str, OfImages] = {
            kind: getattr(labels, kind) for kind in contents.present
        }
        self._look(contents)
        for kind in contents.without_objects():
            del self._labels[kind]
            self._prepared, self._kept = {}, 0
        allowed = allowed_metrics(self._truths(0))
        self.protocols = {protocol for protocol, _ in allowed}
        """Those that the labels allow."""
        contents.say(not_allowed(self._protocols, allowed))
        self._rows: list[dict[str, Any]] = []
        self._objects: list[dict[str, Any]] = []

    def add(
        self,
        indices: Iterable[int],
        predictions: np.ndarray | Sequence[np.ndarray],
        boxes: Sequence[np.ndarray | None] | None = None,
        with_objects: bool = False,
        void: bool | None = None,
        **names: str | int,
    ) -> None:
        """Score predictions (B, S, S) of the images at ``indices`` under the given names.

        ``boxes`` are a method's own for each image, (M, 4) px, the one box first; without them
        every slot has its tight box. ``with_objects`` scores each object apart as well. ``void``
        marks predictions that their method had nothing to go by; None: it is not asked.
        """
        boxes = boxes or [None] * len(predictions)
        for index, prediction, predicted in zip(indices, predictions, boxes, strict=True):
            values = {
                name: value
                for truth in self._truths(index)
                for name, value in image_metrics(prediction, truth, predicted).items()
            }
            row: dict[str, Any] = {"image_id": self.ids[index], **names}
            marked = {} if void is None else {"void": int(void)}
            self._rows.append(row | marked | {pack(*name): value for name, value in values.items()})
            if with_objects:
                self._objects += [row | entry for entry in self._of_objects(index, prediction)]

    def _look(self, contents: LabelContents) -> None:
        """Prepare the labels of every image, and keep as many of the first ones as fit.

        Made one by one among the large temporary arrays of predictions, each would pin a hole in
        freed memory: on VOC's val 0.9 GB more.
        """
        if not contents.present:
            return
        room = True
        for index in progress_bar(range(len(self.ids)), desc="labels", unit=" images"):
            truths = self._prepare(index)
            contents.look(truths)
            room = room and self._kept + truths[0].regions.size <= KEPT
            if room:
                self._keep(index, truths)

    def _truths(self, index: int) -> list[GroundTruth]:
        """The labels of an image, label maps first."""
        if index not in self._prepared:
            self._keep(index, self._prepare(index))
        return self._prepared[index]

    def _prepare(self, index: int) -> list[GroundTruth]:
        labels = {kind: arrays[index] for kind, arrays in self._labels.items()}
        if index not in self._digests:
            self._digests[index] = {kind: _digest(array) for kind, array in labels.items()}
        by_boxes = self._geometry in ("squash", "native")
        of_boxes = [name for name in self._protocols if by_boxes and name in OF_BOXES]
        of_maps = [name for name in self._protocols if name not in of_boxes]
        truths = []
        if of_maps:
            truths.append(GroundTruth(labels.get("classes"), labels.get("instances"), of_maps))
        if of_boxes and "boxes" in labels:
            truths.append(GroundTruth(None, None, of_boxes, labels["boxes"]))
        return truths

    def _keep(self, index: int, truths: list[GroundTruth]) -> None:
        self._kept += truths[0].regions.size
        if self._kept > KEPT:
            self._prepared, self._kept = {}, truths[0].regions.size
        self._prepared[index] = truths

    def _of_objects(self, index: int, prediction: np.ndarray) -> Iterator[dict[str, Any]]:
        """Every object of an image: kind of labels, class, share of the image, best slot's IoU."""
        truth = self._truths(index)[0]
        counts = truth.counts(prediction)
        for kind, labels in (("class", truth.classes), ("instance", truth.instances)):
            if labels is not None:
                best = truth.overlaps(labels, counts)[labels.first_object :].max(axis=1)
                for (label, share), iou in zip(truth.objects(labels), best, strict=True):
                    yield {"labels": kind, "class": label, "share": share, "iou": iou}

    @property
    def per_object(self) -> pd.DataFrame:
        """One row per object and prediction: labels, class, share of the image and IoU, in 0..1."""
        return pd.DataFrame(self._objects)

    @property
    def per_image(self) -> pd.DataFrame:
        """One row per image and prediction; metrics, in 0..1, in columns named by ``pack``."""
        return pd.DataFrame(self._rows)

    @property
    def labels_sha256(self) -> str:
        """What was compared with: the side of the squares, and a digest of each kind of labels.

        Scores of the same images are comparable where these are equal, kind by kind.
        """
        found = {} if self._geometry == "native" else {"side": str(self._side)}
        for kind in self._labels:
            whole = sha256()
            for index, image_id in enumerate(self.ids):
                whole.update(image_id.encode() + b"/" + self._digests[index][kind])
            found[kind] = whole.hexdigest()[:16]
        return " ".join(f"{kind}={value}" for kind, value in found.items())

    def metrics(self, names: list[str]) -> pd.DataFrame:
        """Means over images, in percent: one row per prediction, protocol and metric.

        ``void``: share of the images where the prediction had nothing to go by, if that is known.
        """
        per_image, rows, labels = self.per_image, [], {LABELS: self.labels_sha256}
        for key, group in per_image.groupby(names, sort=False):
            for column, (protocol, metric) in unpack(per_image).items():
                values = group[column].dropna()
                row = dict(zip(names, key, strict=True)) | {"protocol": protocol, "metric": metric}
                if "void" in group:
                    row["void"] = round(100 * group["void"].mean(), 4)
                value = round(100 * values.mean(), 4)
                rows.append(row | {"value": value, "n_images": len(values)} | labels)
        return pd.DataFrame(rows)

    def write(self, path: Path, names: list[str]) -> Path:
        """Write ``path`` and what belongs to it (``files``): all of them, or none.

        Raises InputError when other scores are there, which stay.
        """
        write_together(self.files(path, names))
        return path

    def files(self, path: Path, names: list[str]) -> dict[Path, bytes]:
        """Files and their content: ``-per_image``, ``-per_object``, and last ``path``, the means.

        Where boxes are scored there are no objects to list: that file has its heading alone.
        """
        objects = self.per_object if self._objects else pd.DataFrame(columns=OBJECT_COLUMNS)
        tables = {
            beside(path, "per_image"): self.per_image,
            beside(path, "per_object"): objects,
            path: self.metrics(names),
        }
        return {path: csv_bytes(table, path) for path, table in tables.items()}


def _digest(labels: np.ndarray) -> bytes:
    """Of an image's label map, or of its boxes, which a cache holds as float32."""
    plain = labels.astype(np.float32) if labels.dtype.kind == "f" else labels
    return sha256(f"{plain.shape} ".encode() + np.ascontiguousarray(plain).tobytes()).digest()


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table, whole or not at all. Raises InputError when another is there, which stays."""
    write_new(path, csv_bytes(table, path))


def csv_bytes(table: pd.DataFrame, path: Path) -> bytes:
    """The content of a csv file, compressed if ``path`` ends in .gz.

    The same table gives the same bytes: a compressed one holds neither a time nor a name.
    """
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g").encode()
    return gzip.compress(text, mtime=0) if path.suffix == ".gz" else text
