"""Photographs at their own size: the grid of patches of each, and where its features lie.

The features of all images follow one another, (patches of all images, D); an image has as many rows
as its grid has patches, row by row.
"""

import numpy as np

Grid = tuple[int, int]  # rows and columns
MAX_PATCHES = 8_192  # of a photograph: TokenCut holds 5 matrices of patches by patches, 3 GB here


def grids_of(sizes: np.ndarray, patch: int) -> np.ndarray:
    """Widths and heights (num_images, 2) px -> rows and columns of patches that cover them.

    >>> grids_of(np.array([[500, 375], [320, 320]]), patch=16)
    array([[24, 32],
           [20, 20]])
    """
    return -(-sizes[:, ::-1].astype(np.int64) // patch)


def starts_of(grids: np.ndarray) -> np.ndarray:
    """Rows and columns (num_images, 2) -> the first row of each image's features, and the end.

    >>> starts_of(np.array([[24, 32], [20, 20]]))
    array([   0,  768, 1168])
    """
    return np.concatenate([[0], grids.prod(axis=1).cumsum()])


def alike(indices: np.ndarray, grids: np.ndarray, most: int) -> list[np.ndarray]:
    """Indices of images, at most ``most`` at a time, those of one grid together, ascending.

    >>> grids = np.array([[20, 20], [24, 32], [20, 20], [20, 20]])
    >>> alike(np.arange(4), grids, most=2)
    [array([0, 2]), array([3]), array([1])]
    """
    order = indices[np.lexsort((indices, grids[indices, 1], grids[indices, 0]))]
    changes = np.flatnonzero((grids[order][1:] != grids[order][:-1]).any(axis=1)) + 1
    groups = np.split(order, changes)
    return [group[start : start + most] for group in groups for start in range(0, len(group), most)]
