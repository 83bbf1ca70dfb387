"""Cost and provenance of the trainings."""

import numpy as np
import pandas as pd

from mmqsa.reporting.results import MISSING, Results
from mmqsa.reporting.typeset import Printed, duration, mean_sd, over_n_seeds, time_unit

COLUMNS = [
    *("setting", "seed", "label", "device", "precision", "num_parameters", "updates_per_head"),
    *("num_images", "seconds", "images_per_second", "final_loss"),
    *("mmqsa", "torch", "python", "cache_fingerprint"),
]


def compute_table(results: Results) -> tuple[pd.DataFrame, Printed]:
    """A row per run, from its provenance; in print the means of a setting's runs.

    ``seconds`` are of the optimiser's steps, ``images_per_second`` their rate, whatever else the
    machine was doing; ``num_images`` is the size of the training set.
    """
    spec, table = results.spec, _runs(results)
    unit, size = time_unit(table.groupby("setting")["seconds"].mean().max())
    heading = ["", "device", "precision", "n", "parameters (M)", "updates per head"]
    heading += [f"{unit} per run", "images/s", "final loss"]
    rows = []
    for setting in spec.table.settings:
        runs = table[table["setting"] == setting]
        if runs.empty:
            missing = dict.fromkeys(heading[4:], MISSING)
            rows.append({"": spec.label(setting), "n": "0"} | missing)
        for (device, precision), group in runs.assign(time=runs["seconds"] / size).groupby(
            ["device", "precision"]
        ):
            parameters, updates = group[["num_parameters", "updates_per_head"]].mean()
            cells = [spec.label(setting), device, precision, str(len(group))]
            cells += [f"{parameters / 1e6:.2f}", f"{updates:,.0f}"]
            for name, digits in (("time", 1), ("images_per_second", 0), ("final_loss", 3)):
                cells.append(mean_sd(group[name].mean(), group[name].std(), digits))
            rows.append(dict(zip(heading, cells, strict=True)))
    total = f"{len(table)} run{'s' * (len(table) != 1)} took {duration(table['seconds'].sum())}"
    caption = spec.caption(
        f"Numbers are of a run{over_n_seeds(table.groupby('setting').size())}. In all, {total}, on "
        "a machine that may have been doing other work."
        if len(table)
        else "Nothing was trained yet."
    )
    return table, Printed(caption, heading, rows, ["setting"] * len(rows), left=3)


def provenance_table(results: Results) -> tuple[pd.DataFrame, Printed]:
    """The same rows; in print each run by itself, and the versions that made it."""
    spec, table = results.spec, _runs(results)
    heading = ["", "seed", "mmqsa", "torch", "Python", "device", "precision", "seconds"]
    heading += ["final loss", "features"]
    rows = []
    for setting in spec.table.settings:
        runs = table[table["setting"] == setting]
        if runs.empty:
            rows.append({"": spec.label(setting), "seed": MISSING})
        for run in runs.to_dict("records"):
            cells = [str(run[name]) for name in ("label", "seed", "mmqsa", "torch", "python")]
            cells += [run["device"], run["precision"], f"{run['seconds']:.1f}"]
            cells += [f"{run['final_loss']:.4f}", run["cache_fingerprint"][:12]]
            rows.append(dict(zip(heading, cells, strict=True)))
    caption = spec.caption("Features are named by the hash of what they were made with.")
    return table, Printed(caption, heading, rows, [row[""] for row in rows], left=7)


def _runs(results: Results) -> pd.DataFrame:
    """A row per run that exists."""
    rows = []
    for setting, seed in results.spec.runs:
        if record := results.provenance(setting, seed):
            label = results.spec.label(setting)
            row = record | {"setting": setting, "seed": seed, "label": label}
            row["updates_per_head"] = np.mean(record["updates_per_head"] or [0])
            rows.append(row | {"torch": record["packages"]["torch"]})
    return pd.DataFrame(rows, columns=COLUMNS)
