"""Choices that the config and the command line share, in a module that imports nothing heavy."""

from typing import Literal

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
ALIKE = 0.5  # cosine above which the matching `joined` makes two slots one
