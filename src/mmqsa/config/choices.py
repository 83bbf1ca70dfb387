"""Choices that the config and the command line share; the module imports nothing heavy."""

from typing import Any, Literal, get_args

from mmqsa.errors import InputError

# How heads become one set of slots; model/merging.py says what each does.
MatchingName = Literal[
    "hungarian",
    "greedy",
    "learned",
    "mask",
    "weighted",
    "fusion",
    "joined",
    "consensus",
    "consensus-chosen",
    "unaligned",
    "none",
]
MaskSource = Literal["decoder", "attention", "decoder-masks"]
GeometryName = Literal["crop", "squash", "released", "native"]  # data/geometry.py
Frame = Literal["photograph", "square", "squashed"]  # what a prediction covers
PartName = Literal["trainaug", "coco20k"]  # data/parts.py
ALIKE = 0.5  # cosine above which the matching `joined` makes two slots one


def one_of(name: str, value: str, choices: Any) -> None:
    """Raises InputError that names ``name`` unless a Literal has ``value``: Python checks no type.

    >>> one_of("mask_source", "slots", MaskSource)
    Traceback (most recent call last):
    mmqsa.errors.InputError: mask_source: 'slots'; expected one of decoder, attention, decoder-masks
    """
    if value not in get_args(choices):
        raise InputError(f"{name}: {value!r}; expected one of {', '.join(get_args(choices))}")
