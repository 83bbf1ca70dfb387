"""Learning rate as a function of the optimiser step."""

import math

from mmqsa.config.training import ScheduleConfig


def learning_rate_factor(schedule: ScheduleConfig, step: int, steps: int) -> float:
    """Factor on the peak learning rate at ``step`` (0-based) of ``steps``.

    Linear warm-up over ``schedule.warmup(steps)``, then from 1: halved every ``half_life_steps``,
    a half cosine to 0 at the end, or constant. ``released`` is halved every ``half_life_steps``
    from the first step on, as in the released code: where warm-up and half-life are equal, as they
    are there, the highest rate is half of the configured one.
    """
    warmup = schedule.warmup(steps)
    if schedule.kind == "released":
        warm = min(1.0, (step + 1) / max(1, warmup))
        return warm * 0.5 ** (step / schedule.half_life_steps)
    if step < warmup:
        return (step + 1) / warmup
    since = step - warmup
    if schedule.kind == "exponential":
        return 0.5 ** (since / schedule.half_life_steps)
    if schedule.kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * since / max(1, steps - warmup)))
    return 1.0
