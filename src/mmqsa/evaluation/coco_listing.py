"""Which image of a split each entry of COCO's json is of: by a list of images, or by name."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mmqsa.config.base import validated
from mmqsa.config.files import check_regular, quoted, without_repeats
from mmqsa.errors import InputError
from mmqsa.evaluation.prediction_files import Size, refused_if_damaged
from mmqsa.evaluation.prediction_names import check_complete, check_others, matched, stand_for
from mmqsa.progress import notice

__all__ = ["Listing", "images_by_name", "read_large_json", "read_listing"]

MAX_BYTES = 2_000_000_000  # of a json; 100 objects for each of COCO's 5,000 images have 300 MB
Pixels = Annotated[int, Field(ge=1, le=100_000_000)]


class ListedImage(BaseModel):
    """One of ``images``."""

    model_config = ConfigDict(strict=True, frozen=True)

    id: int | str
    file_name: str
    width: Pixels | None = None
    height: Pixels | None = None

    @property
    def stem(self) -> str:
        """The name of its file, without folders, as Windows writes them or others, and suffix."""
        return Path(self.file_name.replace("\\", "/")).stem


@dataclass(frozen=True)
class Listing:
    """The ``images`` of a json, and which of them are images of the split."""

    path: Path
    ids: list[int | str]
    """of all images"""
    image_ids: dict[str, str]
    """id in the json, as text -> id in the split, of the split's images"""
    sizes: dict[str, Size]
    """id in the split -> width and height, where they are there"""

    def images_of(
        self, entries: Sequence[int | str], ids: Sequence[str], path: Path
    ) -> dict[int | str, str]:
        """The image_id of an entry in ``path`` -> the image of the split that it is of.

        Entries of other images are left out; a notice counts those of no image of the listing.
        Raises InputError where one of them may be of an image that the listing lacks.
        """
        listed = stand_for(dict.fromkeys(entries), map(str, self.ids))
        lost = [image_id for image_id in entries if image_id not in listed]
        if lost:
            images = "its images" if path == self.path else f"the images of {self.path}"
            text = (
                f"{path}: {len(lost)} of {len(entries)} entries have an image_id that none of "
                f"{images} has, the first {quoted(lost[0])}"
            )
            if _is_shifted(lost, self.ids):
                raise InputError(
                    f"{text}: one of the two seems to count from 0 and the other from 1; correct "
                    "the entries' image_id"
                )
            if not listed:
                fix = (
                    "correct the entries' image_id"
                    if path == self.path
                    else "name the json that the entries are of with --images"
                )
                raise InputError(f"{text}; their ids are like {quoted(self.ids[0])}; {fix}")
            if missing := self.missing(ids):
                raise InputError(f"{text}, and {missing[0]} is not among them; add it there")
            notice(f"{text}; ignored")
        known = self.image_ids
        return {one: known[listed_id] for one, listed_id in listed.items() if listed_id in known}

    def missing(self, ids: Sequence[str]) -> list[str]:
        """The images of the split that are not in the listing."""
        have = set(self.image_ids.values())
        return [image_id for image_id in ids if image_id not in have]


def read_listing(images: Any, path: Path, ids: Sequence[str], own: bool) -> Listing:
    """The ``images`` of a json. Raises InputError where they are malformed or of other photographs.

    ``own``: those beside the predictions, which may lack images without an object.
    """
    if not (isinstance(images, list) and images):
        fix = "; remove the key, or name the photographs there" if own else ""
        raise InputError(f"{path}: has no list of images{fix}")
    listed = [
        validated(ListedImage, one, f"{path}: images: entry {number}")
        for number, one in enumerate(images)
    ]
    by_stem = {one.stem: one for one in listed}
    texts = [str(one.id) for one in listed]
    for kind, values in (("file name", [one.stem for one in listed]), ("id", texts)):
        if len(set(values)) < len(values):
            twice = Counter(values).most_common(1)[0][0]
            raise InputError(f"{path}: images: two have the {kind} {quoted(twice)}; correct it")
    found = matched(by_stem, ids, f"{path}: file_name")
    if not found and own:
        raise InputError(
            f"{path}: images: none is of the split: a file_name is like "
            f"{quoted(listed[0].file_name)}, and the split has {ids[0]} and so on; correct the "
            "file names, or choose another --split"
        )
    if not own:
        check_complete(found, ids, path, f"{ids[0]} among its file names", by_stem)
    image_ids = {str(by_stem[stem].id): image_id for image_id, stem in found.items()}
    sizes = {
        image_id: (one.width, one.height)
        for image_id, one in ((image_id, by_stem[stem]) for image_id, stem in found.items())
        if one.width and one.height
    }
    listing = Listing(path, [one.id for one in listed], image_ids, sizes)
    if missing := listing.missing(ids):
        notice(
            f"{path}: images: {len(missing)} of {len(ids)} images of the split are not there, the "
            f"first {missing[0]}"
        )
    return listing


def _is_shifted(lost: Sequence[int | str], ids: Sequence[int | str]) -> bool:
    """Whether the one id that is lost is just before or after all that are listed, 0 or 1 first."""
    texts = [str(one) for one in ids]
    if not all(map(str.isdecimal, texts)) or len(set(map(str, lost))) > 1:
        return False
    numbers = sorted(map(int, texts))
    return (numbers[0], str(lost[0])) in ((1, "0"), (0, str(numbers[-1] + 1)))


def images_by_name(
    entries: Sequence[int | str], ids: Sequence[str], path: Path
) -> dict[int | str, str]:
    """The image_id of an entry -> the image of the split whose name it is.

    A notice counts entries of other images. Raises InputError as `check_others` does.
    """
    names = list(dict.fromkeys(entries))
    images = stand_for(names, ids)
    check_others(names, images, ids, path)
    others = [image_id for image_id in entries if image_id not in images]
    if others and images:
        notice(
            f"{path}: {len(others)} of {len(entries)} entries are of no image of the split, the "
            f"first of {quoted(others[0])}; ignored"
        )
    if others and not images:
        raise InputError(
            f"{path}: no object of any of the {len(ids)} images, such as {ids[0]}; its image ids "
            f"are like {quoted(others[0])}; name the json that has their file names with --images"
        )
    return images


def read_large_json(path: Path) -> Any:
    """A json file of any usual size; `config.files.read_json` is for small ones."""
    check_regular(path)
    if path.exists() and path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES // 10**9} GB; is it the right file?")
    with refused_if_damaged(path, "JSON"):
        return json.loads(path.read_bytes(), object_pairs_hook=without_repeats)
