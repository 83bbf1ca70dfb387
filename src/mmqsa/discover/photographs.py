"""Reading of photographs of any size, mode and orientation, from files and folders."""

from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmqsa.errors import InputError


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert any PIL image to upright 8-bit RGB, with transparency over white.

    Of an animation the first frame; 16-bit grey keeps its 8 highest bits, and grey in floats is
    stretched from its lowest value to its highest.
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
    """Read a file as upright RGB. Raises InputError when it is not an image."""
    try:
        with Image.open(path) as image:
            return as_rgb(image)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder without photographs") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image that Pillow can read") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be decoded ({' '.join(str(error).split())})") from None


def find_photographs(paths: Iterable[Path], besides: Path) -> list[tuple[Path, Path]]:
    """List files, and every image file below folders: (file, name without suffix for its results).

    Names are unique: below a folder a file keeps its place, and two of one name are told apart by
    their suffix, then by a number. Files below ``besides`` are left out. A path that does not
    exist, or a folder without images, stays in the list for its reader to refuse.
    """
    # Of the images that Pillow opens: not, for example, of HDF5, MPEG or PostScript.
    suffixes = {
        suffix
        for suffix, format in Image.registered_extensions().items()
        if format in Image.OPEN and Image.MIME.get(format, "").startswith("image/")
    }
    excluded = besides.resolve()
    photographs: list[tuple[Path, Path]] = []  # file, path below the folder that was given
    for path in paths:
        inside = sorted(
            file
            for file in (path.rglob("*") if path.is_dir() else [])
            if file.suffix.lower() in suffixes
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and excluded not in file.resolve().parents
        )
        photographs += [(file, file.relative_to(path)) for file in inside] or [
            (path, Path(path.name))
        ]
    named: dict[Path, Path] = {}  # name of the results -> file
    for path, name in photographs:
        numbered = (f"{name.stem}-{number}" for number in count(2))
        stems = chain([name.stem, name.name.replace(".", "-")], numbered)
        free = next(stem for stem in stems if name.with_name(stem) not in named)
        named[name.with_name(free)] = path
    return [(path, name) for name, path in named.items()]
