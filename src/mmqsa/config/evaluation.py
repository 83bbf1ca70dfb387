"""Scoring: matchings, mask sources, baselines."""

from typing import Annotated, get_args

from pydantic import AfterValidator, Field, WithJsonSchema

from mmqsa.config.base import Batch, Distinct, OneOrMore, Rate, Section, StageConfig, Width
from mmqsa.config.choices import ALIKE, MaskSource, MatchingName
from mmqsa.config.files import quoted
from mmqsa.config.model import SlotsConfig
from mmqsa.config.training import FeaturesConfig, Precision

LEARNED: set[MatchingName] = {"learned", "fusion"}  # on a trained run
# Pairs that are not scored, as another has the same masks: of one head, decoder and decoder-masks
# are one; a fusion merges slots, so that its other masks are those of hungarian.
SAME_MASKS: set[tuple[MatchingName, MaskSource]] = {
    ("none", "decoder-masks"),
    ("fusion", "attention"),
    ("fusion", "decoder-masks"),
}

# Every baseline by name -> kind; evaluation/baselines.py has its function.
BASELINES = {
    "kmeans": "method",
    "normalised-cut": "method",
    "lost": "method",
    "tokencut": "method",
    "probe": "supervised",
    "oracle": "supervised",
}


def _known(name: str) -> str:
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {quoted(name)}; expected one of {', '.join(BASELINES)}")
    return name


EvaluationSeed = Annotated[int, Field(ge=0, lt=2**32)]  # scikit-learn takes no larger one
Segments = OneOrMore[Annotated[int, Field(ge=2, le=64)]]
BaselineName = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"enum": list(BASELINES), "type": "string"})
]


class SimilarityConfig(Section):
    """Training of the learned matching, on a run whose weights stay fixed."""

    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    batch_size: Batch = 16
    learning_rate: Rate = 1e-3
    temperature: Annotated[float, Field(ge=1e-3, le=1e3, allow_inf_nan=False)] = 0.1
    """of the cosine similarity, in the soft assignment"""
    sinkhorn_iterations: Annotated[int, Field(ge=1, le=1000)] = 10


class FusionConfig(Section):
    """Training of the learned merge of matched slots, on a run whose weights stay fixed."""

    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    batch_size: Batch = 16
    learning_rate: Rate = 1e-3
    hidden_dim: Width = 512
    """of its MLP"""


class MatchingConfig(Section):
    """How the slots of different heads are matched, and merged."""

    strategies: OneOrMore[MatchingName] = list(get_args(MatchingName))
    """all are scored on the same run; none is the reference head alone; docs/evaluation.md"""
    alike: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = ALIKE
    """cosine of two slots' standardised features above which `joined` makes them one object"""
    similarity: SimilarityConfig = SimilarityConfig()
    fusion: FusionConfig = FusionConfig()


class SweepConfig(Section):
    """Values at evaluation other than those of the training, one at a time."""

    num_slots: Segments = list(range(2, 13))
    iterations: OneOrMore[Annotated[int, Field(ge=1, le=20)]] = list(range(1, 8))
    strategies: OneOrMore[MatchingName] = ["hungarian", "joined"]
    """of matching, under each of the values"""


class EvaluationConfig(Section):
    """What is scored."""

    mask_sources: OneOrMore[MaskSource] = list(get_args(MaskSource))
    """masks of the decoder (the paper) | last attention | each head decoded, masks merged"""
    seeds: OneOrMore[EvaluationSeed] = [0, 1, 2]
    """of slot noise and reference head"""
    precision: Precision = "fp32"
    """of heads and decoder | auto | tf32 | bf16; metrics are always computed in full"""
    single_boxes: bool = False
    """score one box an image in other ways too (val:single); metrics then take 4 times as long"""
    baselines: Distinct[BaselineName] = list(BASELINES)
    """other methods on the same features"""
    kmeans_clusters: Segments = [2, 3, 4, 5, 6, 7]
    cut_segments: Segments = [2, 7]
    """of the normalised cut"""
    sweep: SweepConfig = SweepConfig()
    batch_size: Batch = 32


class SimilarityStageConfig(StageConfig):
    """What the stage ``similarity`` reads."""

    matching: MatchingConfig = MatchingConfig()
    depends_on = {"matching": {"similarity"}}


class FusionStageConfig(StageConfig):
    """What the stage ``fusion`` reads."""

    matching: MatchingConfig = MatchingConfig()
    depends_on = {"matching": {"fusion"}}


class ScoringConfig(StageConfig):
    """What the stage ``evaluate`` reads."""

    matching: MatchingConfig = MatchingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    depends_on = {
        "evaluation": {"mask_sources", "seeds", "precision", "single_boxes", "batch_size"},
        "matching": {"strategies", "alike"},
    }


class SweepStageConfig(ScoringConfig):
    """What the stage ``sweep`` reads."""

    depends_on = {
        "evaluation": {"mask_sources", "seeds", "precision", "batch_size", "sweep"},
        "matching": {"alike"},
    }


class ControlsConfig(StageConfig):
    """What the stage ``controls`` reads."""

    slots: SlotsConfig = SlotsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    depends_on = {"slots": {"num_slots"}, "evaluation": {"seeds"}}


class BaselineConfig(StageConfig):
    """What the stage ``baseline`` reads."""

    features: FeaturesConfig = FeaturesConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    depends_on = {
        "features": True,
        "evaluation": {"seeds", "kmeans_clusters", "cut_segments", "baselines"},
    }
