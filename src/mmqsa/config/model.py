"""Masking, slot attention and decoder."""

from typing import Annotated, Literal

from pydantic import Field

from mmqsa.config.base import Fraction, Section, Width

Initialisation = Literal["learned", "fixed", "queries"]
MaskingScore = Literal["mean", "standardised-mean", "principal-component"]
MaskingStrategy = Literal["none", "random", "background", "foreground"]


class MaskingConfig(Section):
    """The patches that are hidden from the slots in training."""

    strategy: MaskingStrategy = "background"
    """background: hide the patches of highest score (the paper) | foreground | random | none"""
    ratio: Fraction = 0.7
    """share of an image's patches that is hidden; the paper's, chosen empirically"""
    score: MaskingScore = "mean"
    """high for background; mean of the features (the paper) | principal-component: needs no sign"""


class SlotsConfig(Section):
    """Slot attention and the encoder in front of it."""

    num_slots: Annotated[int, Field(ge=2, le=64)] = 7
    num_heads: Annotated[int, Field(ge=1, le=64)] = 8
    """query heads"""
    iterations: Annotated[int, Field(ge=1, le=20)] = 3
    slot_dim: Width = 384
    mlp_dim: Width = 512
    """hidden layer of the slots' MLP"""
    encoder_dim: Width = 512
    """hidden layer of the encoder MLP"""
    initialisation: Initialisation = "learned"
    """learned: a Gaussian per head | fixed: the released code's | queries: K vectors (BO-QSA)"""
    gru_state: Literal["slots", "normed"] = "slots"
    """previous state of the GRU; normed: layer-normed slots, a slip of the released code"""
    start: Literal["random", "clustering"] = "random"
    """weights before training; clustering: each head starts as soft k-means, for short runs"""


class DecoderConfig(Section):
    """Spatial-broadcast MLP decoder."""

    hidden_dim: Width = 1024
    layers: Annotated[int, Field(ge=1, le=8)] = 3
    """hidden layers"""
    patches_per_step: Annotated[int, Field(ge=1, le=10**6)] | None = None
    """null: all; a number decodes a random subset in training (an unbiased estimate)"""


class ModelConfig(Section):
    """The whole model."""

    masking: MaskingConfig = MaskingConfig()
    slots: SlotsConfig = SlotsConfig()
    decoder: DecoderConfig = DecoderConfig()
