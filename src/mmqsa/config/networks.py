"""What is known of timm's networks before timm is imported, which takes seconds.

The table networks.csv has every network that a backbone can be: ``python tools/networks.py`` writes
it, for the version of timm that constraints.txt names.
"""

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

TABLE = Path(__file__).with_name("networks.csv")
TIMM = "1.0.31"  # of the table


@dataclass(frozen=True)
class Network:
    """One of timm's networks: side of a patch in px, features of a patch, number of blocks.

    ``tags`` name its weights, the usual ones first; of those in ``untrained`` timm has none.
    """

    patch: int
    dim: int
    depth: int
    tags: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()


@cache
def networks() -> dict[str, Network]:
    """Every network of the table, by its name in timm without a tag."""
    with TABLE.open(newline="") as file:
        return {
            row["name"]: Network(
                int(row["patch"]),
                int(row["dim"]),
                int(row["depth"]),
                tuple(row["tags"].split()),
                tuple(row["untrained"].split()),
            )
            for row in csv.DictReader(file)
        }


def find_network(name: str) -> Network | None:
    """The network of a name such as ``vit_small_patch16_224.dino``.

    None where the table has none and another version of timm may. Raises ValueError where it has
    none either.

    >>> find_network("vit_small_patch14_dinov2.lvd142m").patch
    14
    """
    base, _, tag = name.partition(".")
    found = networks().get(base)
    if found and (not tag or tag in found.tags):
        return found
    if not _table_is_complete():
        return None
    if found:
        raise ValueError(f"{name!r}: timm has {base} as {', '.join(found.tags)}; name one of them")
    near = get_close_matches(base, networks(), 3, cutoff=0.5) or ["vit_small_patch16_224"]
    raise ValueError(
        f"{name!r} is no ViT of timm that features can be read from; there is, for example, "
        f"{', '.join(near)}"
    )


@cache
def _table_is_complete() -> bool:
    """Whether the timm that is installed is that of the table."""
    try:
        return version("timm") == TIMM
    except PackageNotFoundError:
        return False
