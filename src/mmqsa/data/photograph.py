"""Reading of a photograph of any mode: the door of image files."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmqsa.config.files import check_regular
from mmqsa.data.photograph_files import KINDS, advice_on, image_formats
from mmqsa.data.upright import TURNS, Upright, orientation_of
from mmqsa.errors import InputError

MAX_PIXELS = 100_000_000  # 300 MB decoded; known from a file's head, before anything is decoded
TILE = 2048  # px a side, of what is converted at a time
# Pillow warns of what is refused here, or is read all the same.
warnings.filterwarnings("ignore", module=r"PIL\.")


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file, its pixels not decoded yet.

    Raises InputError when it is no image, or too large a one, or what is done with it fails.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: holds no photograph that can be read")
        check_regular(path)
        with Image.open(path, formats=image_formats()) as image:
            if image.format == "TIFF" and KINDS.get(path.suffix.lower()):
                raise UnidentifiedImageError  # a raw file's small preview
            check_pixels(path, image.size)
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder") from None
    except UnidentifiedImageError:
        reason = advice_on(path) or "no image that Pillow can read"
        raise InputError(f"{path}: cannot be decoded ({reason})") from None
    except Exception as error:  # a decoder raises anything on a damaged file
        raise InputError(f"{path}: cannot be decoded ({' '.join(str(error).split())})") from None


def read_photograph(path: Path) -> Image.Image:
    """Read a file as 8-bit RGB, upright. Raises InputError as `opened` does."""
    with opened(path) as image:
        return as_rgb(image)


def read_upright(path: Path) -> Upright:
    """A photograph's size and how it is turned, without its pixels. Raises InputError."""
    with opened(path) as image:
        orientation, size = orientation_of(image), image.size
        # Pillow turns a TIFF itself, and says the size that it will have.
        turned = orientation > 4 and image.format != "TIFF"
        return Upright(size[::-1] if turned else size, orientation)


def check_pixels(path: Path | str, size: tuple[int, int]) -> None:
    """Raises InputError when an image of ``size`` (w, h) would fill the memory."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{path}: {width}x{height} px, more than {MAX_PIXELS // 10**6} megapixels; make it "
            "smaller"
        )


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert any PIL image to 8-bit RGB, upright as its EXIF data say, transparency over white.

    Of an animation the first frame; 16-bit grey keeps its 8 highest bits, and grey in floats is
    stretched from its lowest value to its highest. Raises ValueError when a float is not finite.
    """
    image.load()  # before its orientation is asked for: Pillow turns a TIFF itself
    if (turn := TURNS.get(orientation_of(image))) is not None:
        image = image.transpose(turn)
        # Without the EXIF data: who gets this image does not turn it again.
        image.info = {key: value for key, value in image.info.items() if key == "transparency"}
    if image.mode == "RGB" and not image.has_transparency_data:
        return image  # of 50 megapixels one copy
    low, high = _range(image) if image.mode == "F" else (0.0, 0.0)
    converted = Image.new("RGB", image.size)
    for corner, tile in _tiles(image):
        if tile.mode.startswith("I"):
            tile = Image.fromarray((np.asarray(tile).clip(0, 65535) // 257).astype(np.uint8))
        elif tile.mode == "F":
            values = np.asarray(tile, dtype=np.float64) - low
            tile = Image.fromarray((values / max(high - low, 1e-12) * 255).astype(np.uint8))
        elif tile.has_transparency_data:
            layer = tile.convert("RGBA")
            tile = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        converted.paste(tile.convert("RGB"), corner)
    return converted


def _range(image: Image.Image) -> tuple[float, float]:
    """The lowest and the highest value of grey in floats."""
    tiles = (np.asarray(tile) for _, tile in _tiles(image))
    lows, highs = zip(*((tile.min(), tile.max()) for tile in tiles), strict=True)
    if not np.isfinite([lows, highs]).all():
        raise ValueError("a value is not finite")
    return float(min(lows)), float(max(highs))


def _tiles(image: Image.Image) -> Iterator[tuple[tuple[int, int], Image.Image]]:
    """Left upper corners and parts of an image: a conversion of all of it would take gigabytes."""
    for x, y in product(range(0, image.width, TILE), range(0, image.height, TILE)):
        box = (x, y, min(x + TILE, image.width), min(y + TILE, image.height))
        yield (x, y), image.crop(box)
