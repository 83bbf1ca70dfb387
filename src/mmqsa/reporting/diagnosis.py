"""Signs of failure, looked for in the results of a table's first setting.

Each check says what it found, by which numbers, and what to try. What they look for is what the
paper's readers name as its failures, and what went wrong here on the way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd

from mmqsa.config.tables import Claim
from mmqsa.reporting.claims import FEWEST_SEEDS, held
from mmqsa.reporting.metrics_table import caption
from mmqsa.reporting.results import (
    HEADINGS,
    Spec,
    reference_metrics,
    run_folder,
    run_metrics,
    run_tables,
)
from mmqsa.reporting.typeset import Printed

COLUMNS = ["sign", "mask_source", "found", "evidence", "try"]
UNKNOWN = "not measured"

WIDE_SPREAD = 2.0  # points, std over training seeds
FALLING = 0.01  # of the loss, lost in the last tenth of the steps
COLLAPSED = 0.8  # of the patches in the largest slot
ALIKE = 0.1  # less cosine similarity than this, gained by matching, is no match


@dataclass
class Finding:
    found: bool | None  # None: the numbers are not there
    evidence: str


@dataclass
class Evidence:
    """The numbers that checks look at, of one mask source."""

    spec: Spec
    results: Path
    source: str
    runs: pd.DataFrame  # metrics under Hungarian matching
    others: pd.DataFrame  # of controls and other methods

    @property
    def method(self) -> str | None:
        return next(iter(self.spec.table.settings), None)

    @cached_property
    def own(self) -> pd.Series:
        """Mean over seeds of every metric of the method; empty without a run."""
        runs = self.runs[self.runs["setting"] == self.method]
        return runs.groupby("metric", sort=False)["value"].mean()

    def best(self, kind: str, metric: str) -> tuple[str, float] | None:
        """What scores highest of the controls, methods or what is supervised, and its value."""
        rows = self.others[(self.others["kind"] == kind) & (self.others["metric"] == metric)]
        if rows.empty:
            return None
        row = rows.loc[rows["value"].idxmax()]
        return row["name"], row["value"]


def _boxes_loose(evidence: Evidence) -> Finding:
    names = ("miou_with_background", "corloc_one_box")
    best = [evidence.best("control", name) for name in names]
    if None in best or not set(names) <= set(evidence.own.index):
        return Finding(None, "")
    pairs = list(zip(names, best, strict=True))
    text = "; ".join(
        f"{HEADINGS[name]} {evidence.own[name]:.1f}, best control {value:.1f} ({control})"
        for name, (control, value) in pairs
    )
    (masks, (_, blind)), (boxes, (_, square)) = pairs
    return Finding(evidence.own[masks] > blind and evidence.own[boxes] < square, text)


def _seeds_apart(evidence: Evidence) -> Finding:
    own = evidence.runs[evidence.runs["setting"] == evidence.method]
    if own["seed"].nunique() < 2:
        return Finding(None, "")
    spread = own.groupby("metric", sort=False)["value"].std(ddof=1)
    text = ", ".join(f"{HEADINGS[name]} ± {value:.1f}" for name, value in spread.items())
    return Finding(bool((spread > WIDE_SPREAD).any()), text)


def _not_told_from(other: str) -> Callable[[Evidence], Finding]:
    def check(evidence: Evidence) -> Finding:
        claim = Claim(says="", source="", order=[other, evidence.method])
        found, parts = [], []
        for metric, own in evidence.runs.groupby("metric", sort=False):
            result = held(claim, own)
            if result["n_seeds"] >= FEWEST_SEEDS:
                found.append(result["p"] < 0.05 and result["difference"] > 0)
                p = f"p = {result['p']:.2f}" if result["p"] >= 0.01 else "p < 0.01"
                parts.append(f"{HEADINGS[metric]} {result['difference']:+.1f}, {p}")
        return Finding(not any(found) if found else None, "; ".join(parts))

    return check


def _below(kind: str) -> Callable[[Evidence], Finding]:
    def check(evidence: Evidence) -> Finding:
        if evidence.others[evidence.others["kind"] == kind].empty:
            return Finding(None, "")
        parts = []
        for metric, own in evidence.own.items():
            name, value = evidence.best(kind, metric) or ("", 0.0)
            if value > own:
                parts.append(f"{HEADINGS[metric]} {own:.1f}, {value:.1f} ({name})")
        return Finding(bool(parts), "; ".join(parts) or "above all of them in every metric")

    return check


def _collapsed(evidence: Evidence) -> Finding:
    rows = run_tables(evidence.results, evidence.spec, "-slots")
    rows = rows[rows["setting"] == evidence.method]
    if rows.empty:
        return Finding(None, "")
    merged = rows[(rows["mask_source"] == evidence.source) & (rows["head"] == "merged")]
    used, largest = merged["used"].mean(), merged["largest"].mean()
    text = f"{used:.1f} of {evidence.spec.slots} slots in use, the largest has {largest:.0%}"
    return Finding(largest > COLLAPSED or used < 2, text)


def _heads_unmatched(evidence: Evidence) -> Finding:
    rows = run_tables(evidence.results, evidence.spec, "-agreement")
    rows = rows[rows["setting"] == evidence.method]
    apart = rows[rows["head"] != rows["other_head"]] if len(rows) else rows
    if apart.empty:
        return Finding(None, "")
    same = apart[apart["slot"] == apart["other_slot"]]
    by_head = same.groupby("head")[["before", "after"]].mean()
    gain = by_head["after"] - by_head["before"]
    worst = gain.idxmin()
    text = (
        f"cosine of matched slots {by_head['after'].mean():.2f}, of any two "
        f"{apart['before'].mean():.2f}; least gained by head {worst + 1}: {gain[worst]:+.2f}"
    )
    return Finding(bool((gain < ALIKE).any()), text)


def _still_falling(evidence: Evidence) -> Finding:
    falls = []
    for seed in evidence.spec.seeds:
        path = run_folder(evidence.results, evidence.method, seed) / "history.csv"
        if path.is_file():
            loss = pd.read_csv(path).set_index("step")["loss"]
            if len(loss) > 10:
                earlier = loss[loss.index <= 0.9 * loss.index[-1]].iloc[-1]
                falls.append((earlier - loss.iloc[-1]) / earlier)
    if not falls:
        return Finding(None, "")
    mean = sum(falls) / len(falls)
    return Finding(mean > FALLING, f"{mean:.1%} lower over the last tenth of the steps")


def _decoder_ignores_image(evidence: Evidence) -> Finding:
    best = evidence.best("control", "miou_with_background")
    if best is None or "miou_with_background" not in evidence.own.index:
        return Finding(None, "")
    own = evidence.own["miou_with_background"]
    text = f"mIoU (with bg) {own:.1f}; {best[0]}, that looks at no image, {best[1]:.1f}"
    return Finding(own < best[1] + 2, text)


@dataclass(frozen=True)
class Check:
    """One sign: how it is looked for, what to try, and what it is a sign of.

    ``of``: every mask source by itself, the decoder's masks alone, or the run whatever its masks.
    """

    sign: str
    look: Callable[[Evidence], Finding]
    advice: str
    of: Literal["masks", "decoder", "run"] = "masks"


CHECKS = [
    Check(
        "masks found, boxes loose",
        _boxes_loose,
        "stray pixels widen the box of a slot: look at the gallery; train longer, or with fewer "
        "slots",
    ),
    Check(
        f"seeds more than {WIDE_SPREAD:.0f} points apart",
        _seeds_apart,
        "more seeds before any conclusion; slots.initialisation: learned; more heads",
    ),
    Check(
        "random masking as good as background masking",
        _not_told_from("random"),
        "look at the premise (does masking hide the background on these keys?); other ratios",
    ),
    Check(
        "training no better than none",
        _not_told_from("untrained"),
        "train longer; slots.start: random, if the start is what scores",
    ),
    Check(
        "below a control that looks at no image",
        _below("control"),
        "do not report that metric without its control; prefer one box an image, or mBO",
    ),
    Check(
        "below a training-free method on the same keys",
        _below("method"),
        "a wider decoder, longer training, a better backbone; report that method beside",
    ),
    Check(
        "slots collapsed",
        _collapsed,
        "features.standardise: feature; decoder positions as large as slots; more warm-up",
    ),
    Check(
        "heads that never match",
        _heads_unmatched,
        "fewer heads, or more steps: each head gets its share of the updates only",
        of="run",
    ),
    Check("loss still falling at the end", _still_falling, "training.steps", of="run"),
    Check(
        "decoder explains position, not the image",
        _decoder_ignores_image,
        "decoder.hidden_dim, training.steps, features.standardise: position; score the attention masks",
        of="decoder",
    ),
]


def diagnosis_table(
    spec: Spec, results: Path, published: pd.DataFrame
) -> tuple[pd.DataFrame, Printed]:
    """A row per sign of failure and what it is a sign of."""
    metrics, others = (
        table[table["protocol"].isin(["paper", "boxes"])]
        for table in (run_metrics(results, spec), reference_metrics(results, spec))
    )
    rows = []
    for check in CHECKS:
        for source in _sources(check, spec):
            where = (metrics["mask_source"] == source) & (metrics["matching"] == "hungarian")
            evidence = Evidence(spec, results, source, metrics[where], others)
            finding = check.look(evidence) if len(evidence.own) else Finding(None, "")
            found = UNKNOWN if finding.found is None else ("yes" if finding.found else "no")
            named = "" if check.of == "run" else source
            row = [check.sign, named, found, finding.evidence, check.advice]
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table, _printed(spec, table)


def _sources(check: Check, spec: Spec) -> list[str]:
    if check.of == "run":  # any of them tells
        return spec.table.mask_sources[:1]
    return [own for own in spec.table.mask_sources if check.of == "masks" or own == "decoder"]


def _printed(spec: Spec, table: pd.DataFrame) -> Printed:
    rows = table.assign(**{"try": table["try"].where(table["found"] == "yes", "")})
    method = next(iter(spec.table.settings), "nothing")
    bold = {(index, 2) for index, found in enumerate(table["found"]) if found == "yes"}
    return Printed(
        f"{caption(spec)} Signs of failure of: {spec.table.labels.get(method, method)}.",
        ["sign", "masks", "found", "by", "what to try"],
        rows.to_numpy().tolist(),
        table["sign"].tolist(),
        left=5,
        bold=bold,
    )
