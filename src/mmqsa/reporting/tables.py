"""Tables: csv for machines, md, tex and html for people, from the metrics of results alone."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from mmqsa.atomic import write_text
from mmqsa.reporting.claims import claims_table
from mmqsa.reporting.comparisons import comparisons_table
from mmqsa.reporting.compute import compute_table, provenance_table
from mmqsa.reporting.diagnosis import diagnosis_table
from mmqsa.reporting.metrics_table import metrics_table, sweep_table
from mmqsa.reporting.results import Spec
from mmqsa.reporting.strata import strata_table
from mmqsa.reporting.typeset import Printed, to_html, to_latex, to_markdown

Maker = Callable[[Spec, Path, pd.DataFrame], tuple[pd.DataFrame, Printed]]
MAKERS: dict[str, Maker] = {
    "metrics": metrics_table,
    "sweep": sweep_table,
    "strata": strata_table,
    "comparisons": comparisons_table,
    "claims": claims_table,
    "diagnosis": diagnosis_table,
    "compute": compute_table,
    "provenance": provenance_table,
}


def make_table(spec: Spec, results: Path, published: Path) -> list[Path]:
    """Write ``tables/{name}`` (.csv, .md, .tex, .html) below ``results``; returns the paths."""
    tidy, printed = MAKERS[spec.table.kind](spec, results, pd.read_csv(published))
    stem = results / "tables" / spec.name
    paths = [stem.with_suffix(suffix) for suffix in (".csv", ".md", ".tex", ".html")]
    write_text(paths[0], tidy.to_csv(index=False, lineterminator="\n", float_format="%.4f"))
    write_text(paths[1], to_markdown(printed))
    write_text(paths[2], to_latex(printed))
    write_text(paths[3], to_html(printed, spec.table.caption))
    return paths
