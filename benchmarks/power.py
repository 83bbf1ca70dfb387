"""What the test of "more heads spread less" can find, from a few seeds of four settings.

    python benchmarks/power.py --out benchmarks/results         # a minute

A row is a number of seeds and a test: how often it finds a falling spread at p < 0.05 in made
scores. `false` columns are of scores whose spread does not fall, by their distribution, and should
be 0.05 or less; the others are of normal ones, where the first setting spreads so many times as
much as the last. Kendall's tau of distance and rank is what the project tested with before.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.stats import kendalltau

from mmqsa.reporting.statistics import smallest_p, spread_p
from publish import publish

SEEDS = ((3, 3, 3, 3), (3, 3, 3, 5), (5, 5, 5, 5), (10, 10, 10, 10))
SPREADS = (1.5, 2, 3)
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
SCORES: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy tails (t, 3 df)": lambda rng, shape: rng.standard_t(3, shape),
    "skewed (exponential)": lambda rng, shape: rng.exponential(size=shape),
    "uniform": lambda rng, shape: rng.uniform(size=shape),
    "ties (rounded to 1 sd)": lambda rng, shape: rng.normal(size=shape).round(),
}


def tau_p(groups: list[np.ndarray]) -> np.ndarray:
    """One by one: the two-sided p of Kendall's tau, 1 where it rises."""
    ranks = np.repeat(range(len(groups)), [values.shape[1] for values in groups])
    apart = [abs(values - np.median(values, axis=1, keepdims=True)) for values in groups]
    found = [kendalltau(ranks, one) for one in np.concatenate(apart, axis=1)]
    return np.array([one.pvalue if one.statistic < 0 else 1.0 for one in found])


TESTS = {"permuted, without the least": (spread_p, 1), "Kendall's tau": (tau_p, 8)}


def rows(tables: int) -> Iterator[dict]:
    """A row per number of seeds and test; the slow test sees a part of the tables."""
    for sizes in SEEDS:
        for name, (test, part) in TESTS.items():
            shown = sizes if len({*sizes}) > 1 else sizes[:1]
            row: dict = {"test": name, "seeds": ", ".join(map(str, shown))}
            row["smallest p"] = smallest_p(sizes) if test is spread_p else float("nan")
            for scores, draw in SCORES.items():
                row[f"false: {scores}"] = found(test, draw, sizes, 1, tables // part)
            for ratio in SPREADS:
                row[f"{ratio} times"] = found(test, SCORES["normal"], sizes, ratio, tables // part)
            yield row


def found(test: Callable, draw: Draw, sizes: tuple[int, ...], ratio: float, tables: int) -> float:
    """The share of made tables in which p < 0.05."""
    rng = np.random.default_rng(0)
    stds = ratio ** -np.linspace(0, 1, len(sizes))
    groups = [std * draw(rng, (tables, size)) for std, size in zip(stds, sizes, strict=True)]
    pieces = zip(*(np.array_split(values, max(1, tables // 500)) for values in groups), strict=True)
    return float((np.concatenate([test([*piece]) for piece in pieces]) < 0.05).mean())


def main(
    tables: Annotated[int, typer.Option(min=100, help="Made tables of each kind.")] = 10_000,
    quick: Annotated[bool, typer.Option("--quick", help="A hundred: does it run?")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for csv and markdown.")] = None,
) -> None:
    """Print the table; write it to --out."""
    tables = 100 if quick else tables
    publish("power", rows(tables), f"Shares of {tables:,} made tables each (tau: an eighth)", out)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
