"""Label maps of every image of a cache: of a run, of a baseline and of the controls.

All are of the first evaluation seed, and equal those that are scored.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mmqsa.config.evaluation import BaselineConfig, ScoringConfig
from mmqsa.evaluation.baselines import METHODS, Images
from mmqsa.evaluation.controls import control_predictions
from mmqsa.evaluation.draws import image_draws
from mmqsa.evaluation.evaluate import predictions
from mmqsa.evaluation.label_map_file import HEADS, VISIBLE, label_map_writer
from mmqsa.evaluation.scoring import label_maps
from mmqsa.features.attributes import check_attributes
from mmqsa.features.cache import FeatureCache
from mmqsa.model.matching import align, reorder
from mmqsa.paths import label_maps_path
from mmqsa.training.run import Run


def run_label_maps(
    run: Run, cache: FeatureCache, config: ScoringConfig, out: Path, device: torch.device
) -> Path:
    """Write those of every matching and mask source, of each head, and what masking leaves.

    Returns the file in ``out``. Raises InputError as ``evaluate`` does.
    """
    cache.check_squares()
    path, seeds = label_maps_path(out / f"{cache.name}.csv"), config.evaluation.seeds[:1]
    with label_map_writer(path, cache.ids) as writer:
        for indices, maps, names in predictions(
            run, cache, config, device, config.matching.strategies, seeds
        ):
            name = f"{names['matching']}/{names['mask_source']}"
            writer.write(name, slice(indices[0], indices[-1] + 1), np.asarray(maps))
        batch = config.evaluation.batch_size
        for start in range(0, len(cache.ids), batch):
            images = slice(start, min(start + batch, len(cache.ids)))
            heads, visible = heads_and_visible(run, cache, images, device, seeds[0])
            for head, masks in enumerate(heads.unbind(1), 1):
                writer.write(f"{HEADS}/{head}", images, label_maps(masks, cache.side))
            if run.config.masking.strategy != "none":
                writer.write(VISIBLE, images, visible.cpu().numpy())
    return path


@torch.inference_mode()
def heads_and_visible(
    run: Run, cache: FeatureCache, images: slice, device: torch.device, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention masks of each head (B, H, K, N), slots matched, and the visible patches (B, N).

    Slots are in the order of the reference head. Random masking is drawn once.
    """
    model, ids = run.model.to(device), cache.ids[images]
    features = torch.from_numpy(cache.features[images]).to(device)
    noise, reference = image_draws(model, ids, seed)
    heads = model.run_heads(features, noise)
    matched = reorder(heads.attention, align(heads.slots, reference, "hungarian"))
    uniform = torch.rand(features.shape[:2], generator=torch.Generator().manual_seed(seed))
    kept = model.visible_patches(features, model.standardised(features), uniform.to(device))
    visible = torch.zeros(features.shape[:2], dtype=torch.bool, device=device)
    return matched, visible.scatter_(1, kept, True)


def baseline_label_maps(
    name: str, cache: FeatureCache, train: FeatureCache, config: BaselineConfig, out: Path
) -> Path:
    """Write those of a baseline's every variant; returns the file in ``out``.

    Raises InputError as ``score_baseline`` does.
    """
    cache.check_squares()
    check_attributes(cache.network, train.network, cache.path, reader=str(train.path))
    path = label_maps_path(out / f"{cache.name}-{name}.csv")
    first = config.changed("evaluation", {"evaluation": {"seeds": config.evaluation.seeds[:1]}})
    with label_map_writer(path, cache.ids) as writer:
        for prediction in METHODS[name](Images(cache, train, first)):
            masks = torch.from_numpy(prediction.masks)[None]
            images = slice(prediction.index, prediction.index + 1)
            writer.write(prediction.name, images, label_maps(masks, cache.side))
    return path


def control_label_maps(
    cache: FeatureCache, out: Path, train: FeatureCache | None, num_slots: int, seeds: Sequence[int]
) -> Path:
    """Write those of every control; returns the file in ``out``."""
    cache.check_squares()
    path = label_maps_path(out / f"{cache.name}-controls.csv")
    with label_map_writer(path, cache.ids) as writer:
        for prediction in control_predictions(cache, train, num_slots, seeds[:1]):
            writer.write(prediction.name, prediction.images, prediction.labels)
    return path
