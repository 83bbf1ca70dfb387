"""Other methods on the same cached keys: training-free ones, a supervised one, and the ceiling.

Each takes one image's keys and gives masks over patches, and where the method has it a box of its
own. Keys are standardised over the training set exactly as a model sees them, and the masks take
the same road to label maps and metrics.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.ndimage import label as connected_components
from sklearn.cluster import KMeans, spectral_clustering
from threadpoolctl import threadpool_limits

from mmqsa.config.evaluation import BaselineConfig, BaselineName
from mmqsa.errors import InputError
from mmqsa.evaluation.metrics import boxes as boxes_of
from mmqsa.evaluation.probe import LinearProbe, patch_shares
from mmqsa.evaluation.scoring import Scorer, label_maps
from mmqsa.features.cache import FeatureCache, check_attributes
from mmqsa.features.standardise import feature_statistics
from mmqsa.progress import progress_bar

LOST_SEEDS = 100  # patches of lowest degree that a seed may expand to (LOST, section 3.2)
TOKENCUT_THRESHOLD, TOKENCUT_EPSILON = 0.2, 1e-5  # of the graph's edges (TokenCut, section 3.2)


@dataclass
class Prediction:
    """Masks (K, N) that sum to 1 at a patch, and the method's own box (1, 4) in patches, if any."""

    name: str
    masks: np.ndarray
    seed: int
    box: np.ndarray | None = None


def kmeans_masks(keys: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Keys (N, D) of one image -> hard masks (K, N): k-means++, best of 4 starts."""
    return _hard(KMeans(clusters, n_init=4, random_state=seed).fit_predict(keys), clusters)


def normalised_cut_masks(keys: np.ndarray, clusters: int) -> np.ndarray:
    """Keys (N, D) -> hard masks (K, N): spectral clustering of their cosine similarities, >= 0."""
    affinity = _cosine(keys).clip(1e-6)
    found = spectral_clustering(
        affinity, n_clusters=clusters, assign_labels="cluster_qr", random_state=0
    )
    return _hard(found, clusters)


def lost(keys: np.ndarray, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """LOST (Siméoni et al., BMVC 2021): keys (N, D) -> masks (2, N), object second, and its box.

    The seed is the patch that correlates positively with the fewest others. It expands to those of
    the next 100 such patches that correlate with it, and the object is every patch that correlates
    with their sum; the box (1, 4), in patches, is of the seed's connected component.
    """
    similarity = keys @ keys.T
    order = np.argsort((similarity >= 0).sum(axis=1), kind="stable")
    seed, candidates = order[0], order[:LOST_SEEDS]
    similar = candidates[similarity[seed, candidates] >= 0]
    inside = similarity[:, similar].sum(axis=1) > 0
    inside[seed] = True
    return _hard(inside.astype(int), 2), _component_box(inside, int(seed), grid)


def tokencut(keys: np.ndarray, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """TokenCut (Wang et al., CVPR 2022): keys (N, D) -> masks (2, N), object second, and its box.

    Patches whose keys have a cosine > 0.2 are joined; the second smallest eigenvector of the
    normalised cut is split at its mean, and the side of its largest entry is the object. The box
    (1, 4), in patches, is of the connected component that holds that entry.
    """
    edges = np.where(_cosine(keys) > TOKENCUT_THRESHOLD, 1.0, TOKENCUT_EPSILON)
    degree = np.diag(edges.sum(axis=1))
    vector = eigh(degree - edges, degree, subset_by_index=[1, 1])[1][:, 0]
    seed = int(np.abs(vector).argmax())
    inside = vector > vector.mean()
    if not inside[seed]:
        inside = ~inside
    return _hard(inside.astype(int), 2), _component_box(inside, seed, grid)


def _component_box(inside: np.ndarray, seed: int, grid: int) -> np.ndarray:
    """Box (1, 4) in patches of the 4-connected part of ``inside`` (N,) that holds ``seed``."""
    parts, _ = connected_components(inside.reshape(grid, grid))
    return boxes_of((parts == parts.ravel()[seed]).astype(np.int32))


def _cosine(keys: np.ndarray) -> np.ndarray:
    unit = keys / np.maximum(np.linalg.norm(keys, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T


def _hard(labels: np.ndarray, number: int) -> np.ndarray:
    return np.eye(number, dtype=np.float32)[labels].T


class _Predictor:
    """What one baseline predicts for each image of a cache."""

    def __init__(self, method: BaselineName, cache: FeatureCache, train: FeatureCache, config):
        self.method, self.cache, self.config = method, cache, config
        self.mean, self.std = feature_statistics(train.features, config.features.standardise)
        if method == "probe":
            self.probe = LinearProbe.fitted(train, self.mean, self.std)
        if method == "oracle" and cache.classes is None and cache.instances is None:
            raise InputError(f"{cache.path}: has no label maps, so there is no oracle")

    def __call__(self, index: int) -> Iterator[Prediction]:
        raw = torch.from_numpy(self.cache.read(index)).float()
        keys, grid = ((raw - self.mean) / self.std).numpy(), self.cache.grid
        evaluation = self.config.evaluation
        once = evaluation.seeds[0]  # of what nothing is drawn for
        if self.method == "kmeans":
            for clusters in evaluation.kmeans_clusters:
                for seed in evaluation.seeds:
                    masks = kmeans_masks(keys, clusters, seed)
                    yield Prediction(f"k-means, K = {clusters}", masks, seed)
        elif self.method == "normalised-cut":
            for clusters in evaluation.cut_segments:
                masks = normalised_cut_masks(keys, clusters)
                yield Prediction(f"normalised cut, K = {clusters}", masks, once)
        elif self.method in ("lost", "tokencut"):
            method = {"lost": ("LOST", lost), "tokencut": ("TokenCut", tokencut)}[self.method]
            for what, own in (("raw keys", raw.numpy()), ("standardised keys", keys)):
                masks, box = method[1](own, grid)
                yield Prediction(f"{method[0]}, {what}", masks, once, box)
        elif self.method == "probe":
            yield Prediction("linear probe (supervised)", self.probe.masks(keys), once)
        else:
            for kind in ("classes", "instances"):
                maps = getattr(self.cache, kind)
                if maps is not None:
                    shares = patch_shares(maps[index][None], grid)[0]  # (N, 256)
                    found = np.unique(shares.argmax(axis=1), return_inverse=True)
                    masks = _hard(found[1], len(found[0]))
                    yield Prediction(f"oracle, {kind} at patch resolution", masks, once)


def score_baseline(
    method: BaselineName,
    cache: FeatureCache,
    train: FeatureCache,
    config: BaselineConfig,
    out: Path,
) -> Path:
    """Score one method on every image of a cache; returns the metrics file in ``out``.

    Raises InputError when the caches' networks differ, or labels that the method needs are absent.
    """
    check_attributes(cache.network, train.network, cache.path, wanted_by=str(train.path))
    scorer = Scorer(cache)
    predictions = _Predictor(method, cache, train, config)
    patch = cache.side / cache.grid
    # Matrices of a few hundred rows: more threads only wait for each other.
    with threadpool_limits(1):
        for index in progress_bar(range(len(scorer.ids)), desc=method, unit=" images"):
            for found in predictions(index):
                scorer.add(
                    [index],
                    label_maps(torch.from_numpy(found.masks)[None], cache.side),
                    boxes=None if found.box is None else [found.box * patch],
                    with_objects=found.seed == config.evaluation.seeds[0],
                    name=found.name,
                    slots=len(found.masks) if method != "oracle" else 0,  # as many as objects
                    eval_seed=found.seed,
                )
    return scorer.write(out / f"{cache.name}-{method}.csv", ["name", "slots", "eval_seed"])
