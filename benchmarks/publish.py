"""Tables of measurements: printed, and written where they are kept."""

from pathlib import Path

import pandas as pd

from mmqsa.atomic import write_text


def publish(name: str, rows: pd.DataFrame, machine: str, out: Path | None) -> None:
    """Print a table; with ``out`` write it there as csv and markdown."""
    text = f"{machine}\n\n{table(rows)}\n"
    print(f"\n{text}")
    if out is not None:
        numbers = rows.assign(machine=machine).to_csv(index=False, float_format="%.6g")
        write_text(out / f"{name}.csv", numbers)
        write_text(out / f"{name}.md", text)


def table(rows: pd.DataFrame) -> str:
    """Rows as Markdown, three significant digits."""
    numbers = rows.select_dtypes("number").columns
    shown = rows.copy()
    for name in numbers:
        shown[name] = [
            "" if pd.isna(v) else f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in rows[name]
        ]
    align = ["right" if name in numbers else "left" for name in shown]
    return shown.to_markdown(index=False, disable_numparse=True, colalign=align)
