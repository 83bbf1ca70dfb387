"""A trained run on a feature cache: masks, metrics, label maps."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from mmqsa.atomic import whole_file
from mmqsa.config.evaluation import MaskSource, MatchingName, ScoringConfig
from mmqsa.device import choose_precision, computing_in, naming_when_memory_ends
from mmqsa.errors import InputError
from mmqsa.evaluation.scoring import Scorer, label_maps, write_csv
from mmqsa.features.cache import FeatureCache, check_attributes
from mmqsa.memory import keep_freed_memory
from mmqsa.model.inference import Discoverer
from mmqsa.paths import SIMILARITY
from mmqsa.progress import progress_bar
from mmqsa.training.run import Run

NAMES = ["matching", "mask_source", "eval_seed"]


@dataclass
class _Found:
    """Label maps (B, S, S) of the images at ``indices``, and how they came about."""

    indices: range
    maps: np.ndarray
    matching: MatchingName
    mask_source: MaskSource
    eval_seed: int

    @property
    def names(self) -> dict[str, str | int]:
        return {name: getattr(self, name) for name in NAMES}


def evaluate(
    run: Run,
    cache: FeatureCache,
    config: ScoringConfig,
    out: Path,
    device: torch.device,
    with_label_maps: bool = False,
) -> Path:
    """Score one run under every matching, mask source and evaluation seed of ``config``.

    Writes to ``out``: ``{cache.name}.csv`` (metrics), ``…-per_image.csv``, ``…-per_object.csv``
    (the first matching and evaluation seed, every mask source; not where boxes are scored) and, if
    asked for, ``…-label_maps.h5`` (of the same). Returns the first. Raises InputError when the
    cache was made with another backbone than the run's, or a learned similarity is missing.
    """
    strategies, seeds = config.matching.strategies, config.evaluation.seeds
    sources = config.evaluation.mask_sources
    scorer = Scorer(cache)
    shape = (len(scorer.ids), cache.side, cache.side)
    kept = {source: np.empty(shape, np.uint8) for source in sources if with_label_maps}
    for found in _predictions(run, cache, config, device, strategies, seeds):
        first = found.matching == strategies[0] and found.eval_seed == seeds[0]
        scorer.add(found.indices, found.maps, with_objects=first, **found.names)
        if kept and first:
            kept[found.mask_source][found.indices.start : found.indices.stop] = found.maps
    if kept:
        _write_label_maps(out / f"{cache.name}-label_maps.h5", kept, scorer.ids)
    return scorer.write(out / f"{cache.name}.csv", NAMES)


def sweep(
    run: Run, cache: FeatureCache, config: ScoringConfig, out: Path, device: torch.device
) -> Path:
    """Score a run with other numbers of slots, and of iterations, than it was trained with.

    First matching and evaluation seed, every mask source. Returns the metrics file in ``out``.
    """
    own, scorer, section = run.config.slots, Scorer(cache), config.evaluation.sweep
    pairs = [(slots, own.iterations) for slots in section.slots]
    pairs += [(own.number, iterations) for iterations in section.iterations]
    chosen = config.matching.strategies[:1], config.evaluation.seeds[:1]
    for slots, iterations in dict.fromkeys(pairs):
        for found in _predictions(run, cache, config, device, *chosen, slots, iterations):
            names = {"slots": slots, "iterations": iterations, **found.names}
            scorer.add(found.indices, found.maps, **names)
    path = out / f"{cache.name}-sweep.csv"
    write_csv(scorer.metrics(["slots", "iterations", *NAMES]), path)
    return path


@torch.inference_mode()
def _predictions(
    run: Run,
    cache: FeatureCache,
    config: ScoringConfig,
    device: torch.device,
    strategies: list[MatchingName],
    seeds: list[int],
    slots: int | None = None,
    iterations: int | None = None,
) -> Iterator[_Found]:
    """Every prediction of a run, a batch of images at a time."""
    trained_on, section = run.provenance["cache"], config.evaluation
    expected = {name: trained_on.get(name) for name in cache.network}
    check_attributes(cache.attributes, expected, cache.path, reader="the trained run")
    if "learned" in strategies and run.similarity is None:
        raise InputError(
            f"{SIMILARITY}: missing from the run's folder; run `mmqsa similarity`, or take "
            "`learned` out of matching.strategies"
        )
    keep_freed_memory()
    projection = None if run.similarity is None else run.similarity.to(device)
    discoverer = Discoverer(run.model.to(device), slots, iterations, projection)
    precision = choose_precision(section.precision, device)
    key = "evaluation.batch_size"
    starts = range(0, len(cache.ids), section.batch_size)
    for seed in seeds:
        draws = torch.Generator().manual_seed(seed)
        noise = torch.Generator(device).manual_seed(seed)
        for start in progress_bar(starts, desc=f"evaluate seed {seed}", unit=" batches"):
            keys = torch.from_numpy(cache.read(slice(start, start + section.batch_size))).to(device)
            indices = range(start, start + len(keys))
            with computing_in(precision, device), naming_when_memory_ends(key):
                found = discoverer.run_heads(keys, noise)
            reference = torch.randint(run.model.heads, (len(keys),), generator=draws).to(device)
            for matching in strategies:
                sources = [
                    source
                    for source in section.mask_sources
                    if (matching, source) != ("none", "decoder-masks")  # the same as decoder
                ]
                with computing_in(precision, device), naming_when_memory_ends(key):
                    masks = discoverer.discover(found, reference, matching, sources)
                for source, own in masks.items():
                    yield _Found(indices, label_maps(own, cache.side), matching, source, seed)


def _write_label_maps(path: Path, maps: dict[str, np.ndarray], ids: list[str]) -> None:
    """``slots_{source}`` (num_images, S, S) uint8 per mask source, and ``image_id`` (N)."""
    with whole_file(path) as temporary, h5py.File(temporary, "w") as file:
        for source, values in maps.items():
            file.create_dataset(
                f"slots_{source}", data=values, compression="gzip", chunks=(1, *values.shape[1:])
            )
        file.create_dataset("image_id", data=np.array(ids, dtype="S"))
