"""Tables: csv for machines; md, tex and html for people."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from mmqsa.atomic import claimed, write_text
from mmqsa.paths import Paths
from mmqsa.reporting.claims import claims_table
from mmqsa.reporting.comparisons import comparisons_table
from mmqsa.reporting.compute import compute_table, provenance_table
from mmqsa.reporting.diagnosis import diagnosis_table
from mmqsa.reporting.leaderboard import leaderboard_table
from mmqsa.reporting.metrics_table import metrics_table, snapshots_table, sweep_table
from mmqsa.reporting.results import Results
from mmqsa.reporting.seeds import seeds_table
from mmqsa.reporting.strata import strata_table
from mmqsa.reporting.typeset import Printed, to_html, to_latex, to_markdown

MAKERS: dict[str, Callable[[Results], tuple[pd.DataFrame, Printed]]] = {
    "metrics": metrics_table,
    "sweep": sweep_table,
    "snapshots": snapshots_table,
    "strata": strata_table,
    "comparisons": comparisons_table,
    "leaderboard": leaderboard_table,
    "claims": claims_table,
    "seeds": seeds_table,
    "diagnosis": diagnosis_table,
    "compute": compute_table,
    "provenance": provenance_table,
}


def make_table(results: Results) -> list[Path]:
    """Write ``tables/{name}`` (.csv, .md, .tex, .html); returns the paths."""
    return write_table(results.paths, results.spec.name, *MAKERS[results.spec.table.kind](results))


def write_table(results: Paths, name: str, tidy: pd.DataFrame, printed: Printed) -> list[Path]:
    """The same of a table that is made."""
    texts = {
        "csv": tidy.to_csv(index=False, lineterminator="\n", float_format="%.4f"),
        "md": to_markdown(printed),
        "tex": to_latex(printed),
        "html": to_html(printed),
    }
    paths = [results.table(name, suffix) for suffix in texts]
    with claimed(paths[0], wait=True):  # two who write at once would leave files of both
        for path, text in zip(paths, texts.values(), strict=True):
            write_text(path, text)
    return paths
