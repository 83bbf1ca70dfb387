"""The door of metrics files: csv that a stage wrote, checked before a table is made of it."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Mapping
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd

from mmqsa.config.base import MAX_COUNT
from mmqsa.config.choices import MaskSource, MatchingName
from mmqsa.config.evaluation import SAME_MASKS
from mmqsa.config.files import check_regular, quoted
from mmqsa.config.tables import GEOMETRY_PROTOCOLS, LABELS, METRICS, SIGNED, unpack
from mmqsa.errors import InputError

RUN = ("matching", "mask_source")  # names of the rows of a run's files
REFERENCE = ("name", "num_slots")  # of those of baselines and controls
MAX_BYTES = 200_000_000  # uncompressed; COCO's scores image by image have 60 MB
MAX_ROWS, MAX_COLUMNS = 2_000_000, 1000  # those have 300,000 rows
PLAIN = re.compile(r"[^\x00-\x1f\x7f]{1,1000}")  # text that a table can carry


class Kind(NamedTuple):
    """The columns that a kind of file has at least."""

    text: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()  # in every row
    measured: tuple[str, ...] = ()  # or empty where there was nothing to measure
    factors: tuple[tuple[str, ...], ...] = ()  # one row for every combination of their values
    may_be_empty: bool = False


MEANS = Kind(
    text=("protocol", "metric"),
    numbers=("eval_seed", "n_images"),
    measured=("value",),
    factors=(("eval_seed",), ("protocol", "metric")),
)
PREMISE = (
    *("auc_per_image", "auc_pooled", "background_shows", "background_hides"),
    *("all_object", "position_variance"),
)
PAIRS = (("head", "slot"), ("other_head", "other_slot"))
OPTIONAL = ("encoder", "note", LABELS)  # text that may be empty, or a column that may be absent
# Kind of Paths.metrics, or name of another csv -> its columns.
KINDS = {
    "": MEANS,
    "sweep": MEANS._replace(
        numbers=("num_slots", "iterations", *MEANS.numbers),
        factors=(("num_slots", "iterations"), *MEANS.factors),
    ),
    "snapshots": MEANS._replace(
        numbers=("step", "images_seen", *MEANS.numbers),
        factors=(("step", "images_seen"), *MEANS.factors),
    ),
    "per_image": Kind(("image_id",), ("eval_seed",), factors=(("eval_seed",), ("image_id",))),
    # Two objects may be alike, and where boxes are scored there are none.
    "per_object": Kind(("image_id", "labels"), ("class", "share", "iou"), may_be_empty=True),
    "agreement": Kind((), (*chain(*PAIRS), "before", "after"), factors=PAIRS),
    "slots": Kind(
        ("mask_source", "head"),
        ("slots_used", "largest_share"),
        factors=(("mask_source", "head"),),
    ),
    "premise": Kind(("score",), ("n_images",), PREMISE, factors=(("score",),)),
    "histogram": Kind(
        ("score",),
        ("low", "high", "background", "object"),
        factors=(("score",), ("low", "high")),
    ),
    "history": Kind((), ("step", "loss"), factors=(("step",),)),
    "published": Kind(("protocol", "method", "metric", "source"), ("value",), OPTIONAL[:1]),
}
# Text columns that hold one of a few words.
WORDS: dict[str, Iterable[str]] = {
    # Values that are published on other data than VOC 2012's have a protocol of their own.
    "protocol": {*chain(*GEOMETRY_PROTOCOLS.values()), "boxes-voc2007", "boxes-coco20k"},
    "metric": METRICS,
    "matching": get_args(MatchingName),
    "mask_source": get_args(MaskSource),
    "labels": ("class", "instance"),
    "score": ("mean", "principal-component"),
}


class Bounds(NamedTuple):
    """The numbers that a column may hold."""

    low: float = 0
    high: float = MAX_COUNT
    whole: bool = False

    def __str__(self) -> str:
        return f"a {'whole ' * self.whole}number from {self.low} to {self.high}"


COUNT, SHARE, PERCENT, COSINE = Bounds(whole=True), Bounds(0, 1), Bounds(0, 100), Bounds(-1, 1)
# Every column of numbers that is read, but for those of metrics.
NUMBERS = {
    **dict.fromkeys(("n_images", "num_slots", "iterations", "step", "images_seen"), COUNT),
    **dict.fromkeys((*chain(*PAIRS), "background", "object"), COUNT),
    **{"eval_seed": Bounds(0, 2**63 - 1, True), "class": Bounds(0, 255, True)},
    **{"slots_used": Bounds(), "largest_share": SHARE, "share": SHARE, "iou": SHARE},
    **dict.fromkeys(("before", "after"), COSINE),
    **{name: SHARE if name.startswith("auc") else PERCENT for name in PREMISE},
    **dict.fromkeys(("low", "high", "loss"), Bounds(-MAX_COUNT, MAX_COUNT)),
    "void": PERCENT,
}


def read_table(path: Path, kind: str = "", names: tuple[str, ...] = ()) -> pd.DataFrame:
    """A csv of one of KINDS, compressed or not, with columns ``names`` as well.

    Rows differ in ``names``, too, which are text, but for num_slots. Raises InputError that names
    the file and what is wrong in it.
    """
    columns = KINDS[kind]
    text = (*columns.text, *(name for name in names if name not in NUMBERS))
    required = (*text, *columns.numbers, *names)
    try:
        table = _parsed(path, kind, dict.fromkeys((*text, "image_id", *OPTIONAL), str))
        for name in (*required, *columns.measured):
            if name not in table:
                raise ValueError(f"it has no column {name}")
        if table.empty and not columns.may_be_empty:
            raise ValueError("it has no rows")
        for name in required:
            if table[name].hasnans:
                raise ValueError(f"{name} is empty in row {int(table[name].isna().argmax()) + 2}")
        for name in table.columns.intersection([*text, *OPTIONAL]):
            _check_text(table[name].dropna())
        scores = unpack(table)
        for name in [name for name in table if name not in text]:
            if name in scores:
                for of, word in zip(("protocol", "metric"), scores[name], strict=True):
                    _check_text(pd.Series([word], name=of))
                low = -1 if scores[name][1] in SIGNED else 0
                table[name] = _numbers(table[name], Bounds(low, 1))
            elif name in NUMBERS:
                table[name] = _numbers(table[name], NUMBERS[name])
        if "metric" in table:
            _check_values(table)
        if columns.factors:
            _check_rows(table, names, columns.factors)
    except (OSError, ValueError, EOFError, zlib.error, csv.Error) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{path}: not a metrics file ({reason}); restore it, or evaluate again"
        ) from None
    return table


def labels_of(table: pd.DataFrame) -> str:
    """What a table of means was compared with (`Scorer.labels_sha256`); empty where it is old."""
    known = table[LABELS].dropna() if LABELS in table else pd.Series(dtype=str)
    return "" if known.empty else str(known.iloc[0])


def differing_labels(one: str, other: str) -> list[str]:
    """The kinds of labels that two such texts have both, and that differ.

    >>> differing_labels("side=320 classes=0a1b", "side=320 classes=ffff boxes=2c3d")
    ['classes']
    """
    parts = [dict(part.split("=") for part in text.split() if "=" in part) for text in (one, other)]
    return [kind for kind, value in parts[0].items() if parts[1].get(kind, value) != value]


def _parsed(path: Path, kind: str, types: dict[str, type]) -> pd.DataFrame:
    """The cells of a csv; an image may be called NA."""
    check_regular(path)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES // 10**6} MB")
    if content.count(b"\n") > MAX_ROWS:
        raise ValueError(f"more than {MAX_ROWS:,} rows")
    if not content:
        raise ValueError("it is empty")
    if kind != "published" and not content.endswith(b"\n"):
        raise ValueError("its last line has no end: it is cut short")
    lines = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8"))
    heading, first = next(lines), next(lines, [])  # pandas would number names that repeat
    if len(first) > len(heading) or len(heading) > MAX_COLUMNS:
        raise ValueError(f"its rows have more cells than its heading, or than {MAX_COLUMNS:,}")
    if repeated := [name for name in set(heading) if heading.count(name) > 1]:
        raise ValueError(f"the column {quoted(min(repeated))} is there twice")
    return pd.read_csv(
        io.BytesIO(content),
        dtype=types,
        keep_default_na=False,
        na_values=[""],
        low_memory=False,
        skip_blank_lines=False,
    )


def _check_text(values: pd.Series) -> None:
    """Raises ValueError on a word that the column does not have, or text that no table carries."""
    words = WORDS.get(str(values.name))
    for value in values.unique():
        if words is not None and value not in words:
            expected = ", ".join(sorted(words))
            raise ValueError(f"unknown {values.name} {quoted(value)}; expected {expected}")
        if not PLAIN.fullmatch(value):
            raise ValueError(f"{values.name} is {quoted(value)}; expected up to 1000 characters")


def _numbers(values: pd.Series, bounds: Bounds) -> pd.Series:
    """A column as numbers. Raises ValueError on what is none, or out of bounds."""
    if values.dtype == bool:
        values = values.astype(str)
    numbers = pd.to_numeric(values, errors="coerce")
    plain = numbers.to_numpy()
    fits = (plain >= bounds.low) & (plain <= bounds.high)
    if bounds.whole:
        fits &= plain % 1 == 0
    if fits.all():
        return numbers.astype("int64") if bounds.whole else numbers
    if wrong := values[values.notna() & ~fits].tolist()[:1]:
        raise ValueError(f"{values.name} is {quoted(wrong[0])}, which is not {bounds}")
    return numbers


def _check_values(table: pd.DataFrame) -> None:
    """Means over images, in percent, and published ones."""
    signed = table["metric"].isin(SIGNED).to_numpy()
    for rows, low in ((signed, -100), (~signed, 0)):
        if rows.any():
            _numbers(table["value"][rows], Bounds(low, 100))
    empty = table["value"].hasnans and "n_images" in table
    if empty and (table["value"].isna() & (table["n_images"] > 0)).any():
        raise ValueError("a value is empty")


def _check_rows(
    table: pd.DataFrame, names: tuple[str, ...], factors: tuple[tuple[str, ...], ...]
) -> None:
    """Raises ValueError on a row that repeats another, and where a combination has none."""
    found = {name: pd.factorize(table[name]) for name in (*names, *chain(*factors))}
    if (repeated := pd.Series(_combined(found, found)).duplicated()).any():
        raise ValueError(f"row {int(repeated.argmax()) + 2} repeats another")
    if names == RUN:  # every matching of a run has every mask source and seed
        factors = (*((name,) for name in names), *factors)
    else:  # some baselines have seeds, others none
        factors = ((*names, *factors[0]), *factors[1:])
    sizes = [_combined(found, columns).max(initial=-1) + 1 for columns in factors]
    whole = prod(sizes)
    if names == RUN:
        unscored = sum(
            all(word in found[name][1] for name, word in zip(RUN, pair, strict=True))
            for pair in SAME_MASKS
        )
        whole -= unscored * (whole // (sizes[0] * sizes[1]))
    if len(table) < whole:
        raise ValueError(f"{whole - len(table)} of {whole} rows are missing")


def _combined(found: Mapping[str, tuple[np.ndarray, Any]], columns: Iterable[str]) -> np.ndarray:
    """A number for each row, the same where all ``columns`` are, of what ``pd.factorize`` found."""
    numbers = np.zeros(1, dtype=np.int64)
    for codes, values in (found[name] for name in columns):
        numbers, _ = pd.factorize(numbers * len(values) + codes)  # so that it stays small
    return numbers
