"""Photographs as people have them: any size, mode and orientation, in files and folders."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmqsa.errors import InputError


def as_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image as it is meant to be seen: upright, 8-bit RGB, transparency over white.

    Of an animation the first frame; 16-bit grey keeps its 8 highest bits, and grey in floats is
    stretched from its least value to its greatest.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image, dtype=np.float64)
        low, high = (grey.min(), grey.max()) if image.mode == "F" else (0, 65535)
        image = Image.fromarray(
            ((grey - low) / max(high - low, 1e-12) * 255).clip(0, 255).astype(np.uint8)
        )
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def read_photograph(path: Path) -> Image.Image:
    """The photograph in a file, upright RGB. Raises InputError on a file that is none."""
    try:
        with Image.open(path) as image:
            return as_rgb(image)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder") from None
    except IsADirectoryError:
        raise InputError(f"{path}: has no photographs in it") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image that Pillow can read") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be decoded ({' '.join(str(error).split())})") from None


def _image_suffixes() -> set[str]:
    """Of what Pillow opens the images: not, for example, HDF5, MPEG or PostScript."""
    known = Image.registered_extensions().items()
    return {
        suffix
        for suffix, format in known
        if format in Image.OPEN and Image.MIME.get(format, "").startswith("image/")
    }


def find_photographs(paths: Iterable[Path], besides: Path) -> list[tuple[Path, Path]]:
    """Files, and every image file below folders: (file, name without suffix for what is written).

    Names are unique: below a folder a file keeps its place, and two of one name are told apart by
    their suffix, then by a number. What lies below ``besides`` is left out. A path that does not
    exist, or a folder without images, is passed on for its reader to refuse.
    """
    known = _image_suffixes()
    found: list[tuple[Path, Path]] = []
    for path in paths:
        inside = sorted(
            own
            for own in (path.rglob("*") if path.is_dir() else [])
            if own.suffix.lower() in known
            and not any(part.startswith(".") for part in own.relative_to(path).parts)
            and besides.resolve() not in own.resolve().parents
        )
        found += [(own, own.relative_to(path)) for own in inside] or [(path, Path(path.name))]
    taken: set[Path] = set()
    named = []
    for path, name in found:
        wanted = [name.with_suffix(""), name.with_name(name.name.replace(".", "-"))]
        wanted += [name.with_name(f"{name.stem}-{number}") for number in range(2, len(found) + 2)]
        free = next(own for own in wanted if own not in taken)
        taken.add(free)
        named.append((path, free))
    return named
