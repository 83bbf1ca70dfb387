"""The door of metrics files: csv that a stage wrote, checked before a table is made of it."""

import gzip
import io
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from mmqsa.config.files import check_regular, quoted
from mmqsa.config.tables import unpack
from mmqsa.errors import InputError

MAX_BYTES = 500_000_000  # uncompressed; COCO's scores image by image have 60 MB


class Columns(NamedTuple):
    """The columns that a kind of file has at least."""

    text: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()  # finite, in every row
    measured: tuple[str, ...] = ()  # finite, or empty where there was nothing to measure


MEANS = Columns(("protocol", "metric"), ("eval_seed", "n_images"), ("value",))
# Kind of Paths.metrics, or name of another csv -> its columns.
KINDS = {
    "": MEANS,
    "sweep": MEANS._replace(numbers=("num_slots", "iterations", *MEANS.numbers)),
    "snapshots": MEANS._replace(numbers=("step", "images_seen", *MEANS.numbers)),
    "per_image": Columns(("image_id",), ("eval_seed",)),
    "per_object": Columns(("image_id", "labels"), (), ("class", "share", "iou")),
    "agreement": Columns((), ("head", "slot", "other_head", "other_slot"), ("before", "after")),
    "slots": Columns(("mask_source", "head"), (), ("slots_used", "largest_share")),
    "premise": Columns(("score",), ("n_images",), ("auc_per_image", "auc_pooled")),
    "histogram": Columns(("score",), ("low", "high"), ("background", "object")),
    "history": Columns((), ("step",), ("loss",)),
    "published": Columns(("protocol", "method", "metric", "source"), (), ("value",)),
}
REPEATABLE = ("per_object", "published")  # two objects may be alike


def read_table(path: Path, kind: str = "", names: tuple[str, ...] = ()) -> pd.DataFrame:
    """A csv of one of KINDS, compressed or not, with text columns ``names`` as well.

    Image ids are text. Raises InputError that names the file and what is wrong in it.
    """
    columns = KINDS[kind]
    columns = columns._replace(text=(*columns.text, *names))
    try:
        table = pd.read_csv(
            io.BytesIO(_content(path)), dtype=dict.fromkeys([*columns.text, "image_id"], str)
        )
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise _refused(path, " ".join(str(error).split())[:160]) from None
    measured = [*columns.measured, *unpack(table)]
    for name in (*columns.text, *columns.numbers, *columns.measured):
        if name not in table:
            raise _refused(path, f"it has no column {name}")
    for name in (*columns.numbers, *measured):
        values = table[name]
        if len(table) and (values.dtype.kind not in "iuf" or np.isinf(values).any()):
            bad = next((one for one in values if not _is_finite(one)), values.iloc[0])
            raise _refused(path, f"{name} is {quoted(bad)}, which is no number")
    for name in (*columns.text, *columns.numbers):
        if table[name].isna().any():
            raise _refused(path, f"{name} is empty in row {int(table[name].isna().argmax()) + 2}")
    means = columns.measured == MEANS.measured and "n_images" in columns.numbers
    if means and (table["value"].isna() & (table["n_images"] > 0)).any():
        raise _refused(path, "a value is empty")
    told = [name for name in table if name not in (*measured, "n_images", "void")]
    if kind not in REPEATABLE and (repeated := table.duplicated(told)).any():
        raise _refused(path, f"row {int(repeated.argmax()) + 2} repeats another")
    return table


def _content(path: Path) -> bytes:
    check_regular(path)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES // 10**6} MB")
    return content


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not np.isinf(value)


def _refused(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: not a metrics file ({reason}); restore it, or evaluate again")
