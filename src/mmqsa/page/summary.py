"""The first screen's contents: what was run, the answer, verdicts in words, and warnings."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mmqsa.config.files import read_text
from mmqsa.config.methods import read_methods
from mmqsa.config.provenance import read_provenance
from mmqsa.config.tables import METRICS
from mmqsa.errors import InputError
from mmqsa.page.spec import PageSpec
from mmqsa.paths import PROVENANCE, Paths
from mmqsa.reporting.results import SOURCES
from mmqsa.reporting.typeset import unescaped

# How verdicts begin that say nothing of a claim, and those that say that it did not hold up.
UNTOLD = ("other data", "not enough runs")
OPEN = "no evidence"


@dataclass
class Cell:
    """A cell of a printed table."""

    text: str
    bold: bool = False
    colour: str = ""
    """of a method of other code, before its name"""


@dataclass
class PageTable:
    """A printed table, with the files of its figures below the page."""

    name: str
    caption: str
    heading: list[str]
    rows: list[list[Cell]]
    left: int
    """how many of the first columns hold words"""
    figures: list[str]

    @property
    def title(self) -> str:
        """The first sentence of its caption."""
        return self.caption.split(". ")[0].rstrip(".")


def page_table(paths: Paths, name: str, kinds: Iterable[str]) -> PageTable:
    """A table, read from its Markdown, and its figures. Raises InputError where it is missing."""
    path = paths.table(name, "md")
    if not path.exists():
        raise InputError(f"{path}: missing; run `mmqsa table`")
    lines = read_text(path).splitlines()
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines
        if line.startswith("|")
    ]
    if len(cells) < 2 or any(len(row) != len(cells[0]) for row in cells):
        raise InputError(f"{path}: no table of mmqsa; make it again with `mmqsa table`")
    heading, rules, *rows = cells

    def cell(text: str) -> Cell:
        bold = re.fullmatch(r"\*\*(.+)\*\*", text)
        return Cell(unescaped(bold[1] if bold else text), bold is not None)

    printed = [[cell(text) for text in row] for row in rows]
    for record in read_methods(paths).values():
        title, words = record.title.strip(), {row[0].text for row in printed}
        if f"{title} ({record.name})" in words:  # another row has that title
            title = f"{title} ({record.name})"
        for row in printed:
            if row[0].text == title or row[0].text.startswith(f"{title}, "):
                row[0].colour = record.colour or ""
    return PageTable(
        name=name,
        caption=lines[0],
        heading=[unescaped(text) for text in heading],
        rows=printed,
        left=sum(rule.startswith(":") for rule in rules),
        figures=[paths.figure(name, kind, "png").name for kind in kinds],
    )


def facts(spec: PageSpec, paths: Paths) -> dict[str, str]:
    """What was run, by its heading; the machine and the time as the runs recorded them."""
    places = [paths.run(name, seed) for name, seeds in spec.trained.items() for seed in seeds]
    records = [
        read_provenance(place / PROVENANCE) for place in places if (place / PROVENANCE).exists()
    ]
    seeds = sorted({len(seeds) for seeds in spec.trained.values()})
    found = dict(spec.facts)
    made = len(places) if len(records) == len(places) else f"{len(records)} of {len(places)}"
    found["Runs"] = f"{made}, of {len(spec.trained)} settings with {' or '.join(map(str, seeds))} "
    found["Runs"] += "seed each" if seeds == [1] else "seeds each"
    if records:
        found["Machine"] = " and ".join(sorted({record["device"] for record in records}))
        minutes = sum(record["seconds"] for record in records) / 60
        found["Time"] = f"{minutes:,.0f} minutes of training in total"
        versions = sorted(
            {f"mmqsa {one['mmqsa']}, torch {one['packages']['torch']}" for one in records}
        )
        found["Software"] = "; ".join(versions)
    return found


@dataclass
class Verdict:
    """A claim, and what the runs say of it: by mask source, verdict -> the metrics that have it."""

    claim: str
    source: str
    """where the paper says so, and the score that patches are hidden by"""
    told: dict[str, dict[str, list[str]]]

    @property
    def kinds(self) -> set[str]:
        """All its verdicts."""
        return {verdict for by_verdict in self.told.values() for verdict in by_verdict}

    @property
    def tone(self) -> str:
        """reproduced or opposite, where all that is told of it says so; else open."""
        told = {kind for kind in self.kinds if not kind.startswith(UNTOLD)}
        return told.pop() if len(told) == 1 and told <= {"reproduced", "opposite"} else "open"

    @property
    def sentences(self) -> list[str]:
        """The verdicts in words, one for each mask source where they differ."""
        words = {source: self._of(by_verdict) for source, by_verdict in self.told.items()}
        if len(set(words.values())) == 1:
            return [f"{next(iter(words.values()))}."]
        return [f"{SOURCES[source]}: {text}." for source, text in words.items()]

    def _of(self, by_verdict: dict[str, list[str]]) -> str:
        if len(by_verdict) == 1:
            return next(iter(by_verdict))
        named = {verdict: ", ".join(metrics) for verdict, metrics in by_verdict.items()}
        return "; ".join(f"{verdict} for {metrics}" for verdict, metrics in named.items())


def verdicts(path: Path) -> list[Verdict]:
    """The claims of a table of claims (csv); those that the runs decide come first."""
    columns = ["claim", "source", "masking", "mask_source", "metric", "verdict"]
    table = _read_csv(path, columns)
    table = table[table["verdict"] != ""]
    found = []
    for (claim, source, masking), rows in table.groupby(columns[:3], sort=False):
        told: dict[str, dict[str, list[str]]] = {}
        for row in rows.to_dict("records"):
            metrics = told.setdefault(row["mask_source"], {}).setdefault(row["verdict"], [])
            name = METRICS.get(row["metric"], row["metric"])
            metrics += [name] * (name not in metrics)  # mBO^c is of two protocols
        source = f"{source}; masked by: {masking}" if masking else source
        found.append(Verdict(str(claim), str(source), told))

    def all_begin(one: Verdict, words: tuple[str, ...]) -> bool:
        return all(kind.startswith(words) for kind in one.kinds)

    return sorted(found, key=lambda one: (all_begin(one, (*UNTOLD, OPEN)), all_begin(one, UNTOLD)))


def warnings(path: Path) -> list[dict[str, Any]]:
    """The signs of failure that a table of diagnosis (csv) has found: sign, masks and evidence."""
    table = _read_csv(path, ["sign", "mask_source", "detected", "evidence"])
    found: dict[str, dict[str, str]] = {}
    for row in table[table["detected"] == "yes"].to_dict("records"):
        masks = SOURCES.get(row["mask_source"], "")
        found.setdefault(row["sign"], {})[masks] = row["evidence"]
    return [{"sign": sign, "evidence": evidence} for sign, evidence in found.items()]


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """A table's csv, all of it as text. Raises InputError."""
    if not path.exists():
        raise InputError(f"{path}: missing; run `mmqsa table`")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        return table[columns]
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: no table of mmqsa ({reason}); make it again") from None
