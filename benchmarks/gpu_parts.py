"""The parts of benchmarks/gpu.py: each yields the rows of one table.

What a row cannot measure, or has no time for, is said in the row.
"""

import itertools
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch

import cases
import run
from mmqsa.atomic import write_text
from mmqsa.cli.entry import application
from mmqsa.config.base import merged
from mmqsa.config.data import ScenesConfig
from mmqsa.config.files import dump_yaml, read_yaml
from mmqsa.config.workflow import Config
from mmqsa.data.scenes import write_scenes
from mmqsa.data.voc import VocFolder
from mmqsa.device import choose_precision
from mmqsa.evaluation.evaluate import evaluate
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract
from mmqsa.training.learned_merging import train_merging
from mmqsa.training.loop import train
from mmqsa.training.run import Run
from mmqsa.workload import IMAGES, training

ROOT = Path(__file__).parents[1]
TRAINVAL, VAL = IMAGES["voc"]["trainval"], IMAGES["voc"]["val"]
VOC = IMAGES["voc"]["all-but-val"] + VAL  # what the paper extracts
NO_TIME = "left out: no time"
SMALL = {
    "slots": {
        **{"num_slots": 3, "num_heads": 2, "slot_dim": 16, "mlp_dim": 16, "encoder_dim": 16},
        "start": "random",
    },
    "decoder": {"hidden_dim": 16},
}


@dataclass
class Part:
    """What a part is given."""

    device: torch.device
    seconds: float
    """until which it begins new rows"""
    quick: bool
    out: Path
    """the folder of the tables"""
    scratch: Path

    def __post_init__(self) -> None:
        self._begun = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() - self._begun > self.seconds

    def row(self, named: dict, measure: Callable[[], dict]) -> dict:
        """``named`` with what ``measure`` gives, or why there is nothing."""
        if self.over:
            return named | {"note": NO_TIME}
        try:
            return named | measure()
        except Exception as error:
            return named | {"note": reason(error)}

    def seconds_of(self, work: Callable[[], object]) -> float:
        """How long ``work`` takes, with all that it leaves to the GPU."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        begun = time.perf_counter()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    def gpu_memory(self) -> dict:
        """GB that tensors took at most on the GPU since the last ``seconds_of``."""
        on_gpu = self.device.type == "cuda"
        return {"GPU memory, GB": torch.cuda.max_memory_allocated() / 1e9} if on_gpu else {}


def reason(error: BaseException) -> str:
    """An error in one line."""
    return f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def tests(part: Part) -> Iterator[dict]:
    """`pytest -m gpu`: a row per test."""
    report = part.scratch / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", f"--junitxml={report}"]
    done = subprocess.run([*command, "tests/test_gpu.py"], cwd=ROOT, capture_output=True, text=True)
    print(done.stdout[-6000:])
    for case in ElementTree.parse(report).iter("testcase"):
        words = {"failure": "failed", "error": "failed", "skipped": "skipped"}
        bad = next((child for child in case if child.tag in words), None)
        row = {"test": case.get("name"), "outcome": "passed" if bad is None else words[bad.tag]}
        why = "" if bad is None else " ".join((bad.get("message") or "").split())[:200]
        yield row | {"seconds": float(case.get("time") or 0), "note": why}


def rates(part: Part) -> Iterator[dict]:
    """Optimiser steps of every kind, in the order of what one wants to know."""
    best = choose_precision("auto", part.device)
    steps = [(2, best, "eager")]
    if not part.quick:
        steps = [(16, best, "eager")]
    if part.device.type == "cuda":
        kinds = list(run.KINDS)
        steps = [(64, best, kind) for kind in kinds]
        steps += [(4, best, kind) for kind in kinds] + [(16, best, kind) for kind in kinds]
        steps += [(128, best, "eager"), (256, best, "eager")]
        steps += [(64, "tf32", "eager"), (64, "fp32", "eager")]
    each = 0 if part.quick else min(3, part.seconds / 40)
    ceilings: dict[str, float] = {}
    for step in steps:
        name = {"step": run.step_name(*step)}

        def measure(step: tuple[int, str, str] = step) -> dict:
            return next(run.arithmetic(part.device, [step], each, part.quick, ceilings))

        yield part.row(name, measure)


def trainings(part: Part) -> Iterator[dict]:
    """The stage `train`, one of each kind, on random features of the paper's sizes."""
    batch, images = (2, 4) if part.quick else (64, TRAINVAL if part.device.type == "cuda" else 64)
    cache = FeatureCache(cases.write_cache(part.scratch / "train.h5", images))
    table = part.out / "gpu-rates.csv"
    known = pd.read_csv(table).set_index("step")["ms"] if table.exists() else {}
    precision = choose_precision("auto", part.device)
    for kind in run.KINDS if part.device.type == "cuda" else ["eager"]:
        expected = known.get(run.step_name(batch, precision, kind), float("nan"))
        expected = 30 if np.isnan(expected) else expected
        count = 2 if part.quick else max(40, int(part.seconds / 6 / (expected / 1e3)))
        log_every = max(1, count // 20)
        own = {"steps": count, "batch_size": batch, "log_every": log_every, **run.KINDS[kind]}
        config = Config.model_validate((SMALL if part.quick else {}) | {"training": own})
        folder = part.scratch / f"run-{kind}"

        def measure(config: Config = config, folder: Path = folder) -> dict:
            torch.compiler.reset()
            done: dict = {}
            seconds = part.seconds_of(
                lambda: done.update(train(cache, config, 0, folder, part.device))
            )
            history = pd.read_csv(folder / "history.csv")["images_per_second"]
            steady = median(history[len(history) // 2 :])
            seen = config.training.steps * config.training.batch_size
            flop = training(config, images, True).flop / seen
            return {
                "precision": done["precision"],
                "features in": done["features_in"],
                "steps": config.training.steps,
                "seconds": seconds,
                "start, s": seconds - seen / steady,
                "images/s": steady,
                "TFLOP/s": flop * steady / 1e12,
                "official budget, min": (seconds + (run.OFFICIAL_BUDGET - seen) / steady) / 60,
                "loss": done["final_loss"],
            } | part.gpu_memory()

        yield part.row({"kind": kind}, measure)


def extraction(part: Part) -> Iterator[dict]:
    """The stage `extract` on as many photographs as VOC's val, of its size, random weights."""
    count = 8 if part.quick else VAL if part.device.type == "cuda" else 64
    voc = VocFolder(photographs(part.scratch, count, few=4 if part.quick else 48))
    batches = [8] if part.quick or part.device.type == "cpu" else [8, 32, 128]
    precisions = ["fp32", "tf32", "bf16"] if part.device.type == "cuda" else ["fp32"]
    pairs = [(precisions[0], batch) for batch in batches]
    pairs += itertools.product(precisions[1:], batches[::2])
    for precision, batch in pairs:
        changes = {"precision": precision, "batch_size": batch}
        config = Config.model_validate(merged(cases.RANDOM_VIT, {"backbone": changes}))

        def measure(config: Config = config) -> dict:
            cache = part.scratch / "extracted.h5"
            cache.unlink(missing_ok=True)
            seconds = part.seconds_of(lambda: extract(voc, "train", config, cache, part.device))
            row = {"images": count, "seconds": seconds, "images/s": count / seconds}
            return row | {"VOC, min": VOC * seconds / count / 60} | part.gpu_memory()

        yield part.row({"precision": precision, "batch": batch}, measure)


def photographs(folder: Path, number: int, few: int) -> Path:
    """A VOC folder of ``number`` photographs, 375 px high: links to a few scenes."""
    write_scenes(ScenesConfig(train=few, val=1, side=375), folder / "photographs")
    scenes, voc = folder / "photographs/VOC2012", folder / f"voc{number}"
    ids = [f"{index:06}" for index in range(number)]
    folders = {"JPEGImages": "jpg", "SegmentationClass": "png", "SegmentationObject": "png"}
    for name, suffix in (folders | {"Annotations": "xml"}).items():
        (voc / name).mkdir(parents=True, exist_ok=True)
        for index, image_id in enumerate(ids):
            link = voc / name / f"{image_id}.{suffix}"
            if not link.is_symlink():
                link.symlink_to(scenes / name / f"train_{index % few:05}.{suffix}")
    (voc / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
    (voc / "ImageSets/Segmentation/train.txt").write_text("\n".join(ids))
    return voc


def evaluation(part: Part) -> Iterator[dict]:
    """The stages `similarity`, `fusion` and `evaluate` on a run of the paper's sizes."""
    images = 2 if part.quick else 256 if part.device.type == "cuda" else 32
    steps = 1 if part.quick else 500 if part.device.type == "cuda" else 5
    cache = FeatureCache(cases.write_cache(part.scratch / "val.h5", images, labelled=True))
    learned = {"steps": steps, "batch_size": 2 if part.quick else 16}
    matching = {"matching": {"similarity": learned, "fusion": learned}}
    config = Config.model_validate((SMALL if part.quick else {}) | matching)
    folder = part.scratch / "scored"
    one = config.changed("gpu", {"training": {"steps": 1, "log_every": 1, "batch_size": 1}})
    train(cache, one, 0, folder, part.device)
    for name in ("similarity", "fusion"):

        def learn(name: str = name) -> dict:
            settings = getattr(config.matching, name)
            loaded = Run.load(folder)
            work = lambda: train_merging(loaded, cache, settings, folder, part.device)  # noqa: E731
            return {"seconds": part.seconds_of(work)} | part.gpu_memory()

        yield part.row({"stage": f"{name}, {steps} steps of {learned['batch_size']}"}, learn)
    paper = {"matching": {"strategies": ["hungarian"]}, "evaluation": {"mask_sources": ["decoder"]}}
    ways = [
        ("Hungarian, decoder masks, 3 seeds", merged(paper, {"evaluation": {"batch_size": batch}}))
        for batch in ([2] if part.quick else [32, 128])
    ]
    everything = {"evaluation": {"batch_size": 2}} if part.quick else {}
    ways.insert(1, ("all matchings, mask sources and seeds of config.yaml", everything))
    for name, changes in ways:
        changed = config.changed("gpu", changes)
        scored = FeatureCache(cache.path)
        if not part.quick and not changes:
            few = cases.write_cache(part.scratch / "few.h5", images // 16, labelled=True)
            scored = FeatureCache(few)

        def score(changed: Config = changed, scored: FeatureCache = scored) -> dict:
            loaded, out = Run.load(folder), Path(tempfile.mkdtemp(dir=part.scratch))
            work = lambda: evaluate(loaded, scored, changed, out, part.device)  # noqa: E731
            seconds, count = part.seconds_of(work), len(scored.ids)
            row = {
                "images": count,
                "seconds": seconds,
                "VOC's val, min": VAL * seconds / count / 60,
            }
            return row | part.gpu_memory()

        stage = {"stage": f"evaluate: {name}", "batch": changed.evaluation.batch_size}
        yield part.row(stage, score)


QUICK_CHAIN = SMALL | {
    "dataset": {"scenes": {"train": 4, "val": 3, "side": 64}},
    "backbone": {"image_size": 64},
    "decoder": {"hidden_dim": 16, "patches_per_step": 8},
    "training": {
        **{"steps": 4, "batch_size": 2, "log_every": 2},
        "schedule": {"warmup_steps": 1},
    },
    "evaluation": {"sweep": {"num_slots": [2], "iterations": [1]}},
    "matching": {"similarity": {"steps": 2}, "fusion": {"steps": 2}},
}


def chain(part: Part) -> Iterator[dict]:
    """Every stage that uses a GPU, of the demo's config, by its command; then some on the CPU."""
    demo = read_yaml(ROOT / "config/demo.yaml")
    demo = merged(demo, QUICK_CHAIN if part.quick else {})
    config, root = part.scratch / "demo.yaml", part.scratch / "scenes"
    write_text(config, dump_yaml(merged(demo, {"training": {"snapshots": [0]}})))
    device, work = str(part.device), part.scratch / "chain"
    used = ["--config", config, "--device", device]
    caches = {split: work / f"{split}.h5" for split in ("train", "val")}
    seeds = (0,) if part.quick else (0, 1, 2)
    run_folder = work / "seed0"

    def call(*arguments: object) -> dict:
        def command() -> None:
            application.app([str(argument) for argument in arguments], standalone_mode=False)

        return {"seconds": part.seconds_of(command)}

    def stage(*arguments: object, name: str = "") -> dict:
        return part.row({"stage": name or str(arguments[0])}, lambda: call(*arguments))

    yield stage("scenes", "--config", config, "--out", root)
    for split, cache in caches.items():
        extracted = "--data", root, "--split", split, "--out", cache
        yield stage("extract", *extracted, *used, name=f"extract {split}")

    def trained(seed: int) -> dict:
        own = "--features", caches["train"], "--out", work / f"seed{seed}", "--seed", seed
        return stage("train", *own, *used, name=f"train seed {seed}")

    yield trained(0)
    for command in ("similarity", "fusion"):
        yield stage(command, "--run", run_folder, "--features", caches["train"], *used)
    scored = "--run", run_folder, "--features", caches["val"], "--out", work / "metrics"
    for command in ("evaluate", "sweep", "snapshots", "label-maps"):
        yield stage(command, *scored, *used)
    yield stage("agreement", *scored, "--device", device)
    found = sorted((root / "VOC2012/JPEGImages").glob("val_*.jpg"))[:16]
    own = "--run", run_folder, "--out", work / "found", "--device", device
    yield stage("discover", *found, *own)

    def on_cpu() -> dict:
        own = "--run", run_folder, "--features", caches["val"], "--out", work / "cpu"
        return call("evaluate", *own, "--config", config, "--device", "cpu") | {
            "value": _points(work / "metrics/scenes-val.csv", work / "cpu/scenes-val.csv"),
            "of": "points by which a metric differs at most from the GPU's",
        }

    yield part.row({"stage": "evaluate on the CPU"}, on_cpu)

    def extracted_on_cpu() -> dict:
        cache = work / "cpu.h5"
        own = "--data", root, "--split", "val", "--out", cache, "--config", config
        row = call("extract", *own, "--device", "cpu")
        one, two = (FeatureCache(path).features[:].astype(float) for path in (caches["val"], cache))
        far = np.linalg.norm(one - two) / np.linalg.norm(two)
        return row | {"value": far, "of": "relative difference of the features from the GPU's"}

    yield part.row({"stage": "extract val on the CPU"}, extracted_on_cpu)
    for seed in seeds:
        if seed:
            yield trained(seed)

        def score(seed: int = seed) -> dict:
            out = work / f"scores{seed}"
            own = "--run", work / f"seed{seed}", "--features", caches["val"], "--out", out
            only = "--matching", "hungarian", "--mask-source", "attention"
            row = call("evaluate", *own, *only, *used)
            table = pd.read_csv(out / "scenes-val.csv").set_index(["protocol", "metric"])["value"]
            return row | {"value": table["paper", "mbo_c"], "of": "mBO^c, percent"}

        yield part.row({"stage": f"attention masks of seed {seed}"}, score)


def _points(one: Path, two: Path) -> float:
    """The largest difference of two tables of metrics."""
    tables = [pd.read_csv(path) for path in (one, two)]
    return float((tables[0]["value"] - tables[1]["value"]).abs().max())


SCORED = ("masks -> label maps", "evaluation of")  # on the CPU, in minutes


def ratios(part: Part) -> Iterator[dict]:
    """The cases of benchmarks/run.py beside a plain implementation, but for those of scoring."""
    precisions = ["fp32", choose_precision("auto", part.device)]
    if part.device.type == "cpu":
        precisions = precisions[:1]
    each = 0 if part.quick else min(5, part.seconds / 60)
    try:
        for case in cases.all_cases(part.device, precisions, part.quick):
            if case.name.startswith(SCORED):
                continue

            def measure(case: cases.Case = case) -> dict:
                return run.measure(case, each, part.device, part.quick)

            yield part.row({"case": case.name}, measure)
            if part.over:
                break
    except Exception as error:  # of the inputs of the next case
        yield {"case": "the rest", "note": reason(error)}


PARTS = {
    "tests": tests,
    "rates": rates,
    "training": trainings,
    "extraction": extraction,
    "evaluation": evaluation,
    "chain": chain,
    "ratios": ratios,
}
