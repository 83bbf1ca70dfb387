"""What is timed: the project's way beside the plain one, on the same random inputs.

A case is a name, what it counts, the plain function and the project's; both are called with nothing
and leave nothing behind. Sizes are the paper's: 400 patches of 384 numbers, 7 slots, 8 heads.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

import reference
from mmqsa.config.workflow import Config
from mmqsa.data.geometry import Geometry
from mmqsa.data.scenes import write_scenes
from mmqsa.data.voc import VocFolder
from mmqsa.device import computing_in
from mmqsa.evaluation.evaluate import evaluate
from mmqsa.evaluation.metrics import GroundTruth, image_metrics
from mmqsa.evaluation.scoring import label_maps
from mmqsa.features import resident
from mmqsa.features.backbone import FrozenViT, load_backbone
from mmqsa.features.cache import FeatureCache
from mmqsa.features.cache_writer import CacheWriter
from mmqsa.features.extract import extract, normalise
from mmqsa.features.resident import ResidentFeatures
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.model.matching import align, merge
from mmqsa.training.run import Run
from mmqsa.training.step import make_step

PATCHES, FEATURE_DIM, SIDE = 400, 384, 320
HEAD = 3  # the drawn one
TRANSFORMER = {"kind": "transformer", "hidden_dim": 384, "layers": 4}  # as DINOSAUR's, 6 heads


@dataclass
class Case:
    """One row of the table. ``plain`` is None where only the project's own time is of interest."""

    name: str
    images: int
    plain: Callable[[], object] | None
    ours: Callable[[], object]
    floor: float | None = None
    """Ratio to reach."""
    plain_images: int | None = None
    """Of one plain call, where it does less at a time."""


class Inputs:
    """A model of the paper's sizes, a copy of it for the plain reading, and random features."""

    def __init__(
        self,
        device: torch.device,
        batch: int,
        decoded: int | None = None,
        transformer: bool = False,
        **training: object,
    ):
        self.device, self.batch = device, batch
        decoder = TRANSFORMER if transformer else {"patches_per_step": decoded}
        self.config = Config.model_validate({"decoder": decoder, "training": training})
        torch.manual_seed(0)
        self.model = MaskedSlotModel(self.config.model, PATCHES, FEATURE_DIM).to(device)
        self.plain = reference.PlainModel(copy.deepcopy(self.model)).to(device)
        self.features = torch.randn(batch, PATCHES, FEATURE_DIM, device=device).half()
        self.generator = torch.Generator(device).manual_seed(0)
        slots = self.config.slots
        self.noise = torch.randn(
            slots.num_heads, batch, slots.num_slots, slots.slot_dim, device=device
        )
        self.reference = torch.randint(slots.num_heads, (batch,), device=device)

    def step(self, precision: str) -> Callable[[], Tensor]:
        """The project's optimiser step on these features."""
        training = self.config.training
        step = make_step(self.model, training, precision, self.device)

        def run() -> Tensor:
            draws = self.model.draw(self.batch, self.generator)
            return step(self.features, [HEAD], draws, training.learning_rate)

        return run

    def plain_step(self, vit: FrozenViT | None = None) -> Callable[[], Tensor]:
        """The plain step; with a ViT in it and its images, as released, nothing detached."""
        parameters = list(self.plain.parameters())
        if vit is not None:
            images = torch.randn(self.batch, 3, SIDE, SIDE, device=self.device)
            network = vit.network.to(self.device).requires_grad_(True)
            parameters += network.parameters()
        optimiser = torch.optim.Adam(parameters, lr=4e-4)
        decoded = self.config.decoder.patches_per_step

        def run() -> Tensor:
            features = self.features
            if vit is not None:
                features = reference.plain_keys(network, images, FEATURE_DIM)
            patches = None
            if decoded:
                order = torch.randperm(PATCHES, generator=self.generator, device=self.device)
                patches = order[:decoded]
            loss = self.plain.loss(features, HEAD, self.noise, patches=patches)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            return loss.detach()

        return run


def steps(
    device: torch.device,
    precisions: list[str],
    batches: list[int],
    with_vit: bool = False,
    decoded: int | None = None,
    transformer: bool = False,
) -> Iterator[Case]:
    """The optimiser step and the plain one: on cached features, or with the ViT trained in it.

    Both decode ``decoded`` patches, by default all; or all with DINOSAUR's transformer.
    """
    against = " against one with the ViT in it" if with_vit else ""
    against += f", {decoded} patches decoded" if decoded else ""
    against += ", transformer decoder" if transformer else ""
    for batch in batches:
        for precision in precisions:
            inputs = Inputs(device, batch, decoded, transformer)
            yield Case(
                f"optimiser step{against}, batch {batch}, {precision}",
                batch,
                inputs.plain_step(random_vit() if with_vit else None),
                inputs.step(precision),
                7.0 if with_vit else 3.0 if batch <= 16 and not transformer else None,
            )


def random_vit() -> FrozenViT:
    """DINO's ViT-S/16 with random weights."""
    return load_backbone(Config.model_validate(RANDOM_VIT).backbone)


RANDOM_VIT = {
    "backbone": {"name": "vit_small_patch16_224.dino", "pretrained": False},
    "dataset": {"kind": "scenes", "name": "scenes", "train_split": "train"},
}


def slots_alone(device: torch.device, batch: int = 64) -> Iterator[Case]:
    """Masking, encoder and slot attention, forward and backward."""
    inputs = Inputs(device, batch)
    model, plain, masking = inputs.model, inputs.plain, inputs.config.masking

    def ours() -> None:
        model.zero_grad(set_to_none=True)
        features = inputs.features.float()
        standardised = model.standardised(features)
        visible = model.visible_patches(features, standardised)
        encoded, num_hidden = model.encode(standardised, visible)
        noise = inputs.noise[HEAD : HEAD + 1]
        slots, _ = model.slot_attention(encoded, noise, [HEAD], copies=num_hidden)
        slots.sum().backward()

    def plainly() -> None:
        plain.zero_grad(set_to_none=True)
        features, _ = plain.masked(inputs.features, masking.ratio)
        plain.heads(features, inputs.noise)[0][HEAD].sum().backward()

    name = f"masking + encoder + slot attention, forward and backward, batch {batch}"
    yield Case(name, batch, plainly, ours, 6.5)


def inference(device: torch.device, precisions: list[str], batch: int = 64) -> Iterator[Case]:
    """All heads, their Hungarian merge, and the decoder's masks; the merge alone."""
    inputs = Inputs(device, batch)
    model, plain = inputs.model, inputs.plain

    @torch.inference_mode()
    def merged(precision: str) -> Tensor:
        with computing_in(precision, device):
            slots = model.run_heads(inputs.features, model.noise(batch, inputs.generator)).slots
            return merge(slots, align(slots, inputs.reference, "hungarian"))

    @torch.inference_mode()
    def masks(precision: str) -> Tensor:
        noise = model.noise(batch, inputs.generator)
        with computing_in(precision, device):
            found = model.segment(
                inputs.features, noise, "hungarian", ["decoder"], inputs.reference
            )
        return found["decoder"]

    def plain_merged() -> Tensor:
        return plain.merged(inputs.features, inputs.noise, inputs.reference)

    @torch.inference_mode()
    def plain_masks() -> Tensor:
        return plain.decode(plain_merged())[1]

    heads = len(inputs.noise)
    for name, plainly, ours, floor in (
        ("inference + merge", plain_merged, merged, 1.9),
        ("inference + merge + masks", plain_masks, masks, 2.2),
    ):
        for precision in precisions:
            title = f"{name}, {heads} heads, batch {batch}, {precision}"
            yield Case(title, batch, plainly, partial(ours, precision), floor)

    slots = inputs.noise.transpose(0, 1)
    yield Case(
        f"merge alone, {heads} heads, batch {batch}",
        batch,
        lambda: reference.plain_merge(slots, inputs.reference),
        lambda: merge(slots, align(slots, inputs.reference, "hungarian")),
    )


def scoring(device: torch.device, images: int = 32, predictions: int = 8) -> Iterator[Case]:
    """Masks to label maps to all metrics, as many predictions per image as an evaluation has."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(images * predictions, 7, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(20, 20), mode="bicubic")
    masks = (3 * smooth).flatten(2).softmax(dim=1).unflatten(0, (predictions, images)).to(device)
    truths = [_objects(np.random.default_rng(seed)) for seed in range(images)]

    def ours() -> None:
        prepared = [GroundTruth(*truth, ["paper", "dinosaur"]) for truth in truths]
        for own in masks:
            for found, truth in zip(label_maps(own, SIDE), prepared, strict=True):
                image_metrics(found, truth)

    def plainly() -> None:
        for own in masks:
            maps = reference.plain_label_maps(own, SIDE)
            for found, truth in zip(maps, truths, strict=True):
                reference.plain_metrics(found, *truth)

    name = f"masks -> label maps -> all metrics, {images} images, {predictions} predictions each"
    yield Case(name, images * predictions, plainly, ours, 28.0)


def _objects(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Class and instance label maps (S, S) of one to four ellipses with a void rim."""
    classes = np.zeros((SIDE, SIDE), np.uint8)
    instances = classes.copy()
    y, x = np.mgrid[:SIDE, :SIDE]
    for instance in range(1, random.integers(2, 6)):
        centre, radius = random.uniform(60, 260, 2), random.uniform(25, 90, 2)
        distance = ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2
        rim, inside = (distance > 1) & (distance < 1.1), distance <= 1
        classes[rim] = instances[rim] = 255
        classes[inside], instances[inside] = random.integers(1, 21), instance
    return classes, instances


def extraction(
    device: torch.device, precisions: list[str], folder: Path, images: int = 32
) -> Iterator[Case]:
    """Photographs to a cache: the whole stage, with random weights."""
    config = Config.model_validate(RANDOM_VIT)
    scenes = config.dataset.scenes.model_copy(update={"train": images, "val": 1, "side": 375})
    write_scenes(scenes, folder / "scenes")
    voc = VocFolder.find(folder / "scenes")
    backbone = load_backbone(config.backbone)
    backbone.network.to(device)
    geometry = Geometry("crop", SIDE)

    @torch.no_grad()
    def plainly() -> None:
        random_vit()  # as the stage does: it is loaded before it is used
        features = []
        for start in range(0, images, 8):
            ids = voc.ids("train")[start : start + 8]
            batch = [geometry.image(voc.image(image_id)) for image_id in ids]
            normalised = normalise(batch, backbone, device)
            features.append(reference.plain_keys(backbone.network, normalised, FEATURE_DIM).cpu())
        reference.write_chunked(folder / "plain.h5", torch.cat(features).half().numpy())

    for precision in precisions:
        changed = config.backbone.model_copy(update={"precision": precision})
        own = config.model_copy(update={"backbone": changed})

        def ours(own: Config = own) -> None:
            (folder / "ours.h5").unlink(missing_ok=True)
            extract(voc, "train", own, folder / "ours.h5", device)

        yield Case(f"extraction of {images} images, {precision}", images, plainly, ours)


def reading(device: torch.device, folder: Path, images: int = 1024) -> Iterator[Case]:
    """Random batches of 64 from a warm cache."""
    path = write_cache(folder / "cache.h5", images)
    reference.write_chunked(folder / "chunked.h5", FeatureCache(path).features[:])
    chunked = h5py.File(folder / "chunked.h5")["features"]
    draws = torch.Generator().manual_seed(0)

    def indices() -> Tensor:
        return torch.randperm(images, generator=draws)[:64]

    def plainly() -> None:
        torch.from_numpy(chunked[np.sort(indices().numpy())]).to(device)

    for where, share in (("memory", resident.SHARE), ("file", 0.0)):
        resident.SHARE, before = share, resident.SHARE
        features = ResidentFeatures(FeatureCache(path), device)
        resident.SHARE = before

        def ours(features: ResidentFeatures = features) -> None:
            for _ in range(16):
                features.take(indices().to(features.index_device))
            if device.type == "cuda":
                torch.cuda.synchronize()

        name = {"memory": "resident in memory", "file": "memory-mapped"}[where]
        yield Case(f"random batches of 64, {name}", 16 * 64, plainly, ours, plain_images=64)


def evaluation(device: torch.device, folder: Path, images: int) -> Iterator[Case]:
    """A run of 8 heads on a cache: the whole stage."""
    cache = FeatureCache(write_cache(folder / "labelled.h5", images, labelled=True))
    four, both = ["hungarian", "greedy", "mask", "none"], ["decoder", "attention"]
    for name, matchings, sources in (
        ("Hungarian, decoder masks", four[:1], both[:1]),
        ("4 matchings x 2 mask sources", four, both),
    ):
        matching, evaluation = {"strategies": matchings}, {"mask_sources": sources, "seeds": [0]}
        config = Config.model_validate({"matching": matching, "evaluation": evaluation})
        model = MaskedSlotModel(config.model, PATCHES, FEATURE_DIM)
        run = Run(model.eval(), config, {"cache": cache.attributes})

        def ours(run: Run = run, config: Config = config) -> None:
            evaluate(run, cache, config, Path(tempfile.mkdtemp(dir=folder)), device)

        yield Case(f"evaluation of {images} images, 8 heads, {name}", images, None, ours)


def write_cache(path: Path, images: int, labelled: bool = False) -> Path:
    """A cache of random features of the paper's sizes."""
    attributes = {"dataset": "random", "split": "train", "grid": 20, "image_size": SIDE}
    attributes |= {"backbone": "random", "feature": "key", "blocks": [11], "combine": "concatenate"}
    attributes |= {"position_rule": "dino", "precision": "fp32", "geometry": "crop"}
    attributes |= {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    attributes |= dict.fromkeys(("ids_sha256", "weights_sha256"), "0" * 64)
    attributes |= {"num_classes": 20, "corruption": None}
    ids = [f"{index:06}" for index in range(images)]
    writer = CacheWriter(path, ids, attributes, {}, (PATCHES, FEATURE_DIM))
    random = np.random.default_rng(0)
    for start in range(0, images, 128):
        indices = np.arange(start, min(start + 128, images))
        features = random.standard_normal((len(indices), PATCHES, FEATURE_DIM), dtype=np.float32)
        labels = {}
        if labelled:
            maps = zip(*(_objects(random) for _ in indices), strict=True)
            labels = dict(zip(("classes", "instances"), maps, strict=True))
        writer.write(indices, features.astype(np.float16), labels, [None] * len(indices))
    writer.finish()
    return path


def all_cases(device: torch.device, precisions: list[str], quick: bool) -> Iterator[Case]:
    """Every case in the table's order."""
    yield from steps(device, precisions, [4] if quick else [4, 16])
    if not quick:
        yield from steps(device, precisions[-1:] if device.type == "cuda" else precisions[:1], [64])
    yield from steps(device, precisions[:1], [4 if quick else 16], decoded=64)
    yield from steps(device, precisions, [2 if quick else 16], transformer=True)
    yield from steps(device, precisions, [4] if quick else [4, 8], with_vit=True)
    yield from slots_alone(device, 8 if quick else 64)
    yield from inference(device, precisions, 8 if quick else 64)
    yield from scoring(device, 4 if quick else 32)
    with tempfile.TemporaryDirectory() as folder:
        yield from extraction(device, precisions, Path(folder), 8 if quick else 32)
        yield from reading(device, Path(folder), 128 if quick else 1024)
        images = 4 if quick else 1449 if device.type == "cuda" else 32
        yield from evaluation(device, Path(folder), images)


def ceiling(device: torch.device, precision: str, quick: bool = False) -> Case:
    """A large matrix product: what the machine reaches. Its "images" are FLOP, 2 n^3."""
    size = 512 if quick else 8192 if device.type == "cuda" else 2048
    dtype = {"bf16": torch.bfloat16}.get(precision, torch.float32)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def product() -> Tensor:
        with computing_in("tf32" if precision == "tf32" else "fp32", device):
            return left @ right

    return Case(f"matrix product, {precision}", 2 * size**3, None, product)
