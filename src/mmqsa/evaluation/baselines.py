"""Other methods on the same cached features: training-free ones, a supervised one, and the ceiling.

A baseline goes through the images of a cache and yields masks over patches, and a box where the
method has one. Features are standardised over the training set exactly as a model sees them, and
label maps and metrics are made of the masks as of a model's.

To add one: a generator with ``@baseline`` here, and its line in BASELINES of config/evaluation.py.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.ndimage import label as connected_components
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from mmqsa.atomic import claimed
from mmqsa.config.evaluation import BaselineConfig
from mmqsa.errors import InputError
from mmqsa.evaluation.boxes import boxes as boxes_of
from mmqsa.evaluation.native import one_mean, placed_label_maps
from mmqsa.evaluation.probe import LinearProbe, patch_shares
from mmqsa.evaluation.scoring import Scorer
from mmqsa.features.attributes import check_attributes
from mmqsa.features.cache import FeatureCache
from mmqsa.features.grids import Grid
from mmqsa.features.standardise import feature_statistics
from mmqsa.model.merging import graph_cut
from mmqsa.progress import progress_bar

__all__ = ["kmeans", "lost", "normalised_cut", "tokencut"]

LOST_SEEDS = 100  # patches of lowest degree that a seed may expand to (LOST, section 3.2)
TOKENCUT_THRESHOLD, TOKENCUT_EPSILON = 0.2, 1e-5  # of the graph's edges (TokenCut, section 3.2)


@dataclass
class Image:
    """An image as a baseline sees it: its index, its raw and its standardised features (N, D).

    Its ``grid`` has N patches: rows and columns.
    """

    index: int
    raw: np.ndarray
    features: np.ndarray
    grid: Grid


class Images:
    """The images of ``cache``, and what else a baseline may use: the training set and the knobs."""

    def __init__(self, cache: FeatureCache, train: FeatureCache, config: BaselineConfig):
        self.cache, self.train, self.config = cache, train, config.evaluation
        self.mean, self.std = feature_statistics(train.features, config.features.standardise)
        if cache.is_native:
            self.mean = one_mean(self.mean)

    def __iter__(self) -> Iterator[Image]:
        # Matrices of a few hundred rows: more threads only wait for each other.
        with threadpool_limits(1):
            for index in progress_bar(range(len(self.cache.ids)), desc="baseline", unit=" images"):
                raw = torch.from_numpy(self.cache.of_image(index)).float()
                features = ((raw - self.mean) / self.std).numpy()
                yield Image(index, raw.numpy(), features, self.cache.grid_of(index))

    def check_clusters(self, key: str) -> None:
        """Raises InputError that names the knob of more clusters than an image has patches."""
        most, patches = max(getattr(self.config, key)), self.cache.grids.prod(axis=1)
        if most > patches.min():
            raise InputError(
                f"evaluation.{key}: {most}, but {self.cache.path} has {patches.min()} patches in "
                "an image; name no more than these"
            )


@dataclass
class Prediction:
    """What a baseline finds in one image, under a printed ``name``.

    ``masks`` (K, N) sum to 1 at each patch. ``box`` (1, 4) in patches is the method's own; None:
    those of the slots. ``seed`` is None where nothing is drawn. ``num_slots`` is recorded; None: K.
    ``void`` says that the method had nothing to go by: all patches of the image are joined.
    """

    index: int
    name: str
    masks: np.ndarray
    box: np.ndarray | None = None
    seed: int | None = None
    num_slots: int | None = None
    void: bool | None = None


Method = Callable[[Images], Iterator[Prediction]]
METHODS: dict[str, Method] = {}


def baseline(name: str) -> Callable[[Method], Method]:
    """Register a generator as the baseline ``name``."""

    def register(method: Method) -> Method:
        METHODS[name] = method
        return method

    return register


@baseline("kmeans")
def _kmeans(images: Images) -> Iterator[Prediction]:
    images.check_clusters("kmeans_clusters")
    for image in images:
        for clusters in images.config.kmeans_clusters:
            for seed in images.config.seeds:
                masks = kmeans(image.features, clusters, seed)
                yield Prediction(image.index, f"k-means, K = {clusters}", masks, seed=seed)


@baseline("normalised-cut")
def _normalised_cut(images: Images) -> Iterator[Prediction]:
    images.check_clusters("cut_segments")
    for image in images:
        for clusters in images.config.cut_segments:
            masks = normalised_cut(image.features, clusters)
            yield Prediction(image.index, f"normalised cut, K = {clusters}", masks)


@baseline("lost")
def _lost(images: Images) -> Iterator[Prediction]:
    return _with_box("LOST", lost, images)


@baseline("tokencut")
def _tokencut(images: Images) -> Iterator[Prediction]:
    return _with_box("TokenCut", tokencut, images)


def _with_box(name: str, method: Callable, images: Images) -> Iterator[Prediction]:
    """On raw features, as published, and on standardised ones."""
    for image in images:
        for kind, features in (("raw", image.raw), ("standardised", image.features)):
            masks, box, void = method(features, image.grid)
            yield Prediction(image.index, f"{name}, {kind} features", masks, box, void=void)


@baseline("probe")
def _probe(images: Images) -> Iterator[Prediction]:
    probe = LinearProbe.fitted(images.train, images.mean, images.std)
    for image in images:
        yield Prediction(image.index, "linear probe (supervised)", probe.masks(image.features))


@baseline("oracle")
def _oracle(images: Images) -> Iterator[Prediction]:
    """The ground truth itself, at patch resolution: as many slots as the image has labels."""
    cache = images.cache
    cache.check_squares()
    kinds = {"classes": cache.classes, "instances": cache.instances}
    labelled = {kind: maps for kind, maps in kinds.items() if maps is not None}
    if not labelled:
        raise InputError(f"{cache.path}: has no label maps, so there is no oracle")
    for image in images:
        for kind, maps in labelled.items():
            shares = patch_shares(maps[image.index][None], cache.grid)[0]  # (N, 256)
            present, slots = np.unique(shares.argmax(axis=1), return_inverse=True)
            masks = _one_hot(slots, len(present))
            yield Prediction(image.index, f"oracle, {kind} at patch resolution", masks, num_slots=0)


def kmeans(features: np.ndarray, clusters: int, seed: int = 0) -> np.ndarray:
    """k-means++ on features (N, D), best of 4 starts -> masks (K, N).

    >>> image = np.zeros((6, 6, 4)) + [1.0, 0.0, 0.2, 0.0]  # features of 6 x 6 patches
    >>> image[1:3, 2:5] = [0.0, 1.0, 0.0, 0.2]  # an object
    >>> features = image.reshape(36, 4)
    >>> masks = kmeans(features, clusters=2)
    >>> masks.shape, sorted(masks.sum(axis=1).astype(int).tolist())  # patches of each
    ((2, 36), [6, 30])
    """
    means = KMeans(clusters, n_init=4, random_state=seed)
    with warnings.catch_warnings(action="ignore"):  # of patches that are all alike
        return _one_hot(means.fit_predict(features), clusters)


def normalised_cut(features: np.ndarray, segments: int) -> np.ndarray:
    """Spectral clustering of the cosines >= 0 of features (N, D) -> masks (K, N).

    >>> image = np.zeros((6, 6, 4)) + [1.0, 0.0, 0.2, 0.0]  # features of 6 x 6 patches
    >>> image[1:3, 2:5] = [0.0, 1.0, 0.0, 0.2]  # an object
    >>> features = image.reshape(36, 4)
    >>> masks = normalised_cut(features, segments=2)
    >>> masks.shape, sorted(masks.sum(axis=1).astype(int).tolist())
    ((2, 36), [6, 30])
    """
    return _one_hot(graph_cut(_cosine(features), segments), segments)


def lost(features: np.ndarray, grid: int | Grid) -> tuple[np.ndarray, np.ndarray, bool]:
    """LOST (Siméoni et al., BMVC 2021): features (N, D) -> masks (2, N), object second, and a box.

    And whether all patches are joined, so that the prediction says nothing.

    The seed is the patch that correlates positively with the fewest others. It expands to those of
    the next 100 such patches that correlate with it, and the object is every patch that correlates
    with their sum; the box (1, 4), in patches, is that of the seed's connected component. ``grid``
    is the patches a side, or rows and columns.

    >>> image = np.zeros((6, 6, 4)) + [1.0, -0.2, 0.2, 0.0]  # features of 6 x 6 patches
    >>> image[1:3, 2:5] = [-0.2, 1.0, 0.0, 0.2]  # an object
    >>> features = image.reshape(36, 4)
    >>> masks, box, says_nothing = lost(features, grid=6)
    >>> box, says_nothing  # x0 y0 x1 y1 in patches
    (array([[2., 1., 5., 3.]]), False)
    >>> masks[1].reshape(6, 6)[1]  # the second row of patches
    array([0., 0., 1., 1., 1., 0.], dtype=float32)
    """
    similarity = features @ features.T
    joined = similarity >= 0
    order = np.argsort(joined.sum(axis=1), kind="stable")
    seed, candidates = order[0], order[:LOST_SEEDS]
    similar = candidates[similarity[seed, candidates] >= 0]
    inside = similarity[:, similar].sum(axis=1) > 0
    inside[seed] = True
    box = _component_box(inside, int(seed), grid)
    return _one_hot(inside.astype(int), 2), box, bool(joined.all())


def tokencut(features: np.ndarray, grid: int | Grid) -> tuple[np.ndarray, np.ndarray, bool]:
    """TokenCut (Wang et al., CVPR 2022): features (N, D) -> masks (2, N), object second, and a box.

    And whether all patches are joined, so that the prediction says nothing.

    Patches whose features have a cosine > 0.2 are joined; the second smallest eigenvector of the
    normalised cut is split at its mean, and the side of its largest entry is the object. The box
    (1, 4), in patches, is that of the connected component that holds that entry. ``grid`` is as of
    `lost`.

    >>> image = np.zeros((6, 6, 4)) + [1.0, 0.0, 0.2, 0.0]  # features of 6 x 6 patches
    >>> image[1:3, 2:5] = [0.0, 1.0, 0.0, 0.2]  # an object
    >>> features = image.reshape(36, 4)
    >>> masks, box, says_nothing = tokencut(features, grid=6)
    >>> box, says_nothing  # x0 y0 x1 y1 in patches
    (array([[2., 1., 5., 3.]]), False)
    """
    joined = _cosine(features) > TOKENCUT_THRESHOLD
    edges = np.where(joined, 1.0, TOKENCUT_EPSILON)
    degree = np.diag(edges.sum(axis=1))
    vector = eigh(degree - edges, degree, subset_by_index=[1, 1])[1][:, 0]
    seed = int(np.abs(vector).argmax())
    inside = vector > vector.mean()
    if not inside[seed]:
        inside = ~inside
    box = _component_box(inside, seed, grid)
    return _one_hot(inside.astype(int), 2), box, bool(joined.all())


def _component_box(inside: np.ndarray, seed: int, grid: int | Grid) -> np.ndarray:
    """Box (1, 4) in patches of the 4-connected part of ``inside`` (N,) that holds ``seed``."""
    rows, columns = (grid, grid) if isinstance(grid, int) else grid
    parts, _ = connected_components(inside.reshape(rows, columns))
    return boxes_of((parts == parts.ravel()[seed]).astype(np.int32))


def _cosine(features: np.ndarray) -> np.ndarray:
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T


def _one_hot(labels: np.ndarray, num_slots: int) -> np.ndarray:
    """The slot of each patch (N,) -> hard masks (K, N)."""
    return np.eye(num_slots, dtype=np.float32)[labels].T


def score_baseline(
    name: str, cache: FeatureCache, train: FeatureCache, config: BaselineConfig, out: Path
) -> Path:
    """Score one baseline on every image of a cache; returns the metrics file in ``out``.

    Raises InputError when the caches' networks differ, or labels that the method needs are absent.
    """
    check_attributes(cache.network, train.network, cache.path, reader=str(train.path))
    scorer, first = Scorer(cache, single_boxes=True), config.evaluation.seeds[0]
    path = out / f"{cache.name}-{name}.csv"
    with claimed(path):
        for prediction in METHODS[name](Images(cache, train, config)):
            index, slots = prediction.index, prediction.num_slots
            seed = first if prediction.seed is None else prediction.seed
            scorer.add(
                [index],
                placed_label_maps(torch.from_numpy(prediction.masks)[None], cache, [index]),
                boxes=[_in_pixels(prediction.box, cache, index)],
                with_objects=seed == first,
                void=prediction.void,
                name=prediction.name,
                num_slots=len(prediction.masks) if slots is None else slots,
                eval_seed=seed,
            )
        return scorer.write(path, ["name", "num_slots", "eval_seed"])


def _in_pixels(box: np.ndarray | None, cache: FeatureCache, index: int) -> np.ndarray | None:
    """A method's own box (1, 4) in patches -> px of its image, without what was padded."""
    return None if box is None else (box * cache.patch).clip(0, [*cache.size(index)] * 2)
