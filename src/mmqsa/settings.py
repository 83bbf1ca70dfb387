"""Typed settings with bounds: the one description of every knob.

`Settings` is what a stage reads from a resolved settings file; a section that the file leaves out
has the paper's values. config.py puts the ablation grid on top.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmqsa.errors import InputError

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*$")]
MatchingName = Literal["hungarian", "greedy", "learned", "mask", "unaligned", "none"]
BaselineName = Literal["kmeans", "normalised-cut", "lost", "tokencut", "probe", "oracle"]
MaskSource = Literal["decoder", "attention", "decoder-masks"]
Precision = Literal["auto", "fp32", "tf32", "bf16"]


class Section(BaseModel):
    """A section of the settings: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Scenes(Section):
    """The synthetic scenes that stand in for photographs where there are none."""

    train: Count = 320
    """Scenes of the train split."""
    val: Count = 96
    """Scenes of the val split."""
    side: Annotated[int, Field(ge=32)] = 240
    """Shorter side of a scene, px."""
    seed: Seed = 0


class Dataset(Section):
    """Which photographs, from where, and the geometry that makes squares of them."""

    kind: Literal["voc", "coco", "scenes"] = "voc"
    name: Name = "voc2012"
    """Names the caches and metrics."""
    root: str = "resources/voc2012"
    """Where the data set is kept; a folder among the sources is linked from here."""
    sources: Annotated[list[str], Field(min_length=1)] = [
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://dataset.bj.bcebos.com/voc/VOCtrainval_11-May-2012.tar",
    ]
    """Tried in order: http(s) or file URLs of the archive, or a folder that holds the data set."""
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] = "6cd6e144f989b92b3379bac3b3de84fd"
    """Of the archive."""
    archives: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]] = {}
    """Of a data set that comes in several: path below a source -> md5. Then `md5` is not used."""
    scenes: Scenes = Scenes()
    train_split: Literal["train", "trainval", "trainaug", "all-but-val"] = "all-but-val"
    eval_split: Literal["train", "val", "trainval"] = "val"
    geometry: Literal["crop", "squash", "released"] = "crop"
    """How a photograph becomes a square."""


class Backbone(Section):
    """The frozen network whose patch features are cached."""

    name: str = "vit_small_patch16_224.dino"
    """Any timm VisionTransformer."""
    pretrained: bool = True
    """False: random weights, drawn from `seed`."""
    weights: str | None = None
    """A local file of weights; null asks timm's hub."""
    image_size: Annotated[int, Field(ge=16)] = 320
    """Side of the square, px: a multiple of the patch."""
    feature: Literal["key", "query", "value", "token"] = "key"
    block: int = -1
    """Whose feature; counted from the end when negative."""
    position_embedding: Literal["auto", "dino", "timm"] = "auto"
    """Rule that resamples it to another grid; auto: DINO's own for DINO weights."""
    mean: Annotated[list[float], Field(min_length=3, max_length=3)] | None = None
    """RGB normalisation; null: the weights' own."""
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)] | None = None
    seed: Seed = 0
    """Of the random weights."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Of the arithmetic; keys are stored as float16. bf16 moves them by about 0.4 %."""
    batch_size: Count = 8
    """Images per pass; changes speed and memory alone."""


class Keys(Section):
    """What is done to cached keys before anything sees them."""

    standardise: Literal["none", "feature", "position"] = "feature"
    """Over the training set: per feature, or subtracting each position's mean as well."""


class Masking(Section):
    """Which patches are hidden from the slots in training."""

    strategy: Literal["none", "random", "background", "foreground"] = "background"
    ratio: Fraction = 0.7
    """Hidden share of an image's patches."""
    score: Literal["raw", "standardised"] = "raw"
    """Which keys' mean over features ranks the patches."""


class Slots(Section):
    """Slot attention and the encoder in front of it."""

    number: Annotated[int, Field(ge=2, le=64)] = 7
    heads: Annotated[int, Field(ge=1, le=64)] = 8
    iterations: Annotated[int, Field(ge=1, le=20)] = 3
    width: Count = 384
    mlp_width: Count = 512
    encoder_width: Count = 512
    initialisation: Literal["learned", "fixed"] = "learned"
    """Of the slots' mean and deviation, per head; fixed: buffers, as in the released code."""
    gru_state: Literal["slots", "normed"] = "slots"
    """The GRU's previous state; normed: the slots' layer norm, the released code's slip."""
    start: Literal["random", "clustering"] = "random"
    """Weights before training; clustering: those that make an untrained head soft k-means."""


class Decoder(Section):
    """Spatial-broadcast MLP."""

    width: Count = 1024
    layers: Annotated[int, Field(ge=1, le=8)] = 3
    """Hidden layers."""
    patches_per_step: Count | None = None
    """Decode a random subset in training (an unbiased estimate, not exact); null: all."""


class Schedule(Section):
    """Learning rate over optimiser steps."""

    kind: Literal["exponential", "cosine", "constant", "released"] = "exponential"
    """released: exponential from step 0, so that it decays during its warm-up as well."""
    warmup_steps: Annotated[int, Field(ge=0)] = 10_000
    half_life_steps: Count = 50_000
    """Of the exponential schedules."""


class Training(Section):
    """The optimiser's budget and pace."""

    steps: Count = 122_500
    batch_size: Count = 64
    learning_rate: Positive = 4e-4
    """Peak, of Adam."""
    schedule: Schedule = Schedule()
    gradient_clip: Positive | None = 1.0
    """Largest gradient norm; null: no clipping."""
    heads_per_step: Literal["drawn", "all"] = "drawn"
    """One head drawn at random, or all of them, whose losses are averaged (not the paper's)."""
    precision: Precision = "auto"
    """auto: bf16 where the hardware is faster at it, else fp32."""
    compile: bool = False
    """torch.compile the decoder: other rounding, a minute of compiling."""
    cuda_graphs: bool = False
    """Replay a step as one graph per head: for small batches on a GPU."""
    log_every: Count = 500
    """Steps."""
    checkpoint_seconds: Positive = 300.0
    """Time between resume checkpoints."""

    @model_validator(mode="after")
    def _graphs_are_of_one_head(self) -> "Training":
        if self.cuda_graphs and self.heads_per_step == "all":
            raise ValueError("cuda_graphs: there is a graph per drawn head; set it to false")
        return self


class Similarity(Section):
    """The learned matching: trained on a run that stays as it is."""

    steps: Count = 500
    batch_size: Count = 16
    learning_rate: Positive = 1e-3
    temperature: Positive = 0.1
    """Of the cosine, in the soft assignment."""
    sinkhorn_iterations: Count = 10


class Matching(Section):
    """How slots of different heads are matched before they are averaged."""

    strategies: Annotated[list[MatchingName], Field(min_length=1)] = list(get_args(MatchingName))
    """All are scored on the same run; `none` is the reference head alone."""
    similarity: Similarity = Similarity()


class Sweep(Section):
    """Numbers that a trained run is scored with besides its own, one of them at a time."""

    slots: list[Annotated[int, Field(ge=2, le=64)]] = list(range(2, 13))
    iterations: list[Annotated[int, Field(ge=1, le=20)]] = list(range(1, 8))


class Evaluation(Section):
    """What is scored."""

    mask_sources: Annotated[list[MaskSource], Field(min_length=1)] = list(get_args(MaskSource))
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    """Of slot noise and reference head."""
    precision: Precision = "fp32"
    """Of heads and decoder; matching, softmax over slots and metrics are fp32 at least."""
    baselines: list[BaselineName] = list(get_args(BaselineName))
    """Other methods on the same keys."""
    kmeans_clusters: list[Annotated[int, Field(ge=2, le=64)]] = [2, 3, 4, 5, 6, 7]
    cut_segments: list[Annotated[int, Field(ge=2, le=64)]] = [2, 7]
    """Of the normalised cut."""
    sweep: Sweep = Sweep()
    batch_size: Count = 32


class Settings(Section):
    """The resolved settings of one run, or the part of them that a stage needs."""

    dataset: Dataset = Dataset()
    backbone: Backbone = Backbone()
    keys: Keys = Keys()
    masking: Masking = Masking()
    slots: Slots = Slots()
    decoder: Decoder = Decoder()
    training: Training = Training()
    matching: Matching = Matching()
    evaluation: Evaluation = Evaluation()

    @classmethod
    def load(cls, path: str | Path) -> "Settings":
        """Read a settings file. Raises InputError that names the file and the key."""
        return validated(cls, read_yaml(path), path)

    def sections(self, *names: str) -> dict[str, Any]:
        """The named sections as plain data, for a settings file; all of them without names."""
        return self.model_dump(mode="json", include=set(names or Settings.model_fields))

    def for_stage(self, stage: str) -> dict[str, Any]:
        """What one of STAGES depends on, as plain data, for its settings file."""
        return self.model_dump(mode="json", include=STAGES[stage])

    def fingerprint(self, *names: str) -> str:
        """sha256 of the named sections: equal settings, equal fingerprint."""
        text = json.dumps(self.sections(*names), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


# What a stage's outcome depends on: a change elsewhere re-runs nothing of it.
_BACKBONE = set(Backbone.model_fields) - {"batch_size"}
RUN_SECTIONS = ("keys", "masking", "slots", "decoder", "training")
STAGES: dict[str, dict[str, Any]] = {
    "download": {"dataset": {"kind", "sources", "md5", "archives"}},
    "scenes": {"dataset": {"kind", "scenes"}},
    "features": {"dataset": {"name", "geometry"}, "backbone": _BACKBONE},
    "run": {
        "dataset": {"name", "geometry", "train_split"},
        "backbone": _BACKBONE,
        **dict.fromkeys(RUN_SECTIONS, True),
    },
    "controls": {"slots": {"number"}, "evaluation": {"seeds"}},
    "baselines": {
        "keys": True,
        "evaluation": {"seeds", "kmeans_clusters", "cut_segments", "baselines"},
    },
    "similarity": {"matching": {"similarity"}},
    "evaluation": {
        "evaluation": {"mask_sources", "seeds", "precision", "batch_size"},
        "matching": {"strategies"},
    },
    "sweep": {"evaluation": {"mask_sources", "seeds", "precision", "batch_size", "sweep"}},
}


def expand(path: str, key: str) -> str:
    """``path`` with ``~`` and environment variables filled in.

    Raises InputError that names ``key`` when a variable is not set.
    """
    expanded = os.path.expandvars(os.path.expanduser(path))
    if "$" in expanded:
        raise InputError(f"{key}: {path!r} names an environment variable that is not set; set it")
    return expanded


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file's mapping. Raises InputError on a missing or malformed file."""
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputError(f"{path}: a settings file is a mapping of sections")
    return data


def dump_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML, keys in the order of the settings."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` over it, mapping by mapping."""
    result = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if nested else value
    return result


def first_fault(error: ValidationError) -> str:
    """The first of a validation's faults as ``key: what is wrong with it``."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{where}: no such key; remove it or mend its spelling"
    if fault["type"] == "value_error":
        return f"{where + ': ' if where else ''}{fault['ctx']['error']}"
    return f"{where}: {fault['msg']}, not {fault['input']!r}"


def validated(model: type[BaseModel], data: dict[str, Any], origin: str | Path) -> Any:
    """``data`` as a ``model``. Raises InputError that names ``origin`` and the faulty key."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{origin}: {first_fault(error)}") from None
