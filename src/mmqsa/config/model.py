"""Masking, slot attention and decoder."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

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
    reads: Literal["all", "block"] = "all"
    """what a head reads: all features | block: those of one of backbone.blocks each (MUFASA)"""
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
    """What reconstructs the features from the slots."""

    kind: Literal["mlp", "transformer"] = "mlp"
    """mlp: spatial broadcast (the paper) | transformer: autoregressive (DINOSAUR, SPOT)"""
    hidden_dim: Width = 1024
    layers: Annotated[int, Field(ge=1, le=12)] = 3
    """hidden layers, or blocks of the transformer (4 in DINOSAUR and SPOT)"""
    heads: Annotated[int, Field(ge=1, le=64)] = 6
    """of the transformer's attention; must divide hidden_dim"""
    orders: Annotated[int, Field(ge=1, le=9)] = 1
    """in which the transformer predicts patches, one drawn per step; 1: by rows | 9: as in SPOT"""
    patches_per_step: Annotated[int, Field(ge=1, le=10**6)] | None = None
    """null: all; a number decodes a random subset in training (an unbiased estimate; MLP only)"""

    @model_validator(mode="after")
    def _a_transformer_sees_all_patches(self) -> Self:
        if self.kind == "transformer" and self.patches_per_step is not None:
            raise ValueError("patches_per_step: a transformer predicts all patches; set it to null")
        if self.kind == "transformer" and self.hidden_dim % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide hidden_dim ({self.hidden_dim})")
        return self


class ModelConfig(Section):
    """The whole model."""

    masking: MaskingConfig = MaskingConfig()
    slots: SlotsConfig = SlotsConfig()
    decoder: DecoderConfig = DecoderConfig()


PAPERS_SCORE = "mean"  # of masking.score


def score_name(score: str) -> str:
    """What a masking score is called in tables."""
    return score.replace("-", " ")
