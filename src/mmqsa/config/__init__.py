"""Typed configuration: every knob, its default, its bounds and its description, once.

One module per part, so that a stage depends on the knobs that it reads and on no others.
"""
