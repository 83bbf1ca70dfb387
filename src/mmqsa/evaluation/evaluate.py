"""Evaluation of a trained run on a feature cache: masks to metrics."""

import copy
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmqsa.atomic import claimed
from mmqsa.config.choices import MatchingName
from mmqsa.config.evaluation import SAME_MASKS, ScoringConfig
from mmqsa.device import choose_precision, computing_in, naming_when_memory_ends
from mmqsa.errors import InputError
from mmqsa.evaluation.draws import image_draws
from mmqsa.evaluation.native import attention_alone, one_mean, placed_label_maps
from mmqsa.evaluation.scoring import Scorer, write_csv
from mmqsa.features.cache import FeatureCache
from mmqsa.memory import keep_freed_memory
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.progress import progress_bar
from mmqsa.training.run import Run

NAMES = ["matching", "mask_source", "eval_seed"]


def evaluate(
    run: Run,
    cache: FeatureCache,
    config: ScoringConfig,
    out: Path,
    device: torch.device,
) -> Path:
    """Score one run under every matching, mask source and evaluation seed of ``config``.

    Writes to ``out``: ``{cache.name}.csv`` (metrics), ``…-per_image.csv.gz`` and
    ``…-per_object.csv.gz`` (the first matching and evaluation seed, every mask source; not where
    boxes are scored). Returns the first. Raises InputError when the cache was made with another
    backbone than the run's, or a learned similarity is missing.
    """
    matchings, seeds = config.matching.strategies, config.evaluation.seeds
    scorer, path = Scorer(cache, config.evaluation.single_boxes), out / f"{cache.name}.csv"
    with claimed(path):
        for indices, maps, names in predictions(run, cache, config, device, matchings, seeds):
            first = names["matching"] == matchings[0] and names["eval_seed"] == seeds[0]
            scorer.add(indices, maps, with_objects=first, **names)
        return scorer.write(path, NAMES)  # refused where another run's are


def sweep(
    run: Run, cache: FeatureCache, config: ScoringConfig, out: Path, device: torch.device
) -> Path:
    """Score a run with other numbers of slots, and of iterations, than it was trained with.

    First evaluation seed, every mask source. Learned queries keep their number of slots. Returns
    the metrics file in ``out``.
    """
    trained, values = run.config.slots, config.evaluation.sweep
    scorer = Scorer(cache)
    counts = [trained.num_slots] if trained.initialisation == "queries" else values.num_slots
    pairs = [(num_slots, trained.iterations) for num_slots in counts]
    pairs += [(trained.num_slots, iterations) for iterations in values.iterations]
    first = values.strategies, config.evaluation.seeds[:1]
    path = out / f"{cache.name}-sweep.csv"
    with claimed(path):
        for num_slots, iterations in dict.fromkeys(pairs):
            scored = predictions(run, cache, config, device, *first, num_slots, iterations)
            for indices, maps, names in scored:
                scorer.add(indices, maps, num_slots=num_slots, iterations=iterations, **names)
        write_csv(scorer.metrics(["num_slots", "iterations", *NAMES]), path)
    return path


def score_snapshots(
    folder: Path, cache: FeatureCache, config: ScoringConfig, out: Path, device: torch.device
) -> Path:
    """Score a run as it was at each of ``training.snapshots``, and as it is.

    First matching and evaluation seed, every mask source; ``images_seen`` are those of training,
    counted each time. Returns the metrics file in ``out``.
    """
    training, scorer = Run.load(folder).config.training, Scorer(cache)
    first = config.matching.strategies[:1], config.evaluation.seeds[:1]
    path = out / f"{cache.name}-snapshots.csv"
    with claimed(path):
        for step in (*sorted(set(training.snapshots)), None):
            run, steps = Run.load(folder, step), training.steps if step is None else step
            seen = steps * training.batch_size
            for indices, maps, names in predictions(run, cache, config, device, *first):
                scorer.add(indices, maps, step=steps, images_seen=seen, **names)
        write_csv(scorer.metrics(["step", "images_seen", *NAMES]), path)
    return path


@torch.inference_mode()
def predictions(
    run: Run,
    cache: FeatureCache,
    config: ScoringConfig,
    device: torch.device,
    matchings: Sequence[MatchingName],
    seeds: Sequence[int],
    num_slots: int | None = None,
    iterations: int | None = None,
) -> Iterator[tuple[Sequence[int], np.ndarray | list[np.ndarray], dict[str, Any]]]:
    """Every prediction of a run, a batch of images at a time.

    Yields the indices of the images, their label maps (B, S, S), and by what of NAMES they came. On
    photographs at their own size, only the attention has masks.
    """
    run.check_cache(cache)
    model, sources = run.model, config.evaluation.mask_sources
    if cache.is_native:
        model, sources = _for_any_grid(model), attention_alone(sources)
    if all(pair in SAME_MASKS for pair in product(matchings, sources)):
        raise InputError(
            f"evaluation.mask_sources: {matchings[0]} has no masks of its own from "
            f"{' or '.join(sources)}; add decoder"
        )
    merging = run.merging(config.matching.alike, matchings).to(device)
    keep_freed_memory()
    model, evaluation, key = model.to(device), config.evaluation, "evaluation.batch_size"
    precision = choose_precision(evaluation.precision, device)
    decode, all_ids = "decoder-masks" in sources, cache.ids
    for seed in seeds:
        batches = cache.batches(evaluation.batch_size)
        for indices in progress_bar(batches, desc=f"evaluate seed {seed}", unit=" batches"):
            features = torch.from_numpy(cache.of_batch(indices)).to(device)
            ids = [all_ids[index] for index in indices]
            noise, reference = image_draws(model, ids, seed, num_slots)
            with computing_in(precision, device), naming_when_memory_ends(key):
                heads = model.run_heads(features, noise, iterations, decode)
            for matching in matchings:
                own = [source for source in sources if (matching, source) not in SAME_MASKS]
                with computing_in(precision, device), naming_when_memory_ends(key):
                    merged = model.merge_heads(heads, matching, own, reference, merging)
                for source, masks in merged.items():
                    names = dict(zip(NAMES, (matching, source, seed), strict=True))
                    yield indices, placed_label_maps(masks, cache, indices), names


def _for_any_grid(model: MaskedSlotModel) -> MaskedSlotModel:
    """The same model, for the attention masks of any number of patches. Raises InputError."""
    model = copy.copy(model)
    model._buffers = dict(model._buffers)  # the other's stay as they are
    model.feature_mean = one_mean(model.feature_mean)
    model.feature_scale = model.feature_scale[:1]
    return model
