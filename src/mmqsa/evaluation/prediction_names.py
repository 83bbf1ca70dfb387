"""Which image of a split a name in someone else's predictions stands for."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from mmqsa.config.files import quoted
from mmqsa.errors import InputError
from mmqsa.progress import notice

__all__ = ["check_complete", "check_others", "matched", "stand_for"]

Key = TypeVar("Key", bound=int | str)
# What programs add to a photograph's name: its folder, its suffix, Roboflow's hash, blanks.
SUFFIX = r"(?:jpe?g|png|bmp|tiff?|webp)"
ADDED = re.compile(
    rf"\s*(?:.*[\\/])?(.+?)(?:_{SUFFIX}\.rf\.\w+)?(?:\.{SUFFIX})*\s*", re.DOTALL | re.IGNORECASE
)
MAX_NAME = 1000  # characters of a name that is searched for what was added to it


def stand_for(names: Iterable[Key], ids: Iterable[str]) -> dict[Key, str]:
    """Name -> the image id that it stands for: the same text, or the same number.

    So 139, "139" and "000000000139" are one image. Names of no image are left out.

    >>> stand_for([139, "139", 7], ["000000000139", "val_00007"])
    {139: '000000000139', '139': '000000000139'}
    """
    texts: dict[str, str] = {}
    numbers: dict[int | None, str | None] = {}
    for image_id in ids:
        texts[_composed(image_id)] = image_id
        number = _number(image_id)
        numbers[number] = None if number is None or number in numbers else image_id
    images: dict[Key, str] = {}
    for name in names:
        text = _composed(str(name))
        if (found := texts.get(text) or numbers.get(_number(text))) is not None:
            images[name] = found
    return images


def matched(names: Iterable[Key], ids: Sequence[str], about: Path | str) -> dict[str, Key]:
    """Image id -> the one name that stands for it. Others are ignored, with one notice.

    Raises InputError, which begins with ``about``, where two names stand for one image, and as
    `check_others` does.

    >>> matched([139, 7], ["000000000139", "val_00007"], "predictions.json")
    {'000000000139': 139}
    """
    names = list(names)
    images, found = stand_for(names, ids), dict[str, Key]()
    for name, image_id in images.items():
        if image_id in found:
            raise InputError(
                f"{about}: {quoted(found[image_id])} and {quoted(name)} are both of {image_id}; "
                "remove one"
            )
        found[image_id] = name
    check_others(names, images, ids, about)
    others = [name for name in names if name not in images]
    if others and found:
        more = f" and {len(others) - 1} more are" if len(others) > 1 else " is"
        notice(f"{about}: {quoted(others[0])}{more} of no image of the split; ignored")
    return found


def check_others(
    names: Sequence[Key], images: dict[Key, str], ids: Sequence[str], about: Path | str
) -> None:
    """Raises InputError where a name of no image must be meant for one.

    ``images`` are those that the other names stand for. Either the names only count the images, or
    something was added to the name of an image that is left without a prediction.
    """
    others = [str(name) for name in names if name not in images]
    if not others:
        return
    numbers = {_number(str(name)) for name in names}
    if images and numbers in (set(range(len(names))), set(range(1, len(names) + 1))):
        raise InputError(
            f"{about}: its ids {min(map(int, names))} to {max(map(int, names))} seem to count the "
            "images; call them by their names, or give COCO's json of the images as --images"
        )
    bare: dict[str, str] = {}  # what is left of a name -> the name
    for name in others:
        if len(name) <= MAX_NAME and (match := ADDED.fullmatch(name)):
            bare.setdefault(match[1], name)
    have = set(images.values())
    for own, image_id in stand_for(bare, ids).items():
        if image_id not in have:
            before, _, after = bare[own].partition(own)
            added = " and ".join(repr(part) for part in (before, after) if part)
            raise InputError(
                f"{about}: {quoted(bare[own])} is no image of the split, and {image_id} is; leave "
                f"out {added}"
            )


def check_complete(
    found: dict[str, Key],
    ids: Sequence[str],
    about: Path | str,
    example: str,
    names: Iterable[Key],
) -> None:
    """Raises InputError that names the first image without a prediction, and how many there are.

    ``found`` are image ids and the one of ``names`` that stands for each; ``example`` says what
    one would be called.
    """
    missing = [image_id for image_id in ids if image_id not in found]
    if missing:
        more = f" and of {len(missing) - 1} others" if len(missing) > 1 else ""
        used = set(found.values())
        seen = next((f", where there is {quoted(name)}" for name in names if name not in used), "")
        raise InputError(
            f"{about}: has no prediction of {missing[0]}{more}, of {len(ids)} images; expected "
            f"{example}{seen}"
        )


def _composed(text: str) -> str:
    """A name as it is written everywhere but on macOS, which stores accents apart."""
    return unicodedata.normalize("NFC", text)


def _number(text: str) -> int | None:
    """The number that a text is, or None."""
    return int(text) if text.isdecimal() and len(text) <= 20 else None
