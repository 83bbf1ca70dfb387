"""From a feature cache to a trained run."""

from typing import TYPE_CHECKING

__all__ = [
    "Run",
    "train",
]

if TYPE_CHECKING:
    from mmqsa.training.loop import train
    from mmqsa.training.run import Run
else:
    from mmqsa.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "mmqsa.training.loop": ["train"],
            "mmqsa.training.run": ["Run"],
        },
    )
