"""Tables of metrics: settings over seeds, baselines, controls and published numbers."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mmqsa.config.evaluation import SAME_MASKS
from mmqsa.config.tables import METRICS, pack, unpack
from mmqsa.reporting.references import is_redundant, listed_references
from mmqsa.reporting.results import KNOBS, MISSING, SOURCES, UNSUPERVISED, Results, Spec
from mmqsa.reporting.statistics import FEWEST_SEEDS, bootstrap_interval, over_seeds, scale
from mmqsa.reporting.typeset import Printed, mean_sd, over_n_seeds

COLUMNS = [
    *("kind", "label", "setting", "row", "matching", "mask_source", "protocol", "metric"),
    *("n_seeds", "mean", "sd", "ci_low", "ci_high", "eval_sd", "images_low", "images_high"),
    *("n_images", "updates_per_head", "published", "published_source", "difference"),
]
SCORES = ["setting", "row", "matching", "mask_source", "protocol", "metric"]
UNKNOWN_METRICS = [("paper", name) for name in ("corloc", "miou_with_background", "mbo_c")]
MAXIMUM = "maximum"  # a mask source of this table alone
MASKS = SOURCES | {MAXIMUM: "best of both †"}
MAXIMUM_NOTE = (
    "† For each metric the larger mean of decoder and attention masks: the labels choose, so "
    "compare it with publications that do the same, and with nothing else."
)
PAPERS_ENCODER = "DINO ViT-S/16"  # as published.csv names it
ABOUT_BOLD = (
    "Bold: the highest of these settings and of all methods without training and controls on these "
    "images."
)
Row = dict[str, Any]


def metrics_table(results: Results) -> tuple[pd.DataFrame, Printed]:
    """One row per printed row and metric, in the order of print (COLUMNS), values in percent.

    ``sd`` is the sample std over training seeds, ``ci`` Student's 95 % interval of their
    mean, from FEWEST_SEEDS on. ``eval_sd`` is the std over evaluation seeds, mean
    over runs. ``images`` is the bootstrap's 95 % interval of the mean over images, of rows that
    show one image set. A setting without runs has ``n_seeds`` 0. Rows of the mask source MAXIMUM
    are chosen by labels: nothing else reads them.
    """
    spec, published = results.spec, results.published
    rows = _setting_rows(results)
    rows += _maximum_rows(rows) if spec.table.maximum else []
    rows += _reference_rows(results)
    scored = {row["metric"] for row in rows}  # labels without instances have no mBO^i
    for entry in published[published["protocol"].isin(spec.table.published)].to_dict("records"):
        if entry["metric"] in scored:
            encoder = f" ({entry['encoder']})" if isinstance(entry["encoder"], str) else ""
            row = {"kind": "published", "label": entry["method"] + encoder}
            row |= {name: entry[name] for name in ("protocol", "metric")}
            rows.append(row | {"published": entry["value"], "published_source": entry["source"]})
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table, _printed(results, table)


def sweep_table(results: Results) -> tuple[pd.DataFrame, Printed]:
    """The same with a row for every number of slots and of iterations at evaluation."""
    names = ["num_slots", "iterations"]
    return _varied_table(results, "sweep", names, "K = {num_slots}, T = {iterations}")


def snapshots_table(results: Results) -> tuple[pd.DataFrame, Printed]:
    """The same with a row for every snapshot in the course of training."""
    return _varied_table(results, "snapshots", ["step", "images_seen"], "{images_seen:,} images")


def _varied_table(
    results: Results, kind: str, names: list[str], named: str
) -> tuple[pd.DataFrame, Printed]:
    """Runs that were scored in several ways, told apart by ``names`` and printed as ``named``."""
    spec, runs, rows = results.spec, results.runs(kind), []
    matchings = spec.table.matchings
    runs = runs[runs["matching"].isin(matchings)] if len(runs) else runs
    keys = ["mask_source", "setting", "matching", *names, "protocol", "metric"]
    for key, group in runs.groupby(keys, sort=False) if len(runs) else []:
        row = {"kind": "setting"} | dict(zip(keys, key, strict=True))
        words = [spec.label(row["setting"]), named.format(**row)]
        words[1:1] = [spec.matching_label(row["matching"])] if len(matchings) > 1 else []
        row["label"] = ", ".join(words)
        by_seed = group.groupby("seed")["value"].mean()
        row |= {"n_seeds": len(by_seed), "n_images": group["n_images"].iloc[0]}
        rows.append(row | over_seeds(by_seed))
    for setting in spec.table.settings:
        if setting not in set(runs["setting"]):
            row = {"kind": "setting", "label": spec.label(setting), "setting": setting}
            row |= {"mask_source": spec.table.mask_sources[0], "n_seeds": 0}
            rows.append(row | {"protocol": "paper", "metric": "corloc"})
    table = pd.DataFrame(rows + _reference_rows(results), columns=[*COLUMNS, *names])
    printed = table["mask_source"].isin(spec.table.mask_sources) | (table["kind"] != "setting")
    return table, _printed(results, table[printed])


def _setting_rows(results: Results) -> list[Row]:
    """Mask source by mask source, a row per setting, image set, matching and metric."""
    spec, table, metrics = results.spec, results.spec.table, results.run_metrics()
    groups, per_image = dict(list(metrics.groupby(SCORES))), _per_image(results)
    updates = {setting: _updates(results, setting) for setting in table.settings}
    scored = {
        row: sorted(
            dict.fromkeys(zip(group["protocol"], group["metric"], strict=True)),
            key=lambda name: list(METRICS).index(name[1]),
        )
        for row, group in metrics.groupby("row")
    }
    one_head = [name for name in table.settings if _heads(results, name) == 1]
    scored_as = set(zip(metrics["setting"], metrics["matching"], strict=True))
    unmatched = {*product(one_head, table.matchings)} - scored_as  # one head needs no matching
    sources = [source for source in table.mask_sources if source in set(metrics["mask_source"])]
    rows = []
    for source, setting, images, matching in product(
        sources or table.mask_sources[:1], table.settings, spec.images, table.matchings
    ):
        if (matching, source) in SAME_MASKS:
            continue  # another row has them
        if (setting, matching) in unmatched:
            continue
        one_matching = len(table.matchings) == 1
        names = [spec.label(setting)] if one_matching or len(table.settings) > 1 else []
        names += [] if one_matching else [spec.matching_label(matching)]
        label = ", ".join(names)
        for protocol, metric in scored.get(images, UNKNOWN_METRICS):
            key = (setting, images, matching, source, protocol, metric)
            row: Row = {"kind": "setting", "label": ", ".join(filter(None, [label, images]))}
            row |= dict(zip(SCORES, key, strict=True))
            row |= {"updates_per_head": updates[setting], "n_seeds": 0}
            if (values := groups.get(key)) is not None:
                row |= {"n_seeds": len(values), "n_images": int(values["n_images"].iloc[0])}
                row |= over_seeds(values["value"]) | {"eval_sd": values["eval_sd"].mean()}
                if key[:4] in per_image:
                    of_images = 100 * per_image[key[:4]][pack(protocol, metric)].to_numpy()
                    row["images_low"], row["images_high"] = bootstrap_interval(of_images)
            if setting == spec.showcase and matching == "hungarian":
                row |= _published_value(results, row)
            rows.append(row)
    return rows


def _maximum_rows(rows: list[Row]) -> list[Row]:
    """Metric by metric the larger mean of decoder and attention, with its sd, where both have one.

    Without intervals and differences: those of a value that was chosen by itself would be too good.
    """
    kept = {*SCORES, "kind", "label", "n_seeds", "mean", "sd", "n_images", "updates_per_head"}
    pairs: dict[tuple, list[Row]] = {}
    for row in rows:
        if row["mask_source"] in ("decoder", "attention") and row["n_seeds"]:
            chosen = {name: value for name, value in row.items() if name in kept}
            chosen["mask_source"] = MAXIMUM
            pairs.setdefault(tuple(chosen[name] for name in SCORES), []).append(chosen)
    return [max(pair, key=lambda row: row["mean"]) for pair in pairs.values() if len(pair) == 2]


def _per_image(results: Results) -> dict[tuple, pd.DataFrame]:
    """Means over seeds of every image, by setting, row, matching and mask source."""
    single = {row: names for row, names in results.spec.images.items() if len(names) == 1}
    spec = results.spec.model_copy(update={"images": single})
    images = replace(results, spec=spec).runs("per_image")
    columns = list(unpack(images))
    if not columns:
        return {}
    means = images.groupby([*SCORES[:4], "image_id"], sort=False)[columns].mean().reset_index()
    return dict(list(means.groupby(SCORES[:4], sort=False)))


def _updates(results: Results, setting: str) -> float:
    """Mean number of updates of a head, over heads and the runs that exist."""
    means = [np.mean(heads) for heads in _updates_per_head(results, setting)]
    return float(np.mean(means)) if means else float("nan")


def _heads(results: Results, setting: str) -> int:
    """The number of query heads; 0 without a run."""
    return max(map(len, _updates_per_head(results, setting)), default=0)


def _updates_per_head(results: Results, setting: str) -> list[list[int]]:
    """Of each run that exists, the number of updates of each of its heads."""
    records = [results.provenance(setting, seed) for seed in results.spec.seeds[setting]]
    return [record["updates_per_head"] for record in records if record]


def _published_value(results: Results, row: Row) -> Row:
    """The paper's own value of this metric; the difference only where the data are the paper's."""
    same = (results.published[["protocol", "metric"]] == ["paper", row["metric"]]).all(axis=1)
    if row["protocol"] != "paper" or not same.any():
        return {}
    entry = results.published[same].iloc[0]
    values = {"published": entry["value"], "published_source": entry["source"]}
    if results.spec.comparable and row["n_seeds"]:
        values["difference"] = row["mean"] - entry["value"]
    return values


def _reference_rows(results: Results) -> list[Row]:
    """Methods, supervised ones and controls, for each row of images; those of other code first."""
    metrics, rows = results.reference_metrics(), []
    for images in results.spec.images:
        of_row = metrics[metrics["row"] == images]
        for name, note in listed_references(results.spec, of_row).items():
            void = of_row.loc[of_row["name"] == name, "void"].iloc[0]
            note += f" (void in {max(void, 1):.0f} % of images)" if void else ""
            label = ", ".join(filter(None, [name + note, images]))
            for entry in of_row[of_row["name"] == name].to_dict("records"):
                shared = ("kind", "row", "protocol", "metric", "n_images", "eval_sd")
                row = {"label": label, "mean": entry["value"]}
                if entry["seeds"]:
                    row |= {"n_seeds": len(entry["seeds"]), **over_seeds(pd.Series(entry["seeds"]))}
                rows.append(row | {key: entry[key] for key in shared})
    kinds = ["method", "supervised", "control"]
    return sorted(rows, key=lambda row: (kinds.index(row["kind"]), "n_seeds" not in row))


def _printed(results: Results, table: pd.DataFrame) -> Printed:
    """A row per kind, label and mask source; below a setting, its interval and difference."""
    spec = results.spec
    metrics = [name for name in METRICS if name in set(table["metric"])]
    headings = {name: METRICS[name] for name in metrics if not is_redundant(name, table)}
    curve = spec.table.curve
    along = KNOBS.get(curve.against, curve.against) if curve else ""
    rows, groups, eligible = [], [], []
    compared: list[str | None] = []
    frame = table.fillna({"mask_source": ""})
    for (kind, label, source), group in frame.groupby(["kind", "label", "mask_source"], sort=False):
        first = group.iloc[0]
        masks = f"{first['protocol']} protocol" if kind == "published" else MASKS.get(source, "")
        names = {"": label, "mask source": masks, "n": _count(first["n_seeds"])}
        names["updates per head"] = _count(first["updates_per_head"])
        if along and first["setting"] in spec.knobs:
            names[along] = f"{spec.knobs[first['setting']]:g}"
        entries = group.drop_duplicates("metric")  # mBO^c is one number under two protocols
        entries = entries[entries["metric"].isin(headings)].to_dict("records")
        for title, text in _lines(spec, kind).items():
            cells = {headings[entry["metric"]]: text(entry) for entry in entries}
            cells = {name: cell for name, cell in cells.items() if "nan" not in cell}  # one seed
            if cells:
                rows.append({"": title} | cells if title else names | cells)
                counted = not np.isnan(first["n_seeds"])  # else it is a baseline or a control
                groups.append(f"{kind} {source} {counted}")
                several = first["n_seeds"] >= FEWEST_SEEDS and source != MAXIMUM
                eligible.append(several if counted else kind in UNSUPERVISED)
                images = spec.images.get(first["row"], next(iter(spec.images.values())))
                protocols = spec.protocols.get(first["row"], next(iter(spec.protocols.values())))
                # Published values have no image set: they compare with all, or with none.
                everywhere = "" if spec.like_published and _of_papers_encoder(first) else None
                of_kind = {"supervised": None, "published": everywhere}
                compared.append(of_kind.get(kind, f"{images} {protocols}"))
    heading = ["", "mask source", "n", *["updates per head"] * spec.table.updates]
    heading += [along] * bool(along)
    caption = _caption(spec, table)
    printed = Printed(caption, [*heading, *headings.values()], rows, groups, left=2)
    # Of a sweep, or of snapshots, labels would choose the best; and without references what is
    # better may be among those that are not read.
    if spec.table.kind == "metrics" and spec.table.references != "none":
        printed.embolden(list(headings.values()), compared, eligible)
    about_bold = ABOUT_BOLD * bool(printed.bold.any(axis=None))
    printed.caption = " ".join(filter(None, [caption, about_bold, results.credits]))
    return printed


def _caption(spec: Spec, table: pd.DataFrame) -> str:
    matchings, published = spec.table.matchings, table[table["kind"] == "published"]
    other = ""
    if len(published) and not spec.like_published:
        other = "Published values are on other data or another backbone: for orientation only."
    elif not all(map(_of_papers_encoder, published.to_dict("records"))):
        other = "Published values that do not name our encoder are for orientation only."
    return spec.caption(
        f"In percent{over_n_seeds(table['n_seeds'])}.",
        _about_intervals(table) if spec.table.intervals else "",
        f"{matchings[0].capitalize()} matching of the heads." if len(matchings) == 1 else "",
        other,
        MAXIMUM_NOTE if MAXIMUM in set(table["mask_source"]) else "",
    )


def _of_papers_encoder(row: Row) -> bool:
    """Whether a published row names the encoder of the paper."""
    return str(row["label"]).endswith(f"({PAPERS_ENCODER})")


def _about_intervals(table: pd.DataFrame) -> str:
    """What is said of the intervals that are printed; empty where there are none."""
    shown = table[table["ci_low"].notna()]
    cut = [
        not scale(metric)[0] <= low <= high <= scale(metric)[1]
        for metric, low, high in shown[["metric", "ci_low", "ci_high"]].itertuples(index=False)
    ]
    kind = f"Intervals are Student's, of the mean over seeds, where n ≥ {FEWEST_SEEDS}"
    return f"{kind}{', cut where the scale ends' * any(cut)}." if cut else ""


def _interval(entry: Row) -> str:
    low, high = np.clip([entry["ci_low"], entry["ci_high"]], *scale(entry["metric"]))
    return f"[{low:.1f}, {high:.1f}]"


def _lines(spec: Spec, kind: str) -> dict[str, Callable[[Row], str]]:
    """The lines of a printed row: a title, empty for the first, and the text of a cell."""
    lines: dict[str, Callable[[Row], str]] = {"": _cell}
    if kind == "setting" and spec.table.intervals:
        lines["95 % interval"] = _interval
    if kind == "setting" and spec.comparable:
        lines["difference to the paper"] = lambda entry: "[{difference:+.1f}]".format(**entry)
    return lines


def _cell(entry: Row) -> str:
    if entry["n_seeds"] == 0:
        return MISSING
    return mean_sd(entry["published" if entry["kind"] == "published" else "mean"], entry["sd"])


def _count(number: float) -> str:
    return "" if np.isnan(number) else f"{number:,.0f}"
