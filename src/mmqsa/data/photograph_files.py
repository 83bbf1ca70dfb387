"""Which files of a folder are photographs: one rule for every command and every layout."""

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path

from PIL import Image

from mmqsa.errors import InputError
from mmqsa.progress import notice

# What cameras write and Pillow does not read, and what to do with each kind. Pillow opens many raw
# files, but finds a small preview in them.
HEIC = "HEIC"
CONVERTED = {
    HEIC: "HEIC files are read once `pip install pillow-heif` is done",
    "raw": "make JPEG files of raw ones (`darktable-cli FILE FILE.jpg`)",
    "video": "take frames out of videos (`ffmpeg -i FILE FRAME-%05d.jpg`)",
    "JPEG XL": "make JPEG files of JPEG XL (`djxl FILE FILE.jpg`)",
}
KINDS = dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), HEIC)
KINDS |= dict.fromkeys(
    (
        *(".3fr", ".arw", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr"),
        *(".iiq", ".k25", ".kdc", ".mdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef"),
        *(".ptx", ".r3d", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
    ),
    "raw",
)
KINDS |= dict.fromkeys(
    (
        *(".3gp", ".avi", ".flv", ".insv", ".lrv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".thm", ".webm", ".wmv"),
    ),
    "video",
)
KINDS |= {".jxl": "JPEG XL"}
# Formats that begin with bytes no other file begins with: a file without a suffix is one of these.
BY_CONTENT = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "WEBP")
SHOWN = 12  # suffixes in a notice


@cache
def image_formats() -> tuple[str, ...]:
    """Formats of images that Pillow opens: not, for example, HDF5, MPEG or PostScript programs.

    HEIF is among them where pillow-heif is installed.
    """
    Image.init()
    with suppress(ImportError, OSError):  # OSError: its library cannot be loaded
        import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in Image.OPEN if Image.MIME.get(name, "").startswith("image/"))


@cache
def suffixes() -> frozenset[str]:
    """Suffixes of photographs, in small letters; an .mpo is a JPEG with further pictures."""
    formats = {*image_formats(), "MPO"}
    known = (suffix for suffix, name in Image.registered_extensions().items() if name in formats)
    return frozenset(known) | {".mpo"}


def is_photograph(path: Path) -> bool:
    """Whether a file of a folder is a photograph: by its suffix in any case, else by its content.

    Its content is looked at where it has no suffix. Names that begin with a dot are not: systems
    keep other things there, such as the ``._x.jpg`` that macOS writes beside ``x.jpg``.
    """
    if path.name.startswith("."):
        return False
    if path.suffix:
        return path.suffix.lower() in suffixes()
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        formats = [name for name in BY_CONTENT if name in image_formats()]
        with Image.open(path, formats=formats):
            return True
    except Exception:  # a decoder raises anything on what is none of its own
        return False


def photographs_among(files: Iterable[Path], folder: Path) -> list[Path]:
    """The photographs among the files of a folder; one notice counts the others by suffix."""
    photographs, others = [], Counter[str]()
    for path in files:
        suffix = path.suffix.lower()
        if is_photograph(path):
            photographs.append(path)
        elif not path.name.startswith("."):
            others[suffix or "without a suffix"] += 1
        elif suffix in suffixes():
            others[f".*{suffix}"] += 1
    if others:
        number, ordered = others.total(), sorted(others.items(), key=lambda one: (-one[1], one[0]))
        counts = [f"{count} {suffix}" for suffix, count in ordered]
        more = ["…"] if len(counts) > SHOWN else []
        kinds = {KINDS.get(suffix) for suffix in others}
        advice = [what_to_do for kind, what_to_do in CONVERTED.items() if kind in kinds]
        left_out = f"{number} file{'s'[: number != 1]} left out, no photograph that can be read"
        listed = ", ".join(counts[:SHOWN] + more)
        notice("; ".join([f"{folder}: {left_out}: {listed}", *advice]))
    return photographs


def files_in(folder: Path) -> list[Path]:
    """The files of a folder, without those of its subfolders; none where there is no folder."""
    return [path for path, is_folder in _inside(folder) if not is_folder]


def photographs_of(folder: Path) -> list[Path]:
    """The photographs of a folder; notices count its other files, and subfolders."""
    folders = [path.name for path, is_folder in _inside(folder) if is_folder]
    folders = [name for name in folders if not name.startswith(".")]
    if folders:
        notice(
            f"{folder}: folders in it are not searched, such as {folders[0]} (of {len(folders)}); "
            "move their photographs out if they belong here"
        )
    return photographs_among(files_in(folder), folder)


def _inside(folder: Path) -> list[tuple[Path, bool]]:
    """What is in a folder, in order, and whether each is a folder itself."""
    try:
        with os.scandir(folder) as entries:
            return sorted((folder / entry.name, entry.is_dir()) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def photographs_by_id(folder: Path) -> dict[str, Path]:
    """The photographs of a folder by id, which is a file's name without its suffix.

    Raises InputError where two have one id.
    """
    try:
        return _by_id(folder, os.stat(folder).st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return {}


@lru_cache(maxsize=8)
def _by_id(folder: Path, changed: int) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in filter(is_photograph, files_in(folder)):
        other = found.setdefault(path.stem, path)
        if other != path:
            raise InputError(
                f"{folder}: {other.name} and {path.name} are two photographs of one id; remove "
                "one, or rename it"
            )
    return found


def kind_of(path: Path) -> str | None:
    """What a file is that Pillow does not read: a key of `CONVERTED`, by suffix, else content."""
    if kind := KINDS.get(path.suffix.lower()):
        return kind
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(12)
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "JPEG XL"
    if head[4:8] != b"ftyp":
        return None
    brand = head[8:12]
    if brand in (b"avif", b"avis"):  # damaged, or Pillow was built without it
        return None
    if brand == b"crx ":
        return "raw"
    return HEIC if brand[:3] in (b"hei", b"hev", b"mif", b"msf") else "video"


def advice_on(path: Path) -> str | None:
    """What to do with a file that Pillow does not read; None where nothing but its repair helps."""
    kind = kind_of(path)
    if kind == HEIC and "HEIF" in image_formats():
        return None
    return CONVERTED.get(kind or "")
