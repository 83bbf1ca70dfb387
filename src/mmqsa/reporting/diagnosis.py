"""Signs of failure of a table's first setting; docs/diagnosis.md says what to try."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import NamedTuple

import pandas as pd

from mmqsa.config.tables import METRICS, Claim
from mmqsa.reporting.claims import assess
from mmqsa.reporting.results import SOURCES, Results
from mmqsa.reporting.statistics import FEWEST_SEEDS
from mmqsa.reporting.typeset import Printed

COLUMNS = ["sign", "mask_source", "detected", "evidence"]
WIDE_SPREAD = 2.0  # points, std over training seeds
FALLING = 0.01  # of the loss, lost in the last tenth of the steps
COLLAPSED = 0.8  # of the patches in the largest slot
UNMATCHED = 0.1  # cosine similarity that matching adds at least to a head that has a match


class Finding(NamedTuple):
    """Whether a sign is detected (None: not measured), and the numbers that say so."""

    detected: bool | None = None
    evidence: str = ""


@dataclass
class Evidence:
    """What the checks look at, for one mask source."""

    results: Results
    source: str
    metrics: pd.DataFrame  # of all settings, under Hungarian matching
    references: pd.DataFrame  # of baselines and controls

    def __post_init__(self) -> None:
        self.runs = self.metrics[self.metrics["setting"] == self.results.spec.first]
        self.means = self.runs.groupby("metric", sort=False)["value"].mean()

    def files(self, kind: str) -> pd.DataFrame:
        """One kind of metrics file of the first setting's runs."""
        rows = self.results.runs(kind)
        return rows[rows["setting"] == self.results.spec.first]

    def best(self, kind: str, metric: str) -> tuple[str, float] | None:
        """The baseline or control that scores highest, and its value."""
        rows = self.references[self.references["kind"] == kind]
        rows = rows[rows["metric"] == metric]
        if rows.empty:
            return None
        row = rows.loc[rows["value"].idxmax()]
        return row["name"], row["value"]


def _loose_boxes(evidence: Evidence) -> Finding:
    names = ("miou_with_background", "corloc_one_box")
    above, parts = [], []
    for name in names:
        mean, best = evidence.means.get(name), evidence.best("control", name)
        if mean is None or best is None:
            return Finding()
        above.append(mean > best[1])
        parts.append(f"{METRICS[name]} {mean:.1f}, best control {best[1]:.1f} ({best[0]})")
    return Finding(above == [True, False], "; ".join(parts))


def _wide_spread(evidence: Evidence) -> Finding:
    if evidence.runs["seed"].nunique() < 2:
        return Finding()
    spread = evidence.runs.groupby("metric", sort=False)["value"].std(ddof=1)
    text = ", ".join(f"{METRICS[name]} ± {value:.1f}" for name, value in spread.items())
    return Finding(bool((spread > WIDE_SPREAD).any()), text)


def _no_better_than(other: str, evidence: Evidence) -> Finding:
    claim = Claim(says="better", source="none", order=[other, evidence.results.spec.first])
    better, parts = [], []
    for metric, rows in evidence.metrics.groupby("metric", sort=False):
        result = assess(claim, rows)
        if result["n_seeds"] >= FEWEST_SEEDS:
            better.append(result["p"] < 0.05 and result["difference"] > 0)
            p = f"p = {result['p']:.2f}" if result["p"] >= 0.01 else "p < 0.01"
            parts.append(f"{METRICS[metric]} {result['difference']:+.1f}, {p}")
    return Finding(not any(better), "; ".join(parts)) if better else Finding()


def _below(kind: str, evidence: Evidence) -> Finding:
    if kind not in set(evidence.references["kind"]):
        return Finding()
    parts = []
    for metric, mean in evidence.means.items():
        name, value = evidence.best(kind, metric) or ("", 0.0)
        if value > mean:
            parts.append(f"{METRICS[metric]} {mean:.1f}, {value:.1f} ({name})")
    return Finding(bool(parts), "; ".join(parts) or "above all of them in every metric")


def _collapsed(evidence: Evidence) -> Finding:
    rows = evidence.files("slots")
    if rows.empty:
        return Finding()
    merged = rows[(rows["mask_source"] == evidence.source) & (rows["head"] == "merged")]
    used, largest = merged[["slots_used", "largest_share"]].mean()
    num_slots = evidence.results.spec.num_slots
    text = f"{used:.1f} of {num_slots} slots in use, the largest has {largest:.0%}"
    return Finding(bool(largest > COLLAPSED or used < 2), text)


def _unmatched_heads(evidence: Evidence) -> Finding:
    rows = evidence.files("agreement")
    if rows.empty or rows["head"].nunique() < 2:
        return Finding()
    rows = rows[rows["head"] != rows["other_head"]]
    same = rows[rows["slot"] == rows["other_slot"]]
    by_head = same.groupby("head")[["before", "after"]].mean()
    gain = by_head["after"] - by_head["before"]
    text = (
        f"cosine of matched slots {by_head['after'].mean():.2f}, of any two "
        f"{rows['before'].mean():.2f}; least gained by head {gain.idxmin() + 1}: {gain.min():+.2f}"
    )
    return Finding(bool(gain.min() < UNMATCHED), text)


def _falling_loss(evidence: Evidence) -> Finding:
    falls = []
    first = evidence.results.spec.first
    for seed in evidence.results.spec.seeds[first]:
        losses = evidence.results.history(first, seed)
        if len(losses) > 10:
            loss = losses.set_index("step")["loss"]
            earlier = loss[(loss.index <= 0.9 * loss.index[-1]) & (loss > 0)]
            falls += [(one - loss.iloc[-1]) / one for one in earlier[-1:]]
    if not falls:
        return Finding()
    mean = sum(falls) / len(falls)
    return Finding(mean > FALLING, f"{mean:.1%} lower over the last tenth of the steps")


def _ignores_the_image(evidence: Evidence) -> Finding:
    best = evidence.best("control", "miou_with_background")
    mean = evidence.means.get("miou_with_background")
    if best is None or mean is None:
        return Finding()
    text = f"mIoU (with bg) {mean:.1f}; {best[0]}, that looks at no image, {best[1]:.1f}"
    return Finding(bool(mean < best[1] + 2), text)


CHECKS: dict[str, Callable[[Evidence], Finding]] = {
    "good masks, loose boxes": _loose_boxes,
    f"seeds more than {WIDE_SPREAD:.0f} points apart": _wide_spread,
    "random masking as good as background masking": partial(_no_better_than, "random"),
    "training no better than none": partial(_no_better_than, "untrained"),
    "below a control that looks at no image": partial(_below, "control"),
    "below a training-free method on the same features": partial(_below, "method"),
    "slots collapsed": _collapsed,
    "heads that never match": _unmatched_heads,
    "loss still falling at the end": _falling_loss,
    "decoder explains position, not the image": _ignores_the_image,
}
OF_THE_RUN = (_unmatched_heads, _falling_loss)  # whatever its masks


def diagnosis_table(results: Results) -> tuple[pd.DataFrame, Printed]:
    """A row per sign of failure and mask source; that is empty for a sign of the whole run."""
    spec = results.spec
    metrics, references = (
        table[table["protocol"].isin(["paper", "boxes"])]
        for table in (results.run_metrics(), results.reference_metrics())
    )
    metrics = metrics[metrics["matching"] == "hungarian"]
    own = ~references["name"].isin(list(results.methods))  # of other code are on other features
    references = references[own]
    rows = []
    for (sign, check), source in product(CHECKS.items(), spec.table.mask_sources):
        of_run = check in OF_THE_RUN
        if (of_run and source != spec.table.mask_sources[0]) or (
            check is _ignores_the_image and source != "decoder"
        ):
            continue
        of_source = metrics[metrics["mask_source"] == source]
        evidence = Evidence(results, source, of_source, references)
        detected, text = check(evidence) if len(evidence.runs) else Finding()
        answer = "not measured" if detected is None else "yes" if detected else "no"
        rows.append([sign, "" if of_run else source, answer, text])
    table = pd.DataFrame(rows, columns=COLUMNS)
    cells = table.assign(mask_source=table["mask_source"].map(SOURCES).fillna(""))
    cells = cells.rename(columns={"mask_source": "mask source"})
    about = f"Setting: {spec.label(spec.first)}."
    caption = spec.caption(about, "docs/diagnosis.md says how each is measured and what to try.")
    records, signs = cells.to_dict("records"), table["sign"].tolist()
    printed = Printed(caption, list(cells), records, signs, left=4)
    printed.bold["detected"] = table["detected"] == "yes"
    return table, printed
