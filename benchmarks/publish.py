"""Tables of measurements: each row is printed, and written where it is kept, as it comes."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mmqsa.atomic import write_text


def publish(name: str, rows: Iterable[dict], machine: str, out: Path | None) -> pd.DataFrame:
    """Measure ``rows`` one by one and print the table; with ``out`` keep it as csv and markdown.

    The files are written anew after every row, so that what stops a later one loses none.
    """
    measured: list[dict] = []
    for row in rows:
        measured.append(row)
        table = pd.DataFrame(measured)
        text = f"{machine}\n\n{markdown(table)}\n"
        if out is not None:
            numbers = table.assign(machine=machine).to_csv(index=False, float_format="%.6g")
            write_text(out / f"{name}.csv", numbers)
            write_text(out / f"{name}.md", text)
        # A new row under the heading of the first: a long benchmark shows where it is.
        lines = text.strip().splitlines()
        print("\n".join(lines if len(measured) == 1 else lines[-1:]), flush=True)
    return pd.DataFrame(measured)


def markdown(rows: pd.DataFrame) -> str:
    """Rows as Markdown, three significant digits."""
    numbers = rows.select_dtypes("number").columns
    shown = rows.copy().astype(object)
    for name in numbers:
        shown[name] = [
            "" if pd.isna(v) else f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in rows[name]
        ]
    align = ["right" if name in numbers else "left" for name in shown]
    return shown.to_markdown(index=False, disable_numparse=True, colalign=align)
