"""A trained run on a feature cache: masks, metrics, label maps."""

from pathlib import Path

import h5py
import numpy as np
import torch

from mmqsa.atomic import whole_file
from mmqsa.device import choose_precision, computing_in
from mmqsa.evaluation.scoring import Scorer, label_maps, write_csv
from mmqsa.features.store import FeatureCache, check_attributes
from mmqsa.memory import keep_freed_memory
from mmqsa.model.inference import Discoverer
from mmqsa.progress import progress_bar
from mmqsa.settings import Settings
from mmqsa.training.run import Run

NAMES = ["matching", "mask_source", "eval_seed"]


@torch.inference_mode()
def evaluate(
    run: Run,
    cache: FeatureCache,
    settings: Settings,
    out: Path,
    device: torch.device,
    with_label_maps: bool = False,
) -> Path:
    """Score one run under every matching, mask source and evaluation seed of ``settings``.

    Writes to ``out``: ``{dataset}-{split}.csv`` (metrics), ``…-per_image.csv`` and, if asked for,
    ``label_maps.h5`` (first matching and evaluation seed, both mask sources). Returns the first.
    Raises InputError when the cache was made with another backbone than the run's.
    """
    trained_on = run.provenance["cache"]
    expected = {name: trained_on.get(name) for name in cache.network}
    check_attributes(cache.attributes, expected, cache.path, wanted_by="the trained run")
    keep_freed_memory()
    discoverer = Discoverer(run.model.to(device))
    precision = choose_precision(settings.evaluation.precision, device)
    scorer = Scorer(cache)
    config, strategies = settings.evaluation, settings.matching.strategies
    kept = (
        {
            source: np.empty((len(scorer.ids), cache.side, cache.side), np.uint8)
            for source in config.mask_sources
        }
        if with_label_maps
        else {}
    )
    starts = range(0, len(scorer.ids), config.batch_size)
    for seed in config.seeds:
        draws = torch.Generator().manual_seed(seed)
        noise = torch.Generator(device).manual_seed(seed)
        for start in progress_bar(starts, desc=f"evaluate seed {seed}", unit=" batches"):
            keys = torch.from_numpy(cache.keys[start : start + config.batch_size]).to(device)
            indices = range(start, start + len(keys))
            with computing_in(precision, device):
                found = discoverer.run_heads(keys, noise)
            reference = torch.randint(run.model.heads, (len(keys),), generator=draws).to(device)
            for matching in strategies:
                with computing_in(precision, device):
                    masks = discoverer.discover(found, reference, matching, config.mask_sources)
                for source, own in masks.items():
                    maps = label_maps(own, cache.side)
                    scorer.add(indices, maps, matching=matching, mask_source=source, eval_seed=seed)
                    if kept and matching == strategies[0] and seed == config.seeds[0]:
                        kept[source][start : start + len(keys)] = maps
    stem = f"{cache.attributes['dataset']}-{cache.attributes['split']}"
    if kept:
        _write_label_maps(out / "label_maps.h5", kept, scorer.ids)
    write_csv(scorer.per_image, out / f"{stem}-per_image.csv")
    write_csv(scorer.metrics(NAMES), out / f"{stem}.csv")
    return out / f"{stem}.csv"


def _write_label_maps(path: Path, maps: dict[str, np.ndarray], ids: list[str]) -> None:
    """``slots_decoder`` and ``slots_attention`` (N, S, S) uint8, and ``image_id`` (N)."""
    with whole_file(path) as temporary, h5py.File(temporary, "w") as file:
        for source, values in maps.items():
            file.create_dataset(
                f"slots_{source}", data=values, compression="gzip", chunks=(1, *values.shape[1:])
            )
        file.create_dataset("image_id", data=np.array(ids, dtype="S"))
