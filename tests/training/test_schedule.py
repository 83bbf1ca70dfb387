import pytest

from mmqsa.config.training import RunConfig, ScheduleConfig
from mmqsa.training.schedule import learning_rate_factor


def test_schedules():
    exponential = ScheduleConfig(warmup_steps=10, half_life_steps=100)
    assert learning_rate_factor(exponential, 0, 1000) == pytest.approx(0.1)
    assert learning_rate_factor(exponential, 9, 1000) == pytest.approx(1.0)
    assert learning_rate_factor(exponential, 110, 1000) == pytest.approx(0.5)
    cosine = ScheduleConfig(kind="cosine", warmup_steps=0)
    assert learning_rate_factor(cosine, 0, 100) == pytest.approx(1.0)
    assert learning_rate_factor(cosine, 50, 100) == pytest.approx(0.5)
    constant = ScheduleConfig(kind="constant", warmup_steps=2)
    assert [learning_rate_factor(constant, step, 9) for step in (0, 1, 8)] == [0.5, 1, 1]
    released = ScheduleConfig(kind="released", warmup_steps=100, half_life_steps=100)
    factors = [learning_rate_factor(released, step, 1000) for step in range(1000)]
    assert max(factors) == pytest.approx(0.5, abs=0.01)  # half the rate that it names
    assert factors[299] == pytest.approx(0.125, abs=0.01)


@pytest.mark.parametrize(
    "steps, warmup", [(122_500, 10_000), (99_999, 9_999), (300, 30), (9, 0), (1, 10_000)]
)
def test_the_warm_up_is_at_most_a_tenth_unless_it_is_set(steps, warmup):
    """A run records the number, so one that was made when it stood in the config is the same."""
    config = RunConfig.model_validate({"training": {"steps": steps}})
    assert config.training.schedule.warmup(steps) == warmup
    named = {"training": {"steps": steps, "schedule": {"warmup_steps": warmup}}}
    assert config.dependencies() == RunConfig.model_validate(named).dependencies()
    assert config.dependencies()["training"]["schedule"]["warmup_steps"] == warmup
    factor = learning_rate_factor(config.training.schedule, 0, steps)
    assert factor == pytest.approx(1 / max(warmup, 1))
