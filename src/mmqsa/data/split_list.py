"""Lists of a split's photographs: a text file with one name a line, or VOC's lists of a class."""

import codecs
import re
from collections import Counter
from collections.abc import Set
from pathlib import Path
from unicodedata import normalize

from mmqsa.config.files import quoted, read_bytes
from mmqsa.data.photograph_files import suffixes
from mmqsa.errors import InputError
from mmqsa.progress import notice

FLAGGED = re.compile(
    r"(.*\S)[ \t]+(-1|0|\+?1)"
)  # VOC: contains the class, is difficult, or does not


def read_lines(path: Path) -> list[str]:
    """The lines of a list without blanks around them; empty ones are left out.

    It is UTF-8, or UTF-16 with its mark at the beginning. Raises InputError.
    """
    content = read_bytes(path)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeError as error:
        raise InputError(f"{path}: cannot be read ({error}); save it as UTF-8") from None
    lines = (line.strip(" \t") for line in re.split("\r\n|\r|\n", text))
    return [line for line in lines if line]


def listed_ids(path: Path, known: Set[str]) -> list[str]:
    """The image ids in a list; ``known`` are those of the photographs that are there.

    Of a class's list, with a second column of 1, 0 and -1, they are those with 1, and a notice
    counts the others. Raises InputError where a line is something else than a name.
    """
    # macOS writes "é" as two characters where others write one.
    composed = {normalize("NFC", name): name for name in known}
    lines = [composed.get(normalize("NFC", line), line) for line in read_lines(path)]
    flagged = [match.groups() for line in lines if (match := FLAGGED.fullmatch(line))]
    names = [name for name, _ in flagged]
    of_class = any(name in known for name in names) or len(set(names)) == len(names)
    if len(flagged) == len(lines) > 0 and of_class and not any(line in known for line in lines):
        ids = [name for name, flag in flagged if flag in ("1", "+1")]
        ids = [composed.get(normalize("NFC", name), name) for name in ids]
        counts = Counter(flag for _, flag in flagged)
        if not ids:
            raise InputError(f"{path}: the second column is nowhere 1; it chooses no photograph")
        notice(
            f"{path}: has a second column: the photographs with 1 are taken ({len(ids)}), those "
            f"with -1 ({counts['-1']}) and 0 ({counts['0']}) are left out"
        )
        lines = ids
    for line in lines:
        if line not in known:
            _check_name(line, known, path)
    return lines


def _check_name(line: str, known: Set[str], path: Path) -> None:
    """Raises InputError that says what to do where a line is more than the name of a photograph."""
    name, parts = Path(line.replace("\\", "/")).name, re.split(r"[ \t,;]+", line)
    stem, suffix = Path(name).stem, Path(name).suffix.lower()
    if stem in known and suffix in suffixes():
        raise InputError(
            f"{path}: {quoted(line)} is a file; names are without folder and suffix: write "
            f"{stem}, and so in every line"
        )
    if len(parts) > 1 and parts[0] in known:
        raise InputError(
            f"{path}: {quoted(line)}: more than the name {parts[0]}; leave the name alone in its "
            "line, or have 1, 0 or -1 behind every name"
        )
