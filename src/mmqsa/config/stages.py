"""What each stage reads of a config, by the stage's name."""

from mmqsa.config.base import StageConfig
from mmqsa.config.data import (
    DownloadConfig,
    ExtractionConfig,
    PartStageConfig,
    SceneryConfig,
    WeightsConfig,
)
from mmqsa.config.evaluation import (
    BaselineConfig,
    ControlsConfig,
    FusionStageConfig,
    ScoringConfig,
    SimilarityStageConfig,
    SweepStageConfig,
)
from mmqsa.config.training import RunConfig

STAGES: dict[str, type[StageConfig]] = {
    "download": DownloadConfig,
    "part": PartStageConfig,
    "scenes": SceneryConfig,
    "weights": WeightsConfig,
    "features": ExtractionConfig,
    "run": RunConfig,
    "similarity": SimilarityStageConfig,
    "fusion": FusionStageConfig,
    "evaluation": ScoringConfig,
    "sweep": SweepStageConfig,
    "controls": ControlsConfig,
    "baselines": BaselineConfig,
}
