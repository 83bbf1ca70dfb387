"""Typed configuration: every knob, its default, its bounds and its description, once.

One module per part, so that a stage depends on the knobs that it reads and on no others.
``Config`` is the whole of config.yaml; every stage takes it.

>>> from mmqsa.config import BackboneConfig, Config
>>> paper = Config.load()  # the defaults; Config.load("mine.yaml") reads a file over them
>>> paper.slots.num_slots, paper.slots.num_heads, paper.masking.ratio
(7, 8, 0.7)
>>> paper.changed("example", {"slots": {"num_slots": 5}}).slots.num_slots
5
>>> BackboneConfig(image_size=224).feature
'key'
>>> paper.changed("example", {"slots": {"slots": 5}})
Traceback (most recent call last):
mmqsa.errors.InputError: example: slots.slots: no such key; remove it or correct its spelling
"""

from typing import TYPE_CHECKING

__all__ = [
    "BackboneConfig",
    "Config",
    "ModelConfig",
    "ScenesConfig",
]

if TYPE_CHECKING:
    from mmqsa.config.data import BackboneConfig, ScenesConfig
    from mmqsa.config.model import ModelConfig
    from mmqsa.config.workflow import Config
else:
    from mmqsa.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "mmqsa.config.data": ["BackboneConfig", "ScenesConfig"],
            "mmqsa.config.model": ["ModelConfig"],
            "mmqsa.config.workflow": ["Config"],
        },
    )
