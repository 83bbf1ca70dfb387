"""Reading of a photograph of any mode: the door of image files."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmqsa.config.files import check_regular
from mmqsa.errors import InputError

ORIENTATION = 274  # the EXIF tag
MAX_PIXELS = 100_000_000  # 300 MB decoded; known from a file's head, before anything is decoded
# Pillow warns of what is refused here, or is read all the same.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_photograph(path: Path, upright: bool = True) -> Image.Image:
    """Read a file as 8-bit RGB. Raises InputError when it is no image, or too large a one.

    Not ``upright``: as stored, which is how a data set's labels are drawn.
    """
    check_regular(path)
    try:
        with Image.open(path) as image:
            check_pixels(path, image.size)
            return as_rgb(image, upright)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: cannot be decoded (no image that Pillow can read)") from None
    except Exception as error:  # a decoder raises anything on a damaged file
        raise InputError(f"{path}: cannot be decoded ({' '.join(str(error).split())})") from None


def check_pixels(path: Path, size: tuple[int, int]) -> None:
    """Raises InputError when an image of ``size`` (w, h) would fill the memory."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{path}: {width}x{height} px, more than {MAX_PIXELS // 10**6} megapixels; make it "
            "smaller"
        )


def as_rgb(image: Image.Image, upright: bool = True) -> Image.Image:
    """Convert any PIL image to 8-bit RGB, with transparency over white.

    Of an animation the first frame; 16-bit grey keeps its 8 highest bits, and grey in floats is
    stretched from its lowest value to its highest. ``upright`` turns it as its EXIF data say.
    """
    if upright and image.getexif().get(ORIENTATION, 1) != 1:
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
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")  # of 50 megapixels one copy
