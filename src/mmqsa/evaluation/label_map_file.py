"""A file of label maps: what a run, a baseline or the controls predict on the images of a cache.

    image_id   (num_images,) str
    NAME       (num_images, S, S) uint8, the slot of each pixel; one array for each prediction
    visible    (num_images, N) bool, the patches that masking leaves; of runs that hide any

Predictions of a run are called MATCHING/MASK_SOURCE, and heads/1, heads/2, … before they are
merged, with slots in the order of the reference head. Those of baselines and controls have their
printed name; that of a method of other code is called PREDICTION, whatever its title.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import h5py
import numpy as np

from mmqsa.atomic import claimed, temporary_file, write_together
from mmqsa.config.files import check_regular
from mmqsa.errors import InputError

HEADS, VISIBLE, PREDICTION = "heads", "visible", "prediction"
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)


class LabelMapWriter:
    """Writes predictions batch by batch into a temporary file."""

    def __init__(self, temporary: Path, ids: Sequence[str]):
        self._temporary, self._ids = temporary, ids
        self._file = h5py.File(temporary, "w")
        self._file["image_id"] = np.array([image_id.encode() for image_id in ids])

    def close(self) -> Path:
        """The temporary file, which is whole now."""
        self._file.close()
        return self._temporary

    def write(self, name: str, images: slice, values: np.ndarray) -> None:
        """Store label maps (B, S, S), or visible patches (B, N), of these ``images``."""
        if name not in self._file:
            shape, chunk = (len(self._ids), *values.shape[1:]), (1, *values.shape[1:])
            self._file.create_dataset(
                name, shape, values.dtype, chunks=chunk, compression="gzip", shuffle=False
            )
        self._file[name][images] = values


@contextmanager
def label_map_writer(path: Path, ids: Sequence[str]) -> Iterator[LabelMapWriter]:
    """A writer of ``path``, which is whole or absent. Raises InputError where another is there."""
    with claimed(path), temporary_label_maps(path, ids) as writer:
        yield writer
        write_together({path: writer.close()})


@contextmanager
def temporary_label_maps(path: Path, ids: Sequence[str]) -> Iterator[LabelMapWriter]:
    """A writer of a temporary file for ``path``, which is removed if nobody moves it there."""
    with temporary_file(path) as temporary, closing(LabelMapWriter(temporary, ids)) as writer:
        yield writer


class LabelMaps:
    """The predictions in such a file, opened for reading."""

    def __init__(self, path: Path):
        """Raises InputError where the file is missing, damaged or of another kind."""
        self.path = path
        check_regular(path)
        if not path.exists():
            raise InputError(f"{path}: no such file of label maps; run `mmqsa label-maps`")
        try:
            self._file = h5py.File(path, "r", locking=False)
            self.ids = [image_id.decode() for image_id in self._file["image_id"][:]]
            self.arrays: dict[str, h5py.Dataset] = {}
            self._file.visititems(self._take)
        except DAMAGE as error:
            reason = " ".join(str(error).split())[:160]
            raise InputError(
                f"{path}: not a readable file of label maps ({reason}); delete it and run "
                "`mmqsa label-maps` again"
            ) from None
        self.visible = self.arrays.pop(VISIBLE, None)

    def _take(self, name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and name != "image_id":
            expected = ("|b1", 2) if name == VISIBLE else ("|u1", 3)
            stored = not (item.external or item.is_virtual)  # in this file
            if (item.dtype.str, item.ndim, len(item), stored) != (*expected, len(self.ids), True):
                raise ValueError(f"{name} is {item.shape} {item.dtype}")
            self.arrays[name] = item

    @property
    def names(self) -> list[str]:
        """Those of the predictions, without the heads'."""
        return [name for name in self.arrays if not name.startswith(f"{HEADS}/")]

    @property
    def heads(self) -> list[str]:
        """Those of the heads, in order."""
        names = (name for name in self.arrays if name.startswith(f"{HEADS}/"))
        return sorted(names, key=lambda name: int(name.rpartition("/")[2]))
