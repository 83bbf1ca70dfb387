"""A leaderboard of all that is scored on an image set, without a config."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mmqsa.config.base import validated
from mmqsa.config.evaluation import BASELINES
from mmqsa.config.tables import PRINTED_PROTOCOLS, unpack
from mmqsa.errors import InputError
from mmqsa.paths import Paths
from mmqsa.reporting.forest import drawn_board
from mmqsa.reporting.image_sets import IMAGES, check_complete, image_sets
from mmqsa.reporting.leaderboard import board, printed_board
from mmqsa.reporting.metrics_file import REFERENCE, RUN, read_table
from mmqsa.reporting.results import Results, Spec
from mmqsa.reporting.style import save, style
from mmqsa.reporting.tables import write_table
from mmqsa.reporting.typeset import Printed

NAME = "leaderboard"  # of the table, before the image set: a workflow's own is called that


def leaderboard_spec(
    paths: Paths,
    image_set: str,
    matching: str = "hungarian",
    mask_source: str = "attention",
    settings: list[str] | None = None,
    protocol: str | None = None,
) -> Spec:
    """The spec of a leaderboard of all that is scored on an image set, or of some settings.

    Without a ``protocol``, those that tables print of such images. Raises InputError where a
    setting or the protocol is not scored.
    """
    files = image_sets(paths)[image_set]
    check_complete(path for path in files if paths.results / "runs" not in path.parents)
    seeds: dict[str, list[int]] = {}
    for path in files:
        run = path.parent.parent
        number = run.name.removeprefix("seed")
        of_run = path == paths.metrics(run.parent.name, number, image_set, IMAGES)
        if of_run and number.isdecimal():
            seeds.setdefault(run.parent.name, []).append(int(number))
    for name in settings or []:
        if name not in seeds:
            known = ", ".join(sorted(seeds)) or "none"
            raise InputError(f"--setting {name}: not scored on {image_set}; there is: {known}")
    names = settings or sorted(seeds)
    one = read_table(files[0], IMAGES, RUN if seeds else REFERENCE)
    scored = list(dict.fromkeys(of for of, _ in unpack(one).values()))
    ending = image_set.rpartition("-")[2]
    usual = PRINTED_PROTOCOLS.get(ending, PRINTED_PROTOCOLS["crop"])
    protocols = [protocol] if protocol else [one for one in usual if one in scored] or scored
    if protocol and protocol not in scored:
        raise InputError(f"--protocol {protocol}: not scored; expected {' or '.join(scored)}")
    of_mmqsa = [
        name for name in ("controls", *BASELINES) if paths.reference(image_set, name).is_file()
    ]
    table = {"kind": "leaderboard", "caption": "Leaderboard", "settings": names}
    table |= {"matchings": [matching], "mask_sources": [mask_source], "references": "all"}
    data = {
        "name": "-".join(filter(None, [NAME, image_set, protocol])),
        "table": table | {"figures": ["forest"]},
        "images": {"": [image_set]},
        "protocols": {"": protocols},
        "num_slots": 2,  # which only a choice among references asks for, and here all are listed
        "seeds": {name: sorted(seeds[name]) for name in names},
        "showcase": next(iter(names), "none"),
        "references": of_mmqsa,
        "comparable": False,
        "like_published": False,
        "features": "of the runs",
        "setup": f"Images: {image_set}.",
    }
    return validated(Spec, data, paths.results)


def make_leaderboard(
    results: Results, metric: str = "", only: Sequence[str] = ()
) -> tuple[list[Path], pd.DataFrame, Printed]:
    """Write ``tables/{name}`` and ``figures/{name}-forest``; returns paths and tables."""
    name, found = results.spec.name, board(results, metric, only)
    printed = printed_board(results, found)
    with style():
        figure = drawn_board(results, found)
        paths = write_table(results.paths, name, found.table, printed)
        paths += save(figure, results.paths.figure(name, "forest", "png").with_suffix(""))
    return paths, found.table, printed
