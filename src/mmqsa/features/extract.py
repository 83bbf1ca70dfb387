"""Photographs to a feature cache."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

import mmqsa
from mmqsa.atomic import claimed, write_text
from mmqsa.config.data import ExtractionConfig
from mmqsa.config.files import check_regular, read_json
from mmqsa.data.box_faults import BoxFaults
from mmqsa.data.corruptions import Corruption
from mmqsa.data.folder import PhotoFolder
from mmqsa.data.geometry import Geometry, mean_colour
from mmqsa.data.upright import Upright, notice_untold
from mmqsa.device import computing_in, out_of_memory
from mmqsa.errors import InputError
from mmqsa.features.attributes import check_attributes
from mmqsa.features.backbone import FrozenViT, load_backbone
from mmqsa.features.cache import FeatureCache
from mmqsa.features.cache_file import is_native
from mmqsa.features.cache_writer import CacheWriter
from mmqsa.features.grids import MAX_PATCHES, alike, grids_of
from mmqsa.progress import notice, progress_bar

__all__ = ["extract", "normalise"]

AHEAD = 2  # batches


def extract(
    photographs: PhotoFolder,
    split: str,
    config: ExtractionConfig,
    out: Path,
    device: torch.device,
    corruption: Corruption | None = None,
    batch_size: int | None = None,
    fetched: Path | None = None,
) -> int:
    """Write the cache of ``split`` to ``out``, and its attributes to a .json beside it.

    Resumes an unfinished cache. ``batch_size`` None is the config's; with ``fetched``, a file of
    ``mmqsa weights``, timm downloads nothing. Returns the number of images done now: 0 when ``out``
    is already what the config asks for. Raises InputError when ``out`` was made with other
    attributes; it stays unchanged.

    >>> from mmqsa.config import Config
    >>> from mmqsa.data import VocFolder
    >>> config, scenes = Config.load("config.yaml"), VocFolder.find("scenes")
    >>> extract(scenes, "val", config, Path("new.h5"), torch.device("cpu"))
    6
    >>> extract(scenes, "val", config, Path("new.h5"), torch.device("cpu"))  # is there already
    0
    >>> FeatureCache("new.h5").features.shape
    (6, 36, 192)
    """
    _check_output(out)
    with claimed(out):
        return _extract(photographs, split, config, out, device, corruption, batch_size, fetched)


def _extract(
    photographs: PhotoFolder,
    split: str,
    config: ExtractionConfig,
    out: Path,
    device: torch.device,
    corruption: Corruption | None,
    batch_size: int | None,
    fetched: Path | None,
) -> int:
    """Write a cache that no other process writes to; returns the number of images done now."""
    photographs = photographs.of_split(split)
    ids = photographs.ids(split)
    photographs.check(ids)
    uprights = [photographs.upright(image_id) for image_id in ids]
    backbone = load_backbone(config.backbone, fetched)
    attributes = cache_attributes(backbone, config, split, ids)
    attributes["num_classes"] = photographs.num_classes
    attributes["corruption"] = corruption.name if corruption else None
    if turned := sum(photograph.orientation != 1 for photograph in uprights):
        attributes["exif_turned"] = turned  # caches of before 2026-12 have them lying
    if out.exists():
        _check_ids(FeatureCache(out), ids)
        check_attributes(FeatureCache(out).attributes, {"exif_turned": None} | attributes, out)
        _write_identity(out)
        return 0
    native, kind = is_native(attributes), attributes["geometry"]
    side = backbone.patch if native else config.backbone.image_size
    geometry = Geometry(kind, side, mean_colour(backbone.mean))
    sizes = _sizes(photographs, ids, uprights, backbone.patch) if native else None
    versions = {"mmqsa": mmqsa.__version__}
    versions |= {name: version(name) for name in ("timm", "torch", "pillow")}
    shape = (backbone.grid**2, backbone.feature_dim)
    with closing(CacheWriter(out, ids, attributes, versions, shape, sizes)) as writer:
        pending = writer.pending
        backbone.network.to(device)
        size = at_once = batch_size or config.backbone.batch_size
        grids = np.zeros((len(ids), 2)) if sizes is None else grids_of(sizes, backbone.patch)
        batches = alike(pending, grids, size)
        faults = BoxFaults()
        prepared = _ahead(
            lambda index: _prepare(photographs, ids[index], geometry, corruption, faults), batches
        )
        untold: list[str] = []
        bar = progress_bar(batches, desc=f"extract {split}", unit=" batches")
        for indices, batch in zip(bar, prepared, strict=True):
            images, classes, instances, boxes = map(list, zip(*batch, strict=True))
            for index, *labels_of in zip(indices, classes, instances, boxes, strict=True):
                has_any = any(one is not None for one in labels_of)
                if has_any and not photographs.told(ids[index], uprights[index]):
                    untold.append(ids[index])
            with computing_in(config.backbone.precision, device):
                features, at_once = _features(images, backbone, device, at_once)
            if not np.isfinite(features).all():
                raise InputError(
                    f"backbone.name: {config.backbone.name} gave features that are not finite "
                    f"in float16 for a batch with {ids[indices[0]]}"
                )
            labels = {} if native else {"classes": classes, "instances": instances}
            writer.write(indices, features, labels, boxes)
        writer.finish()
    faults.say(photographs.path)
    notice_untold(untold, len(ids), "labels")
    _write_identity(out)
    return len(pending)


def _sizes(
    photographs: PhotoFolder, ids: list[str], uprights: list[Upright], patch: int
) -> np.ndarray:
    """Widths and heights (num_images, 2), px. Raises InputError on one of too few or many patches.

    Methods compare each patch of an image with each, and a single one with nothing.
    """
    sizes = np.array([photograph.size for photograph in uprights])
    grids = grids_of(sizes, patch)
    unfit = (grids.min(axis=1) < 2) | (grids.prod(axis=1) > MAX_PATCHES)
    if unfit.any():
        first = int(unfit.argmax())
        (width, height), (rows, columns) = sizes[first], grids[first]
        raise InputError(
            f"{photographs.image_path(ids[first])}: {width}x{height} px are {columns}x{rows} "
            f"patches, not 2 a side to {MAX_PATCHES:,} in all; resize it, take its id out of the "
            "list, or leave out --variant native"
        )
    return sizes


def _check_output(out: Path) -> None:
    """Raises InputError where a cache, or the identity beside it, would replace another file."""
    if out.suffix != ".h5":
        raise InputError(f"{out}: a feature cache is called NAME.h5; correct --out")
    check_regular(out)
    identity, known = out.with_suffix(".json"), True
    if identity.exists():
        found = read_json(identity)
        known = isinstance(found, dict) and "ids_sha256" in found
    for path, ours in ((out, not out.exists() or h5py.is_hdf5(out)), (identity, known)):
        if not ours:
            raise InputError(f"{path}: exists and is of another kind; it stays: name another --out")


def _write_identity(out: Path) -> None:
    """The attributes in a file small enough for rules to compare by content."""
    text = json.dumps(FeatureCache(out).attributes, indent=2)
    write_text(out.with_suffix(".json"), text + "\n")


def _features(
    images: list[np.ndarray], backbone: FrozenViT, device: torch.device, at_once: int
) -> tuple[np.ndarray, int]:
    """Images of one size, (h, w, 3) uint8 -> features (B, N, D) float16, how many fit ``device``.

    When ``device`` runs out of memory for ``at_once`` images, half as many are tried. Raises
    InputError when a single one does not fit.
    """
    while True:
        parts = (images[start : start + at_once] for start in range(0, len(images), at_once))
        try:
            batches = [backbone.features(normalise(part, backbone, device)) for part in parts]
            return np.concatenate([batch.half().cpu().numpy() for batch in batches]), at_once
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        if at_once == 1:
            raise InputError(
                f"backbone.image_size: a single image of {images[0].shape[1]}x{images[0].shape[0]} "
                f"px does not fit {device}; lower it, or leave out a --variant native"
            )
        notice(
            f"{at_once} images at a time are too many for {device}: continuing with "
            f"{at_once // 2}; lower backbone.batch_size"
        )
        at_once //= 2


def cache_attributes(
    backbone: FrozenViT, config: ExtractionConfig, split: str, ids: list[str]
) -> dict[str, Any]:
    """What makes a cache's features: a reader that expects other values refuses it."""
    return {
        "dataset": config.dataset.name,
        "split": split,
        "ids_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        "geometry": config.dataset.geometry,
        "backbone": config.backbone.name,
        "weights_sha256": backbone.weights_sha256,
        "feature": config.backbone.feature,
        "blocks": backbone.blocks,
        "combine": config.backbone.combine,
        "position_rule": backbone.position_rule,
        "image_size": config.backbone.image_size,
        "grid": backbone.grid,
        "mean": list(backbone.mean),
        "std": list(backbone.std),
        "precision": config.backbone.precision,
    }


def normalise(
    images: list[np.ndarray], backbone: FrozenViT, device: torch.device | None = None
) -> torch.Tensor:
    """Images of one size, (h, w, 3) uint8 -> (B, 3, h, w) float32 as the backbone was trained on.

    >>> from mmqsa.config import BackboneConfig
    >>> config = BackboneConfig(name="vit_tiny_patch16_224", pretrained=False, image_size=64)
    >>> backbone, white = load_backbone(config), np.full((64, 64, 3), 255, np.uint8)
    >>> images = normalise([white, white // 2], backbone)
    >>> images.shape, backbone.mean, images[:, 0, 0, 0]
    (torch.Size([2, 3, 64, 64]), (0.5, 0.5, 0.5), tensor([ 1.0000, -0.0039]))
    >>> backbone.features(images).shape
    torch.Size([2, 16, 192])
    """
    batch = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (
        torch.tensor(values, device=device).view(1, 3, 1, 1)
        for values in (backbone.mean, backbone.std)
    )
    return (batch - mean) / std


def _check_ids(cache: FeatureCache, ids: list[str]) -> None:
    """Raises InputError that shows how a cache's images differ from the split's."""
    cached, listed = set(cache.ids), set(ids)
    if cached == listed:
        return  # another order is a difference of the attributes
    gone, new = sorted(cached - listed), sorted(listed - cached)
    differences = [f"{gone[0]} is no longer in the split"] if gone else []
    differences += [f"{new[0]} is new in it"] if new else []
    raise InputError(
        f"{cache.path}: holds {len(cached)} images, but the split's list has {len(listed)}: "
        f"{' and '.join(differences)}; delete the cache and extract again, or restore the list"
    )


def _ahead(prepare: Callable[[int], tuple], batches: list[np.ndarray]) -> Iterator[list[tuple]]:
    """Batches of prepared images, decoded by threads while the network works on an earlier one.

    At most AHEAD batches wait, so memory does not grow with the data set.
    """
    # A scheduler's job may use fewer cores than the machine has; macOS does not say which.
    affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    with ThreadPoolExecutor(min(8, len(affinity(0)))) as pool:
        waiting: deque[list[Future]] = deque()
        try:
            for indices in batches:
                waiting.append([pool.submit(prepare, index) for index in indices])
                if len(waiting) > AHEAD:
                    yield [image.result() for image in waiting.popleft()]
            while waiting:
                yield [image.result() for image in waiting.popleft()]
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare(
    photographs: PhotoFolder,
    image_id: str,
    geometry: Geometry,
    corruption: Corruption | None,
    faults: BoxFaults,
) -> tuple:
    """Image, classes, instances and boxes of one photograph, all in ``geometry``."""
    photograph = photographs.image(image_id)
    classes = photographs.classes(image_id, photograph.size)
    instances = photographs.instances(image_id, photograph.size)
    boxes = photographs.boxes(image_id)
    if boxes is not None:
        faults.look(image_id, boxes, photograph.size)
    image = geometry.image(photograph)
    return (
        corruption(image, image_id) if corruption else image,
        None if classes is None else geometry.labels(classes),
        None if instances is None else geometry.labels(instances),
        None if boxes is None else geometry.boxes(boxes, *photograph.size),
    )
