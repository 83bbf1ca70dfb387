"""What the heads of a run do: how alike their slots are, and how many slots are in use."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmqsa.evaluation.scoring import write_csv
from mmqsa.features.cache import FeatureCache, check_attributes
from mmqsa.model.inference import Discoverer
from mmqsa.model.matching import align, cosine
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
    the mean number of slots ``used`` (that win 1 % of the patches) and the ``largest``'s share.
    Raises InputError when the cache was made with another backbone than the run's.
    """
    trained_on = run.provenance["cache"]
    expected = {name: trained_on.get(name) for name in cache.network}
    check_attributes(cache.attributes, expected, cache.path, reader="the trained run")
    discoverer, noise = Discoverer(run.model.to(device)), torch.Generator(device).manual_seed(0)
    totals, used = {"before": 0.0, "after": 0.0}, []
    starts = range(0, len(cache.ids), batch)
    for start in progress_bar(starts, desc="agreement", unit=" batches"):
        keys = torch.from_numpy(cache.read(slice(start, start + batch))).to(device)
        found = discoverer.run_heads(keys, noise)
        first = torch.zeros(len(keys), dtype=torch.int64, device=device)
        order = align(found.slots, first, "hungarian")
        matched = found.slots.gather(2, order[..., None].expand_as(found.slots))
        for name, slots in (("before", found.slots), ("after", matched)):
            flat = slots.flatten(1, 2).float()
            totals[name] = totals[name] + cosine(flat, flat).sum(dim=0).cpu()
        merged = discoverer.discover(found, first, "hungarian")
        used += [(source, "merged", *of) for source, own in merged.items() for of in _use(own)]
        for head in range(run.model.heads):
            used += [("attention", head, *of) for of in _use(found.attention[:, head])]
    write_csv(_pairs(totals, len(cache.ids), run.model.heads), out / f"{cache.name}-agreement.csv")
    slots = pd.DataFrame(used, columns=["mask_source", "head", "used", "largest"])
    slots = slots.groupby(["mask_source", "head"], sort=False).mean().round(4).reset_index()
    write_csv(slots, out / f"{cache.name}-slots.csv")
    return out / f"{cache.name}-agreement.csv"


def _use(masks: Tensor) -> list[tuple[int, float]]:
    """Masks (B, K, N) -> of each image, slots in use and the largest one's share of the patches."""
    won = torch.nn.functional.one_hot(masks.argmax(dim=1), masks.shape[1]).float().mean(dim=1)
    return list(zip((won >= IN_USE).sum(dim=1).tolist(), won.amax(dim=1).tolist(), strict=True))


def _pairs(totals: dict[str, Tensor], images: int, heads: int) -> pd.DataFrame:
    """Sums over images (H K, H K) -> one row per pair of slots."""
    number = len(totals["before"]) // heads
    rows, columns = np.divmod(np.arange((heads * number) ** 2), heads * number)
    frame = {"head": rows // number, "slot": rows % number}
    frame |= {"other_head": columns // number, "other_slot": columns % number}
    for name, total in totals.items():
        frame[name] = (total / images).flatten().numpy().round(4)
    return pd.DataFrame(frame)
