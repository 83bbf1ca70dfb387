"""What trainings took, setting by setting, and what made every run."""

from pathlib import Path

import pandas as pd

from mmqsa.reporting.metrics_table import MISSING
from mmqsa.reporting.results import Spec, provenance
from mmqsa.reporting.typeset import Printed

COLUMNS = [
    *("setting", "seed", "label", "device", "precision", "parameters", "updates_per_head"),
    *("images", "seconds", "images_per_second", "final_loss"),
    *("mmqsa", "torch", "python", "cache_fingerprint"),
]


def compute_table(
    spec: Spec, results: Path, published: pd.DataFrame
) -> tuple[pd.DataFrame, Printed]:
    """A row per run that is there, from its provenance; in print the means of a setting's.

    ``seconds`` are of the optimiser's steps, ``images_per_second`` their rate, whatever else the
    machine was doing; ``images`` is the size of the training set.
    """
    table = _runs(spec, results)
    return table, _printed(spec, table)


def provenance_table(
    spec: Spec, results: Path, published: pd.DataFrame
) -> tuple[pd.DataFrame, Printed]:
    """The same rows, in print as they are."""
    table = _runs(spec, results)
    heading = ["", "seed", "mmqsa", "torch", "Python", "device", "precision", "seconds"]
    heading += ["loss at the end", "features"]
    rows = [
        [
            *(run["label"], str(run["seed"]), run["mmqsa"], run["torch"], run["python"]),
            *(run["device"], run["precision"], f"{run['seconds']:.1f}", f"{run['final_loss']:.4f}"),
            run["cache_fingerprint"][:12],
        ]
        for run in table.to_dict("records")
    ]
    for setting in spec.table.settings:
        if setting not in set(table["setting"]):
            rows.append([spec.table.labels.get(setting, setting), MISSING, *[""] * 8])
    text = f"{spec.table.caption}. {spec.what}. Features are named by the hash of what made them."
    return table, Printed(text, heading, rows, [row[0] for row in rows], left=7)


def _runs(spec: Spec, results: Path) -> pd.DataFrame:
    """A row per run that is there."""
    rows = []
    for setting in spec.table.settings:
        for seed in spec.seeds:
            if found := provenance(results, setting, seed):
                updates = found.get("updates_per_head") or []
                label = spec.table.labels.get(setting, setting)
                row = {**found, "setting": setting, "seed": seed, "label": label}
                row["updates_per_head"] = sum(updates) / max(len(updates), 1)
                rows.append(row | {"torch": found.get("packages", {}).get("torch")})
    return pd.DataFrame(rows, columns=COLUMNS)


def _printed(spec: Spec, table: pd.DataFrame) -> Printed:
    heading = ["", "device", "precision", "n", "parameters (M)", "updates per head"]
    heading += ["minutes a run", "images/s", "loss at the end"]
    rows, groups = [], []
    for setting in spec.table.settings:
        label, own = spec.table.labels.get(setting, setting), table[table["setting"] == setting]
        if own.empty:
            rows.append([label, "", "", "0", *[MISSING] * 5])
        for (device, precision), runs in own.groupby(["device", "precision"]):
            cells = [label, device, precision, str(len(runs))]
            cells.append(f"{runs['parameters'].mean() / 1e6:.2f}")
            cells.append(f"{runs['updates_per_head'].mean():,.0f}")
            cells.append(_spread(runs["seconds"] / 60, 1))
            cells.append(_spread(runs["images_per_second"], 0))
            rows.append([*cells, _spread(runs["final_loss"], 3)])
        groups += ["setting"] * (len(rows) - len(groups))
    hours = table["seconds"].sum() / 3600
    caption = (
        f"{spec.table.caption}. {spec.what}; mean ± sd over n training seeds. "
        f"{len(table)} runs, {hours:.1f} hours in all, whatever else ran on the machine."
    )
    return Printed(caption, heading, rows, groups, left=3)


def _spread(values: pd.Series, digits: int) -> str:
    text = f"{values.mean():,.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {values.std(ddof=1):.{digits}f}"
