"""Predictions that look at no image: what a metric gives for nothing."""

from pathlib import Path

import numpy as np

from mmqsa.evaluation.scoring import Scorer, write_csv
from mmqsa.features.store import FeatureCache


def control_maps(side: int) -> dict[str, np.ndarray]:
    """Name -> one (S, S) uint8 label map that is used for every image."""
    one = np.zeros((side, side), dtype=np.uint8)
    centre = one.copy()
    margin = side // 8  # a square of 3/4 of the side: 240 of 320 px
    centre[margin : side - margin, margin : side - margin] = 1
    return {
        "one slot": one,
        "centre square": centre,
        "2x2 blocks": _blocks(side, 2, 2),
        "2x3 blocks": _blocks(side, 2, 3),
        "3x3 blocks": _blocks(side, 3, 3),
    }


def _blocks(side: int, rows: int, columns: int) -> np.ndarray:
    y, x = np.arange(side) * rows // side, np.arange(side) * columns // side
    return (y[:, None] * columns + x[None]).astype(np.uint8)


def score_controls(cache: FeatureCache, out: Path) -> Path:
    """Score every control on the cache's labels; returns the metrics file in ``out``."""
    scorer = Scorer(cache)
    for name, prediction in control_maps(cache.side).items():
        maps = np.broadcast_to(prediction, (len(scorer.ids), *prediction.shape))
        scorer.add(range(len(scorer.ids)), maps, name=name, slots=int(prediction.max()) + 1)
    path = out / f"{cache.attributes['dataset']}-{cache.attributes['split']}-controls.csv"
    write_csv(scorer.metrics(["name", "slots"]), path)
    return path
