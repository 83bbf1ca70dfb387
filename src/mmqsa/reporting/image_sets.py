"""Image sets that anything below a results folder is scored on, found without a config."""

from collections.abc import Iterable
from pathlib import Path

from mmqsa.config.evaluation import BASELINES
from mmqsa.config.methods import read_methods
from mmqsa.errors import InputError
from mmqsa.paths import Paths
from mmqsa.progress import notice

IMAGES = "per_image"


def image_sets(paths: Paths, again: str = "") -> dict[str, list[Path]]:
    """Every image set that anything is scored on image by image, with those files.

    ``again``: see `read_methods`.
    """
    found: dict[str, list[Path]] = {}
    patterns = [paths.metrics("*", "*", "*", IMAGES)]
    patterns += [paths.reference("*", method, IMAGES) for method in ("controls", *BASELINES)]
    patterns += [paths.method("*", method, IMAGES) for method in read_methods(paths, again)]
    for pattern in patterns:
        _, ending = pattern.name.split("*")
        for path in sorted(paths.results.glob(str(pattern.relative_to(paths.results)))):
            found.setdefault(path.name.removesuffix(ending), []).append(path)
    return dict(sorted(found.items()))


def chosen_image_set(paths: Paths, name: str | None) -> str:
    """The image set ``name``, or the only one. Raises InputError that lists what there is."""
    sets = image_sets(paths)
    notice_earlier_layout(paths)
    if not sets:
        raise InputError(f"{paths.results}: nothing is scored here image by image; evaluate first")
    if name is None and len(sets) > 1:
        raise InputError(f"{paths.results}: has {', '.join(sets)}; name one with --image-set")
    if name is not None and name not in sets:
        raise InputError(f"--image-set {name}: not scored here; expected one of {', '.join(sets)}")
    return name or next(iter(sets))


def means_beside(per_image: Path) -> Path:
    """The metrics file that the scores of single images belong to."""
    return per_image.with_name(per_image.name.removesuffix(f"-{IMAGES}.csv.gz") + ".csv")


def check_complete(per_image: Iterable[Path]) -> None:
    """Raises InputError where the means beside scores of single images are missing."""
    for path in per_image:
        if not (means := means_beside(path)).exists():
            raise InputError(
                f"{means}: missing, though {path.name} is there; restore it, or remove that file "
                "and score again"
            )


def notice_earlier_layout(paths: Paths) -> None:
    """Say which methods of other code an earlier version has scored, which are read no more."""
    for name in read_methods(paths):
        old = sorted(paths.reference("*", name).parent.glob(f"*-{name}.csv"))
        if old and not (paths.methods / name).exists():
            notice(
                f"{old[0]}: scores of {name} where an earlier version kept them, which are not "
                f"read; run `mmqsa score --name {name}` again, then remove them"
            )
