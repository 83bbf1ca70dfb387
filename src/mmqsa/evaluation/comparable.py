"""Whether new scores can stand beside those of a results folder: the same images and labels."""

from pathlib import Path

import numpy as np
import pandas as pd

from mmqsa.errors import InputError
from mmqsa.evaluation.labelled_images import LabelledImages
from mmqsa.evaluation.scoring import Scorer
from mmqsa.paths import Paths, beside
from mmqsa.reporting.image_sets import image_sets, means_beside
from mmqsa.reporting.metrics_file import REFERENCE, RUN, differing_labels, labels_of, read_table


def check_comparable(paths: Paths, name: str, labels: LabelledImages, scorer: Scorer) -> None:
    """Raises InputError where anything in the folder is scored on other images or other labels."""
    advice = "choose another --results, or give the data set a dataset.name of its own in --config"
    own, seen_run = scorer.labels_sha256, False
    for per_image in image_sets(paths, again=name).get(labels.name, []):
        metrics = means_beside(per_image)
        if not metrics.exists():
            continue
        of_run = paths.results / "runs" in per_image.parents
        names = RUN if of_run else REFERENCE
        theirs = labels_of(read_table(metrics, names=names))
        if of_run and not theirs:
            if seen_run:  # an earlier version's: all of them are of one cache
                continue
            seen_run = True
        differing = differing_labels(own, theirs)
        if "side" in differing:
            raise InputError(
                f"{metrics}: is scored at {theirs.split()[0].removeprefix('side=')} px, not "
                f"{labels.side}; give the --config that it was made with, or {advice}"
            )
        if not theirs:
            objects = beside(metrics, "per_object")
            same = not objects.exists() or _same_objects(objects, scorer.per_object)
            differing = ["objects"] * (not same)
        if (differing or not theirs) and (
            set(read_table(per_image, "per_image", names)["image_id"]) != set(labels.ids)
        ):
            raise InputError(f"{per_image}: of other images than {labels.path}; {advice}")
        if differing:
            raise InputError(
                f"{metrics}: is scored on other labels of these images ({', '.join(differing)}); "
                f"{advice}"
            )


def _same_objects(path: Path, objects: pd.DataFrame) -> bool:
    """Whether the objects in a file have the sizes of these, as far as its digits tell."""
    theirs = read_table(path, "per_object")
    if theirs.empty or objects.empty:
        return True
    keys, shares = ["image_id", "labels", "class"], []
    for table in (theirs, objects):
        names = [name for name in ("name", *RUN) if name in table]
        first = (table[names] == table[names].iloc[0]).all(axis=1)  # of several predictions, one
        own = table[first].assign(share=table["share"].map("{:.6g}".format).astype(float))
        shares.append(own.groupby(keys)["share"].sum().sort_index())
    one, other = shares
    return one.index.equals(other.index) and bool(np.allclose(one, other, rtol=0, atol=1e-9))
