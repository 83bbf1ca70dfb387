"""Agreement of a run's heads: how similar their slots are, and how many slots are in use."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmqsa.atomic import claimed, write_together
from mmqsa.evaluation.draws import image_draws
from mmqsa.evaluation.scoring import csv_bytes
from mmqsa.features.cache import FeatureCache
from mmqsa.model.matching import align, cosine, reorder
from mmqsa.progress import progress_bar
from mmqsa.training.run import Run

IN_USE = 0.01  # of the patches, the least that a slot in use wins


@torch.inference_mode()
def score_agreement(
    run: Run, cache: FeatureCache, out: Path, device: torch.device, batch: int = 32
) -> Path:
    """Write two tables to ``out``; returns the path of the first.

    ``{cache.name}-agreement.csv``: mean over images of the cosine similarity of every two slots of
    every two heads, ``before`` matching and ``after`` all heads are matched to the first
    (Hungarian). ``…-slots.csv``: of each head's attention and of the merged masks of each source,
    the mean number of slots that win 1 % of the patches (``slots_used``) and the mean share of the
    slot that wins most (``largest_share``). Raises InputError when the cache was made with another
    backbone than the run's.
    """
    run.check_cache(cache)
    path, of_slots = (out / f"{cache.name}-{kind}.csv" for kind in ("agreement", "slots"))
    with claimed(path):
        pairs, slots = _measured(run, cache, device, batch)
        write_together({of_slots: csv_bytes(slots, of_slots), path: csv_bytes(pairs, path)})
    return path


def _measured(
    run: Run, cache: FeatureCache, device: torch.device, batch: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables: of pairs of slots, and of how slots are used."""
    model, ids = run.model.to(device), cache.ids
    num_heads, size = model.num_heads, model.num_heads * model.num_slots
    totals = {"before": torch.zeros(size, size), "after": torch.zeros(size, size)}
    usage: list[tuple[str, str | int, int, float]] = []
    starts = range(0, len(ids), batch)
    for start in progress_bar(starts, desc="agreement", unit=" batches"):
        features = torch.from_numpy(cache.features[start : start + batch]).to(device)
        noise, reference = image_draws(model, ids[start : start + batch])
        heads = model.run_heads(features, noise)
        first = torch.zeros(len(features), dtype=torch.int64, device=device)
        matched = reorder(heads.slots, align(heads.slots, first, "hungarian"))
        for name, slots in (("before", heads.slots), ("after", matched)):
            flat = slots.flatten(1, 2).float()
            totals[name] += cosine(flat, flat).sum(dim=0).cpu()
        for source, masks in model.merge_heads(heads, reference=reference).items():
            usage += [(source, "merged", *row) for row in _usage(masks)]
        for head in range(num_heads):
            usage += [("attention", head, *row) for row in _usage(heads.attention[:, head])]
    table = pd.DataFrame(usage, columns=["mask_source", "head", "slots_used", "largest_share"])
    means = table.groupby(["mask_source", "head"], sort=False).mean().round(4).reset_index()
    return _pairs(totals, len(ids), model.num_slots), means


def _usage(masks: Tensor) -> list[tuple[int, float]]:
    """Masks (B, K, N) -> of each image, slots in use and the largest one's share of the patches."""
    won = torch.nn.functional.one_hot(masks.argmax(dim=1), masks.shape[1]).float().mean(dim=1)
    return list(zip((won >= IN_USE).sum(dim=1).tolist(), won.amax(dim=1).tolist(), strict=True))


def _pairs(totals: dict[str, Tensor], num_images: int, num_slots: int) -> pd.DataFrame:
    """Sums over images (H K, H K) -> one row per pair of slots."""
    size = len(totals["before"])
    rows, columns = np.divmod(np.arange(size**2), size)
    table = {"head": rows // num_slots, "slot": rows % num_slots}
    table |= {"other_head": columns // num_slots, "other_slot": columns % num_slots}
    for name, total in totals.items():
        table[name] = (total / num_images).flatten().numpy().round(4)
    return pd.DataFrame(table)
