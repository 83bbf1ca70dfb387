"""The training of one run."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from mmqsa.config.base import Batch, Distinct, Rate, Section, Steps, to_be_carried_out
from mmqsa.config.data import ExtractionConfig
from mmqsa.config.fits import fault_of, too_large
from mmqsa.config.model import DecoderConfig, MaskingConfig, ModelConfig, SlotsConfig

Precision = Literal["auto", "fp32", "tf32", "bf16"]
WARMUP_STEPS = 10_000  # the paper's


class FeaturesConfig(Section):
    """Preprocessing of the cached features."""

    standardise: Literal["none", "feature", "position"] = "feature"
    """over the training set; with raw features all patches stay in one slot for long"""


class ScheduleConfig(Section):
    """The learning rate over the optimiser steps."""

    kind: Literal["exponential", "cosine", "constant", "released"] = "exponential"
    """released: decays from step 0 on, during the warm-up as well"""
    warmup_steps: Annotated[int, Field(ge=0, le=10**9)] | None = None
    """null: 10000 (the paper), but at most a tenth of the steps"""
    half_life_steps: Steps = 50_000
    """of the exponential schedules"""

    def warmup(self, steps: int) -> int:
        """Steps of warm-up in a training of so many steps.

        A single step trains nothing, as in the control `untrained`: its number stays what it was
        before it could be null, so that such runs need not be made again.
        """
        if self.warmup_steps is not None:
            return self.warmup_steps
        return WARMUP_STEPS if steps == 1 else min(WARMUP_STEPS, steps // 10)


class TrainingConfig(Section):
    """The optimiser, Adam without weight decay, and its budget."""

    steps: Steps = 122_500
    """x 64 = 7.84 M images, the 500 epochs of 15,676 images of the released code"""
    batch_size: Batch = 64
    """the released code's 4 per process cannot fill a GPU"""
    learning_rate: Rate = 4e-4
    """peak"""
    schedule: ScheduleConfig = ScheduleConfig()
    gradient_clip: Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)] | None = 1.0
    """largest norm; null: none. Without it the gradient of the GRU has spikes"""
    heads_per_step: Literal["drawn", "all", "merged"] = "drawn"
    """one drawn at random (the paper) | all: mean loss | merged: matched, averaged, then decoded"""
    precision: Precision = "auto"
    """auto: bf16 where the hardware is faster at it | fp32 | tf32 | bf16"""
    compile: bool = False
    """torch.compile the decoder, on a GPU alone: after 14 s on an H200; pays with cuda_graphs"""
    cuda_graphs: bool = False
    """on a GPU, one per head where one is drawn: with compile 27-39 min become 19-24 on an H200"""
    log_every: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """steps"""
    snapshots: Annotated[Distinct[Annotated[int, Field(ge=0)]], Field(max_length=100)] = []
    """steps before the last whose weights are kept and scored as well; 0: the start"""
    checkpoint_seconds: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] = 300.0
    """time between checkpoints"""

    @model_validator(mode="after")
    def _snapshots_come_before_the_end(self) -> "TrainingConfig":
        if late := [step for step in self.snapshots if step >= self.steps]:
            raise ValueError(
                f"snapshots: {late[0]} is not below steps, {self.steps}, where the run ends"
            )
        return self


RUN_SECTIONS = ("features", "masking", "slots", "decoder", "training")


class RunConfig(ExtractionConfig):
    """What a run depends on: its features, its model and its training."""

    features: FeaturesConfig = FeaturesConfig()
    masking: MaskingConfig = MaskingConfig()
    slots: SlotsConfig = SlotsConfig()
    decoder: DecoderConfig = DecoderConfig()
    training: TrainingConfig = TrainingConfig()
    depends_on = {
        **ExtractionConfig.depends_on,
        "dataset": {"name", "geometry", "train_split"},
        **dict.fromkeys(RUN_SECTIONS, True),
    }

    def dependencies(self) -> dict[str, Any]:
        """What a run depends on, as plain data: the warm-up as a number."""
        settings = super().dependencies()
        training = settings["training"]
        training["schedule"]["warmup_steps"] = self.training.schedule.warmup(training["steps"])
        return settings

    @model_validator(mode="after")
    def _can_be_trained(self, info: ValidationInfo) -> Self:
        if not to_be_carried_out(info):
            return self
        training, schedule = self.training, self.training.schedule
        if 1 < training.steps <= schedule.warmup(training.steps):
            raise ValueError(
                f"training.schedule.warmup_steps: {schedule.warmup_steps} is not below "
                f"training.steps, {training.steps}; set it to {training.steps // 10}, or to null "
                "for a tenth of the steps"
            )
        self._check_blocks()
        num_patches, feature_dim = self.backbone.num_patches, self.backbone.feature_dim
        if num_patches and feature_dim:
            sizes = (self.model, num_patches, feature_dim)
            if fault := fault_of(*sizes) or too_large(*sizes):
                raise ValueError(fault)
        return self

    def _check_blocks(self) -> None:
        backbone, slots = self.backbone, self.slots
        if slots.reads == "block":
            if backbone.combine != "concatenate":
                raise ValueError("slots.reads: block needs backbone.combine: concatenate")
            if slots.num_heads != len(backbone.blocks):
                raise ValueError(
                    f"slots.reads: block needs a head for each of backbone.blocks; set "
                    f"slots.num_heads to {len(backbone.blocks)}"
                )

    @property
    def model(self) -> ModelConfig:
        """The configuration of the model alone."""
        return ModelConfig(masking=self.masking, slots=self.slots, decoder=self.decoder)
