"""What is printed: tables, figures and claims, and the images that they are about."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from mmqsa.config.base import Distinct, Name, OneOrMore, Section, Text
from mmqsa.config.choices import MaskSource, MatchingName
from mmqsa.config.files import quoted
from mmqsa.config.training import RunConfig

Label = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
# Every metric -> its heading, in the order of print; evaluation/metrics.py has its function.
METRICS = {
    "corloc": "CorLoc",
    "corloc_or_equal": "CorLoc (≥)",
    "corloc_one_box": "CorLoc (one box)",
    "corloc_one_box_part": "CorLoc (one box, largest part)",
    "corloc_innermost_box": "CorLoc (innermost box)",
    "corloc_innermost_box_part": "CorLoc (innermost box, largest part)",
    "corloc_one_box_or_equal": "CorLoc (one box, ≥)",
    "miou_with_background": "mIoU (with bg)",
    "mbo_c": "mBO^c",
    "fg_ari": "FG-ARI",
    "mbo_i": "mBO^i",
    "miou": "mIoU (instances)",
}
SIGNED = ("fg_ari",)  # adjusted for chance: below 0 where worse than it
# Every corruption; data/corruptions.py has its function.
CORRUPTIONS = (
    "noise",
    "blur",
    "contrast",
    "jpeg",
    "fog",
    "pixelate",
)
# Image sets by name.
NAME = r"[A-Za-z0-9]+(?:[-_.][A-Za-z0-9]+)*"
SPLIT = r"(?:detection-)?(?:train|val|trainval)|trainaug|all-but-val"
VARIANT = rf"squash|released|native|(?:{'|'.join(CORRUPTIONS)})[1-5]"
OF_BOXES = ("boxes", "single")  # protocols of annotated boxes where the whole photograph is seen
# Every geometry -> the protocols that its images are scored by (evaluation/metrics.py), and those
# of them that tables print where they name none.
GEOMETRY_PROTOCOLS = {
    "crop": ("paper", "dinosaur", "spot", "single"),
    "released": ("released", "paper"),
    "squash": ("boxes", "single"),
    "native": ("paper", "dinosaur", "spot", "boxes", "single"),  # those of OF_BOXES of a cache
}
PRINTED_PROTOCOLS = {
    "crop": ("paper", "dinosaur"),
    "released": ("released",),
    "squash": ("boxes",),
    "native": ("paper", "dinosaur", "boxes"),
}


LABELS = "labels_sha256"  # column of means: what they were compared with (Scorer.labels_sha256)


def pack(protocol: str, metric: str) -> str:
    """The column of a metric in a csv of images."""
    return f"{protocol}/{metric}"


def unpack(columns: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The metrics among a csv's columns: column -> (protocol, metric)."""
    parts = {column: column.partition("/") for column in columns}
    return {column: (protocol, name) for column, (protocol, slash, name) in parts.items() if slash}


@dataclass(frozen=True)
class ImageSet:
    """Images that a run can be scored on: a split of a data set, as it is or changed.

    ``variant`` is empty, a geometry other than crop, or a corruption and its severity (fog3). The
    ``protocol`` is what a table prints of its scores; empty: as PRINTED_PROTOCOLS says.
    """

    dataset: str
    split: str
    variant: str
    protocol: str = field(default="", compare=False)

    @classmethod
    def parse(cls, name: str, dataset: str) -> "ImageSet":
        """From ``[DATASET/]SPLIT[-VARIANT][:PROTOCOL]``; ``dataset`` where none is named."""
        match = re.fullmatch(rf"(?:({NAME})/)?({SPLIT})(?:-({VARIANT}))?(?::(\w+))?", name)
        if match is None:
            raise ValueError(
                f"unknown image set {quoted(name)}; expected [DATASET/]SPLIT[-VARIANT][:PROTOCOL], "
                "such as val, val-fog3, detection-trainval-squash, scenes/val or val:spot"
            )
        image_set = cls(match[1] or dataset, match[2], match[3] or "", match[4] or "")
        possible = GEOMETRY_PROTOCOLS[image_set.geometry]
        if image_set.geometry == "native":
            possible = OF_BOXES
        if image_set.protocol and image_set.protocol not in possible:
            raise ValueError(
                f"image set {quoted(name)}: its images are not scored by the protocol "
                f"{image_set.protocol!r}; expected {' or '.join(possible)}"
            )
        return image_set

    @property
    def geometry(self) -> str:
        """crop, squash, released or native."""
        return self.variant if self.variant in GEOMETRY_PROTOCOLS else "crop"

    @property
    def printed(self) -> tuple[str, ...]:
        """The protocols that a table prints."""
        if self.protocol:
            return (self.protocol,)
        return ("boxes",) if self.geometry == "native" else PRINTED_PROTOCOLS[self.geometry]

    @property
    def file(self) -> str:
        """What its cache is called below ``features/{dataset}``, without suffix."""
        return f"{self.split}-{self.variant}" if self.variant else self.split

    @property
    def name(self) -> str:
        """What its metrics are called."""
        return f"{self.dataset}-{self.file}"


class Claim(Section):
    """One claim of the paper, as an order of settings."""

    says: Text
    source: Text
    """where the paper says so"""
    order: OneOrMore[str]
    """from worst to best, SETTING or SETTING/MATCHING; one alone is compared with the paper's
    values"""
    of: Literal["mean", "spread"] = "mean"
    """mean: of a metric, over seeds. spread: over seeds, smallest for the last"""


class Curve(Section):
    """A figure of every metric against one of the knobs."""

    against: str
    """SECTION.KEY, such as slots.num_heads"""
    lines: dict[Label, Distinct[Name]] = {}
    """label of a line -> its settings; empty: one line of all the table's"""

    @field_validator("against")
    @classmethod
    def _is_a_number_of_a_run(cls, against: str) -> str:
        section, _, key = against.partition(".")
        value = getattr(getattr(RunConfig(), section, None), key, None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(
                f"unknown key {quoted(against)}; expected SECTION.KEY of a number, such as "
                "slots.num_heads"
            )
        return against


class Table(Section):
    """One table: its rows are settings, under one or more matchings, on one or more image sets."""

    kind: Literal[
        "metrics",
        "sweep",
        "snapshots",
        "strata",
        "comparisons",
        "leaderboard",
        "claims",
        "seeds",
        "diagnosis",
        "compute",
        "provenance",
    ] = "metrics"
    """sweep: other slots and iterations at evaluation; snapshots: in the course of a training;
    strata: by size and number of objects; comparisons: every setting against the first, image by
    image; leaderboard: all that is scored on one image set, best first, each tested against each;
    claims: a verdict for each; seeds: how many a difference to the first setting needs; diagnosis:
    signs of failure of the first setting; compute: cost of the trainings; provenance: what made
    every run"""
    caption: Text
    settings: Distinct[Name] = []
    """rows; those that are not run are left out. Empty: all that are run"""
    matchings: OneOrMore[MatchingName] = ["hungarian"]
    mask_sources: OneOrMore[MaskSource] = ["decoder", "attention"]
    maximum: bool = False
    """of metrics: print for each the larger of decoder and attention as well, where both are
    printed; labels choose it, so it is for comparison with publications that do the same"""
    images: dict[Label, OneOrMore[str] | None] = {}
    """label of a row -> image sets whose mean it shows, each with a protocol if it is not the usual
    one (val:spot); empty: the evaluation split alone; null removes a row"""
    updates: bool = False
    """print how many updates each head got"""
    references: Literal["all", "best", "few", "none"] = "best"
    """which baselines and controls to list below the rows; few: of every metric the best method
    without training, and the best control; best: also the variant of each method with the best
    mBO^c; none: no number is bold"""
    published: Distinct[str] = []
    """protocols of published.csv to list below the rows"""
    labels: dict[str, Label] = {}
    """printed names of matchings; those of settings are `labels` of the whole config"""
    intervals: bool = False
    """print the 95 % interval below every mean over seeds"""
    claims: list[Claim] = []
    """for the kind claims"""
    curve: Curve | None = None
    """drawn besides the table"""
    figures: Distinct[
        Literal[
            "controls",
            "forest",
            "training",
            "snapshots",
            "time",
            "sweep",
            "strata",
            "severity",
            "similarity",
        ]
    ] = []
    """drawn besides the table: settings beside controls; the rows of a leaderboard with their
    intervals; losses; metrics and loss in the course of training; mBO^c against its seconds;
    metrics against the number of slots of a sweep; objects by size; metrics against a corruption's
    severity; similarity of the heads' slots (for a diagnosis)"""

    @model_validator(mode="after")
    def _ranks_one_image_set(self) -> Self:
        if self.kind == "leaderboard":
            if len(list(chain(*filter(None, self.images.values())))) > 1:
                raise ValueError("images: a leaderboard is of one image set; name one")
        elif "forest" in self.figures:
            raise ValueError("figures: forest is of a leaderboard; give the table that kind")
        return self

    @property
    def drawn(self) -> list[str]:
        """All figures of the table."""
        return [*(["curve"] if self.curve else []), *self.figures]


class PageConfig(Section):
    """The page that shows the results, and the masks of every image."""

    answer: Name = "summary"
    """the table on its first screen, with its first figure; if it is not made, the first that is"""
    settings: Distinct[Name] = []
    """those whose masks it shows; empty: all that are run"""
    num_seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    """of each, so many of its seeds; a page of five has five times the size"""
    photographs: bool = True
    """false: masks alone, where the photographs must not be passed on"""
