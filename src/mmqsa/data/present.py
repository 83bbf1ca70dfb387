"""How many images of a split are there before anything is fetched: for a plan."""

from pathlib import Path

from mmqsa.config.base import expand
from mmqsa.config.data import DatasetConfig
from mmqsa.data.coco import CHOSEN, Coco20kFolder, CocoFolder
from mmqsa.data.folder import PhotoFolder
from mmqsa.data.layouts import LAYOUTS
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError


def present_images(dataset: DatasetConfig, split: str) -> tuple[int, Path] | None:
    """The number of images of ``split``, and the folder that has them; None where none has.

    The data set's root comes first, then the folders among its sources.
    """
    for place in (dataset.root, *dataset.sources):
        try:
            folder = LAYOUTS[dataset.kind].find(expand(place, "dataset.sources"))
            if count := _count(folder, split):
                return count, folder.path
        except (InputError, OSError):
            continue  # a URL, a variable that is not set, or a folder without this split
    return None


def check_split(dataset: DatasetConfig, split: str) -> None:
    """Raises InputError where the folder that will be used is there, and has no list of ``split``.

    Of COCO the annotations would have to be read; what is fetched for a split comes later.
    """
    if not issubclass(LAYOUTS[dataset.kind], VocFolder) or dataset.parts_of(split):
        return
    for place in (dataset.root, dataset.sources[0]):
        try:
            folder = LAYOUTS[dataset.kind].find(expand(place, "dataset.sources"))
        except (InputError, OSError):
            continue  # a URL, or a variable that is not set
        folder.ids(split)
        return


def _count(folder: PhotoFolder, split: str) -> int:
    """Of COCO its files are counted: its annotations take half a minute to read."""
    if isinstance(folder, Coco20kFolder):
        return len(folder.held(CHOSEN).read_text().split())
    if isinstance(folder, CocoFolder):
        name = f"{'train' if split == 'all-but-val' else split}{folder.year}"
        return sum(path.parent.name == name for path in folder.photographs())
    return len(folder.ids(split))
