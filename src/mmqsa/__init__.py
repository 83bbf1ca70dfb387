"""Masked multi-query slot attention: a reproduction whose numbers can be checked."""

__version__ = "0.1.0"
