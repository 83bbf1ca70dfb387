"""Grids of photographs, against plain counting."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as some

from mmqsa.features.grids import alike, grids_of, starts_of


@given(sizes=some.lists(some.tuples(some.integers(1, 99), some.integers(1, 99)), min_size=1))
def test_patches_cover_a_photograph_and_no_more(sizes):
    grids = grids_of(np.array(sizes), patch=16)
    for (width, height), (rows, columns) in zip(sizes, grids, strict=True):
        assert 16 * (rows - 1) < height <= 16 * rows
        assert 16 * (columns - 1) < width <= 16 * columns
    starts = starts_of(grids)
    assert np.diff(starts).tolist() == grids.prod(axis=1).tolist() and starts[0] == 0


@given(data=some.data(), most=some.integers(1, 5))
def test_batches_have_one_grid_and_every_image_once(data, most):
    grids = np.array(data.draw(some.lists(some.tuples(some.integers(1, 3), some.integers(1, 3)))))
    grids = grids.reshape(-1, 2)
    pending = np.flatnonzero(np.arange(len(grids)) % 3)  # those of an extraction that goes on
    batches = alike(pending, grids, most)
    assert sorted(np.concatenate([[], *batches])) == pending.tolist()
    for batch in batches:
        assert 0 < len(batch) <= most and (np.diff(batch) > 0).all()
        assert len({tuple(grid) for grid in grids[batch]}) == 1
    kinds = {tuple(grid) for grid in grids[pending]}
    counts = [sum(tuple(grid) == kind for grid in grids[pending]) for kind in kinds]
    assert len(batches) == sum(-(-count // most) for count in counts)
