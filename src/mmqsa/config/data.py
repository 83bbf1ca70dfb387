"""Photographs and backbones: what feature caches are made of."""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from mmqsa.config.base import (
    MD5,
    Batch,
    Name,
    OneOrMore,
    Section,
    Seed,
    StageConfig,
    Text,
    to_be_carried_out,
)
from mmqsa.config.choices import PartName
from mmqsa.config.networks import Network, find_network

Sources = Annotated[
    list[Text], Field(min_length=1, description="tried in order: URLs (http, https, file)")
]
Scenes = Annotated[int, Field(ge=1, le=100_000)]  # their names have five digits
# Splits that a data set's layout has, where it has not all of VOC's.
OF_VOC_2007 = (
    *("train", "val", "trainval", "all-but-val"),
    *("detection-train", "detection-val", "detection-trainval"),
)
SPLITS = {
    "scenes": OF_VOC_2007,
    "voc2007": OF_VOC_2007,
    "coco": ("train", "val", "all-but-val"),
    "coco20k": ("train", "all-but-val"),
}
Block = Annotated[int, Field(ge=-1000, lt=1000)]
MIN_GRID, MAX_GRID = 2, 512  # patches a side
# Of pixels from 0 to 1; the least std among timm's networks is 1/255.
Mean = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=3, max_length=3)]
Std = Annotated[list[Annotated[float, Field(ge=1e-3, le=1)]], Field(min_length=3, max_length=3)]


class ScenesConfig(Section):
    """Synthetic scenes, used where there are no photographs."""

    train: Scenes = 320
    """scenes in the train split"""
    val: Scenes = 96
    """scenes in the val split"""
    side: Annotated[int, Field(ge=32, le=2048)] = 240
    """shorter side of a scene, px"""
    seed: Seed = 0


class PartConfig(Section):
    """A file that a split needs besides the archives of its data set."""

    sources: Sources
    md5: MD5


class TrainaugConfig(PartConfig):
    """SBD (Hariharan et al. 2011), whose masks make the split trainaug of VOC 2012."""

    sources: Sources = [
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/"
        "benchmark.tgz",
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/"
        "benchmark.tgz",
    ]
    md5: MD5 = "82b4d87ceb2ed10f6038a1cba92111cb"
    """as torchvision has it"""


class Coco20kConfig(PartConfig):
    """The list of the images of COCO 20k, as LOST and TokenCut publish it."""

    sources: Sources = [
        "https://raw.githubusercontent.com/valeoai/LOST/"
        "fcedbecb644f18358a660ce58c739cc6374feda8/datasets/coco_20k_filenames.txt",
        "https://raw.githubusercontent.com/YangtaoWANG95/TokenCut/"
        "fed52cd5b60891baefd8ec7110dafa73be816ee1/datasets/coco_20k_filenames.txt",
    ]
    md5: MD5 = "133cea5ffcea93dccbaeb62c38b24e7c"
    """of the same file in both repositories"""


class PartsConfig(Section):
    """What some splits need besides the archives; fetched for them alone."""

    trainaug: TrainaugConfig = TrainaugConfig()
    coco20k: Coco20kConfig = Coco20kConfig()


class DatasetConfig(Section):
    """The photographs to train on, and the geometry that crops them to squares."""

    kind: Literal["voc", "voc2007", "coco", "coco20k", "scenes"] = "voc"
    """voc | voc2007 | coco | coco20k | scenes (synthetic)"""
    name: Name = "voc2012"
    """names the caches and metrics"""
    root: Text = "resources/voc2012"
    """where the data set is kept; a folder among the sources is linked, not copied"""
    sources: Annotated[list[Text], Field(min_length=1)] = [
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://dataset.bj.bcebos.com/voc/VOCtrainval_11-May-2012.tar",
    ]
    """tried in order: URLs (http, https, file) of the archive, or a folder with the data set"""
    md5: MD5 = "6cd6e144f989b92b3379bac3b3de84fd"
    """of the archive"""
    archives: dict[Text, MD5] = {}
    """for a data set of several archives: path below a source -> md5; replaces `md5`"""
    parts: PartsConfig = PartsConfig()
    scenes: ScenesConfig = ScenesConfig()
    train_split: Literal["train", "trainval", "trainaug", "all-but-val", "detection-trainval"] = (
        "all-but-val"
    )
    """all-but-val, as in the released code, | trainaug | trainval | train | detection-trainval"""
    eval_split: Literal["train", "val", "trainval"] = "val"
    """1,449 images of VOC 2012"""
    geometry: Literal["crop", "squash", "released"] = "crop"
    """shorter side to image_size, then centre crop, for image and labels alike"""

    def check_split(self, split: str) -> None:
        """Raises ValueError where no data set of this kind has the split."""
        if split not in SPLITS.get(self.kind, (split,)):
            expected = ", ".join(SPLITS[self.kind])
            raise ValueError(f"{split}: a data set of kind {self.kind} has {expected}; name one")

    def parts_of(self, split: str) -> list[PartName]:
        """The parts that a split needs."""
        if self.kind == "coco20k":
            return ["coco20k"]
        return ["trainaug"] if (self.kind, split) == ("voc", "trainaug") else []


class BackboneConfig(Section):
    """The frozen network whose patch features are cached."""

    name: Annotated[str, Field(max_length=100, pattern=r"^\w+(\.\w+)?$")] = (
        "vit_small_patch16_224.dino"
    )
    """any ViT or Eva of timm; config/backbones has files for the usual ones"""
    title: Text | None = None
    """what captions call it, where weights of your own make the name say too little"""
    pretrained: bool = True
    """false: random weights, drawn from `seed`"""
    weights: Text | None = None
    """a local file; null: timm downloads them"""
    image_size: Annotated[int, Field(ge=16, le=4096)] = 320
    """side of the square, px: 20 x 20 patches"""
    feature: Literal["key", "query", "value", "token"] = "key"
    """of the block's attention, class token dropped (paper, section III)"""
    blocks: OneOrMore[Block] = [-1]
    """negative: counted from the last; of several, features are put together"""
    combine: Literal["concatenate", "sum"] = "concatenate"
    """how features of several blocks are put together"""
    position_embedding: Literal["auto", "dino", "timm"] = "auto"
    """resampling; auto: the rule of the weights' family; others move the features by percents"""
    mean: Mean | None = None
    """RGB normalisation of pixels from 0 to 1; null: that of the weights"""
    std: Std | None = None
    """RGB normalisation of pixels from 0 to 1; null: that of the weights"""
    seed: Seed = 0
    """of random weights"""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """fp32 | tf32 | bf16 | fp16; bf16 changes the features by 0.4 %"""
    batch_size: Batch = 8
    """changes speed and memory only; 8 is fastest on a CPU, 128 on a GPU (an H200)"""

    @property
    def network(self) -> Network | None:
        """What is known of the network; None where the name is of another version of timm."""
        return find_network(self.name)

    @property
    def num_patches(self) -> int | None:
        """N: patches of the square."""
        return (self.image_size // self.network.patch) ** 2 if self.network else None

    @property
    def feature_dim(self) -> int | None:
        """D: features of a patch, of all blocks."""
        several = len(self.blocks) if self.combine == "concatenate" else 1
        return several * self.network.dim if self.network else None


def check_backbone(backbone: BackboneConfig) -> None:
    """Raises ValueError that names the key where no such network of timm can be read."""
    try:
        network = backbone.network
    except ValueError as error:
        raise ValueError(f"backbone.name: {error}") from None
    if backbone.weights and not backbone.pretrained:
        raise ValueError("backbone.weights: given, but backbone.pretrained is false; drop one")
    if network is None:
        return
    check_sides(backbone, network.patch, network.depth)
    tag = backbone.name.partition(".")[2] or network.tags[0]
    if backbone.pretrained and not backbone.weights and tag in network.untrained:
        raise ValueError(
            f"backbone.pretrained: timm has no weights of {backbone.name}; set it to false for "
            "random ones, or name a file in backbone.weights"
        )


def check_sides(backbone: BackboneConfig, patch: int, depth: int) -> None:
    """Raises ValueError where a network of this patch and depth cannot give the features."""
    side = backbone.image_size
    if side % patch or not MIN_GRID <= side // patch <= MAX_GRID:
        near = min(max(round(side / patch), MIN_GRID), MAX_GRID, 4096 // patch) * patch
        fault = "no multiple of" if side % patch else f"not {MIN_GRID} to {MAX_GRID} times"
        raise ValueError(
            f"backbone.image_size: {side} is {fault} the patch, {patch} px; use {near}"
        )
    for block in backbone.blocks:
        if not -depth <= block < depth:
            raise ValueError(
                f"backbone.blocks: {block}, but {backbone.name} has {depth} blocks: 0 to "
                f"{depth - 1}, or counted from the last -1 to {-depth}"
            )


class DownloadConfig(StageConfig):
    """What the stage ``download`` reads."""

    dataset: DatasetConfig = DatasetConfig()
    depends_on = {"dataset": {"kind", "sources", "md5", "archives"}}


class PartStageConfig(StageConfig):
    """What the stage ``part``, a download as well, reads."""

    dataset: DatasetConfig = DatasetConfig()
    depends_on = {"dataset": {"kind", "parts"}}


class SceneryConfig(StageConfig):
    """What the stage ``scenes`` reads."""

    dataset: DatasetConfig = DatasetConfig()
    depends_on = {"dataset": {"kind", "scenes"}}


class WeightsConfig(StageConfig):
    """What the stage ``weights`` reads."""

    backbone: BackboneConfig = BackboneConfig()
    depends_on = {"backbone": {"name"}}


class ExtractionConfig(StageConfig):
    """What the stage ``extract`` reads."""

    dataset: DatasetConfig = DatasetConfig()
    backbone: BackboneConfig = BackboneConfig()
    depends_on = {
        "dataset": {"name", "geometry"},
        "backbone": set(BackboneConfig.model_fields) - {"title", "batch_size"},
    }

    @model_validator(mode="after")
    def _has_a_backbone(self, info: ValidationInfo) -> Self:
        if to_be_carried_out(info):
            check_backbone(self.backbone)
        return self
