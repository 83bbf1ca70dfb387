"""Seeds of trainings, and what jobs ask a scheduler for."""

from typing import Annotated

from pydantic import Field

from mmqsa.config.base import OneOrMore, Section, Seed


class SeedsConfig(Section):
    """The seeds of all settings, or of one."""

    seeds: OneOrMore[Seed] = [0, 1, 2, 3, 4]
    """every setting is trained once per seed, unless it names `seeds` of its own"""


Throughput = Annotated[float, Field(ge=1e-3, le=1e6, allow_inf_nan=False)]


class SchedulingConfig(Section):
    """What jobs ask a scheduler for; it changes no result."""

    gpu_tflops: Throughput = 120.0
    """rate of a training on a GPU: 122-174 on an H200; 260 with gpu.patch of benchmarks/results"""
    cpu_tflops: Throughput = 0.1
    """rate of one CPU core; 0.20 on two cores in benchmarks/results/rates.md"""
    margin: Annotated[float, Field(ge=0.1, le=1000, allow_inf_nan=False)] = 3.0
    """time limit of a job over its expected time"""
    worker: bool = False
    """true: jobs are copies of a process that has imported torch, 3 to 7 s less each"""
