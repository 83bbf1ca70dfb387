"""Training-free methods on the same cached keys."""

from pathlib import Path

import numpy as np
import torch
from sklearn.cluster import KMeans

from mmqsa.evaluation.scoring import Scorer, label_maps, write_csv
from mmqsa.features.standardise import key_statistics
from mmqsa.features.store import FeatureCache, check_attributes
from mmqsa.progress import progress_bar
from mmqsa.settings import Settings


def kmeans_masks(keys: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Standardised keys (P, D) of one image -> hard masks (K, P): k-means++, best of 4 starts."""
    found = KMeans(clusters, n_init=4, random_state=seed).fit_predict(keys)
    return np.eye(clusters, dtype=np.float32)[found].T


def score_kmeans(cache: FeatureCache, train: FeatureCache, settings: Settings, out: Path) -> Path:
    """k-means per image at each of ``evaluation.kmeans_clusters``; returns the metrics file.

    Keys are standardised over the training set exactly as a model sees them, and the masks take
    the same road to label maps.
    """
    check_attributes(cache.network, train.network, cache.path, wanted_by=str(train.path))
    mean, deviation = key_statistics(train.keys, settings.keys.standardise)
    scorer = Scorer(cache)
    config = settings.evaluation
    names = [(clusters, seed) for clusters in config.kmeans_clusters for seed in config.seeds]
    for index in progress_bar(range(len(scorer.ids)), desc="k-means", unit=" images"):
        keys = ((torch.from_numpy(cache.keys[index]).float() - mean) / deviation).numpy()
        for clusters, seed in names:
            masks = torch.from_numpy(kmeans_masks(keys, clusters, seed))
            prediction = label_maps(masks[None], cache.side)
            scorer.add(
                [index], prediction, name=f"k-means, K = {clusters}", slots=clusters, eval_seed=seed
            )
    path = out / f"{cache.attributes['dataset']}-{cache.attributes['split']}-kmeans.csv"
    write_csv(scorer.metrics(["name", "slots", "eval_seed"]), path)
    return path
