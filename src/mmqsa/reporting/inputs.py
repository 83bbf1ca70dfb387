"""The files that a table or a figure reads: what the workflow's rules declare as their input."""

from collections.abc import Iterable
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

from mmqsa.config.methods import read_methods
from mmqsa.config.tables import CORRUPTIONS, ImageSet, Table
from mmqsa.config.training import RunConfig
from mmqsa.config.workflow import Config
from mmqsa.paths import CONFIG, HISTORY, PROVENANCE, Paths


class Reads(NamedTuple):
    """Kinds of metrics files (see Paths.metrics) and files of a run's folder."""

    runs: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    records: tuple[str, ...] = ()


TABLES = {
    "metrics": Reads(("", "per_image"), ("",), (PROVENANCE,)),
    "sweep": Reads(("sweep",), ("",)),
    "snapshots": Reads(("snapshots",), ("",)),
    "strata": Reads(("per_object",), ("", "per_object")),
    "comparisons": Reads(("per_image",), ("", "per_image")),
    "leaderboard": Reads(("per_image",), ("", "per_image")),
    "claims": Reads(("",)),
    "seeds": Reads(("",)),
    "diagnosis": Reads(("", "agreement", "slots"), ("",), (HISTORY,)),
    "compute": Reads(records=(PROVENANCE,)),
    "provenance": Reads(records=(PROVENANCE,)),
}
FIGURES = {
    "curve": Reads(("",), ("",), (CONFIG,)),
    "controls": Reads(("",), ("",)),
    "forest": TABLES["leaderboard"],
    "training": Reads(records=(HISTORY,)),
    "snapshots": Reads(("snapshots",), ("",), (HISTORY,)),
    "time": Reads(("snapshots",), ("",), (PROVENANCE,)),
    "sweep": Reads(("sweep",), ("",), (CONFIG,)),
    "strata": TABLES["strata"],
    "severity": Reads(("",)),
    "similarity": Reads(("agreement",)),
}
FIRST_SETTING = ("agreement", "slots")  # measured for a table's first setting alone
SINGLE = ("metrics", "per_image")  # read for rows of one image set: a mean has no interval


def knob(config: RunConfig, against: str) -> float:
    """The value of ``SECTION.KEY`` in a run's config."""
    if against == "masking.ratio" and config.masking.strategy == "none":
        return 0.0  # whatever its ratio says, nothing is hidden
    section, key = against.split(".")
    return getattr(getattr(config, section), key)


def figures(config: Config, table: Table) -> list[str]:
    """The figures of a table that have something to show: no course or curve of one point."""
    return [kind for kind in table.drawn if _has_points(config, table, kind)]


def _has_points(config: Config, table: Table, kind: str) -> bool:
    """Whether a figure that has a number along x has two values of it, of some line."""
    names = config.rows(table)
    runs = {name: config.setting(name) for name in names}
    if kind == "curve" and table.curve:
        lines = list(table.curve.lines.values()) or [names]
        values = {name: knob(run, table.curve.against) for name, run in runs.items()}
        return any(len({values[name] for name in line if name in values}) > 1 for line in lines)
    if kind == "sweep" and names:
        slots, sweep = runs[names[0]].slots, config.evaluation.sweep
        counts = {*sweep.num_slots, *[slots.num_slots] * (slots.iterations in sweep.iterations)}
        return slots.initialisation != "queries" and len(counts) > 1
    if kind == "severity":
        images = set(chain(*config.image_sets(table).values()))
        corrupted = {one.variant[-1] for one in images if one.variant[:-1] in CORRUPTIONS}
        clean = config.split_set(config.dataset.eval_split) in images
        return bool(corrupted) and len(corrupted) + clean > 1
    if kind in ("snapshots", "time"):  # 0 has no place on the logarithmic axis of seconds
        steps = set(chain(*(run.training.snapshots for run in runs.values())))
        return bool(steps - {0} if kind == "time" else steps)
    if kind == "training":
        return any(run.training.steps > run.training.log_every for run in runs.values())
    return True


def table_inputs(config: Config, name: str, paths: Paths) -> list[Path]:
    """The files that the table ``name`` is made from."""
    table = config.tables[name]
    return list(_files(config, table, TABLES[table.kind], paths))


def figure_inputs(config: Config, name: str, kind: str, paths: Paths) -> list[Path]:
    """The files that a figure of the table ``name`` is made from."""
    return list(_files(config, config.tables[name], FIGURES[kind], paths))


def _files(config: Config, table: Table, reads: Reads, paths: Paths) -> Iterable[Path]:
    rows = list(config.image_sets(table).values())
    image_sets, single = list(chain(*rows)), list(chain(*(row for row in rows if len(row) == 1)))
    settings = config.rows(table)
    runs = [(setting, seed) for setting in settings for seed in config.seeds_of(setting)]
    for setting, seed in runs:
        yield from (paths.run(setting, seed) / record for record in reads.records)
        for kind in reads.runs:
            if kind not in FIRST_SETTING or setting == settings[0]:
                for image_set in single if (table.kind, kind) == SINGLE else image_sets:
                    yield paths.metrics(setting, seed, image_set.name, kind)
    if table.references != "none":
        for image_set in image_sets:
            for method, kind in product(references(config, image_set), reads.references):
                yield paths.reference(image_set.name, method, kind)
            if reads.references:
                yield from method_files(paths, image_set.name, reads.references)


def method_files(paths: Paths, images: str, kinds: Iterable[str]) -> Iterable[Path]:
    """The record and the scores of every method of other code that is scored on an image set.

    No rule makes them, so those count that are there. Raises InputError on a faulty record.
    """
    for method in read_methods(paths):
        if paths.method(images, method).is_file():
            yield paths.methods / f"{method}.yaml"
            files = (paths.method(images, method, kind) for kind in dict.fromkeys(["", *kinds]))
            yield from filter(Path.is_file, files)


def references(config: Config, image_set: ImageSet) -> list[str]:
    """The controls and baselines on an image set; no oracle where label maps are not read."""
    methods = ["controls", *config.evaluation.baselines]
    without = ["oracle"] if image_set.variant in ("squash", "native") else []
    return [name for name in methods if name not in without]
