"""The training loop: from a feature cache to a run's folder."""

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

import mmqsa
from mmqsa.atomic import claimed
from mmqsa.config.fits import too_large
from mmqsa.config.training import RUN_SECTIONS, RunConfig
from mmqsa.device import choose_precision, describe, naming_when_memory_ends
from mmqsa.digest import code_digest
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache
from mmqsa.features.principal_component import background_direction
from mmqsa.features.resident import ResidentFeatures
from mmqsa.features.standardise import feature_statistics
from mmqsa.memory import keep_freed_memory
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.paths import CHECKPOINT
from mmqsa.progress import notice, progress_bar
from mmqsa.training import checkpoint
from mmqsa.training.batches import Batches
from mmqsa.training.run import Run, finished_run, remove_run
from mmqsa.training.schedule import learning_rate_factor
from mmqsa.training.signals import Stopped, stop_signals
from mmqsa.training.state import TrainState
from mmqsa.training.step import make_step

__all__ = ["train"]

CODE = "mmqsa.training.loop:train"


def train(
    cache: FeatureCache,
    config: RunConfig,
    seed: int,
    out: Path,
    device: torch.device,
    on_step: Callable[[int], None] | None = None,
    overwrite: bool = False,
) -> dict:
    """Train one run into the folder ``out`` and return its provenance.

    A training that was killed goes on from its checkpoint, to the same bits; a finished one of the
    same config, seed and features is left as it is. ``overwrite`` removes whatever run is there,
    with all that was made from it. ``on_step`` is called before each step with its 0-based index.
    Raises InputError when ``out`` holds another run or another process trains into it, and on a
    loss that is not finite, naming the step; Stopped after SIGTERM or SIGINT, with a checkpoint of
    that step.

    >>> from mmqsa.config import Config
    >>> config = Config.load("config.yaml").changed("example", {"training": {"steps": 5}})
    >>> made = train(FeatureCache("train.h5"), config, 0, Path("new"), torch.device("cpu"))
    >>> made["num_images"], made["updates_per_head"]
    (8, [2, 1, 2])
    >>> Run.load("new").model.num_slots
    4
    """
    with claimed(out):
        if overwrite:
            remove_run(out)
        if finished := finished_run(out, config, cache, seed):
            notice(f"{out}: already trained with these settings; nothing to do")
            return finished
        return _train(cache, config, seed, out, device, on_step)


def _train(
    cache: FeatureCache,
    config: RunConfig,
    seed: int,
    out: Path,
    device: torch.device,
    on_step: Callable[[int], None] | None,
) -> dict:
    """Train a run that is not finished into ``out``, from its checkpoint if there is one."""
    keep_freed_memory()
    training, path = config.training, out / CHECKPOINT
    with stop_signals() as asked, naming_when_memory_ends("training.batch_size"):
        precision = choose_precision(training.precision, device)
        features = ResidentFeatures(cache, device)
        model = _model(config, features, seed).to(device)
        step = make_step(model, training, precision, device)

        # Heads and batches are drawn on the CPU: their indices are needed there, without a sync.
        draws = torch.Generator().manual_seed(seed)
        noise = torch.Generator(device).manual_seed(seed)
        batches = Batches(len(features), training.batch_size, draws, features.index_device)
        state = TrainState(
            model, step.optimiser, batches, noise, model.num_heads, training.log_every
        )
        identity = _identity(config, cache, seed, device, precision)
        if saved := checkpoint.load(path, identity):
            with checkpoint.naming_damage(path):
                state.load_state_dict(saved)
                if state.step > training.steps:
                    raise ValueError("more steps than the training has")

        clock = saved_at = time.monotonic()
        log_seconds, log_step = state.seconds, state.step  # a resumed training logs its own speed
        bar = progress_bar(
            range(state.step, training.steps),
            initial=state.step,
            total=training.steps,
            desc=f"train seed {seed}",
            unit=" steps",
        )
        for index in bar:
            if asked:
                _save(state, path, identity)
                raise Stopped(f"{out}: {asked[-1]} at step {index}; repeat the command to resume")
            if on_step:
                on_step(index)
            if index in training.snapshots:
                state.keep_snapshot()

            rate = training.learning_rate * learning_rate_factor(
                training.schedule, index, training.steps
            )
            drawn = int(torch.randint(model.num_heads, (), generator=draws))
            heads = [drawn]
            if training.heads_per_step != "drawn":
                heads = list(range(model.num_heads))
            if training.heads_per_step == "merged":  # onto the drawn one, which comes first
                heads = heads[drawn:] + heads[:drawn]
            batch = features.take(batches.next())
            loss = step(batch, heads, model.draw(len(batch), noise, len(heads)), rate)
            state.add(loss, heads)

            now = time.monotonic()
            state.seconds, clock = state.seconds + now - clock, now
            if state.step % training.log_every == 0 or state.step == training.steps:
                _check_finite(state, path)
                images = (state.step - log_step) * training.batch_size
                state.log(rate, images / (state.seconds - log_seconds))
                log_seconds, log_step = state.seconds, state.step
                _, loss_mean, _, speed = state.history[-1]
                bar.set_postfix(loss=f"{loss_mean:.4f}", images_per_s=f"{speed:.0f}")
            if now - saved_at > training.checkpoint_seconds:
                _save(state, path, identity)
                saved_at = time.monotonic()

        _save(state, path, identity)
        provenance = _provenance(state, features, cache, config, seed, device, precision)
        Run(model, config, provenance).save(out, state.history, state.snapshots)
        path.unlink()  # only now: until the run is there, it goes on from here
    return provenance


def _model(config: RunConfig, features: ResidentFeatures, seed: int) -> MaskedSlotModel:
    """A model with weights drawn from ``seed`` and the training set's standardisation."""
    if fault := too_large(config.model, *features.shape[1:]):
        raise InputError(fault)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MaskedSlotModel(config.model, *features.shape[1:])
    model.standardise_by(*feature_statistics(features.array, config.features.standardise))
    if config.masking.score == "principal-component":
        model.background_direction.copy_(background_direction(features.array))
    return model


def _identity(
    config: RunConfig, cache: FeatureCache, seed: int, device: torch.device, precision: str
) -> str:
    """sha256 of all that a training's numbers depend on."""
    settings = config.dependencies()
    sections = {name: settings[name] for name in RUN_SECTIONS}
    parts = [code_digest(CODE), sections, cache.attributes, seed, device.type, precision]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _save(state: TrainState, path: Path, identity: str) -> None:
    """Write a checkpoint, which is always a good one."""
    _check_finite(state, path)
    checkpoint.save(path, identity, state.state_dict())


def _check_finite(state: TrainState, path: Path) -> None:
    """Raises InputError when a loss since the last history row, or a weight, is not finite."""
    losses = state.losses.tolist()
    bad = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)
    weights = torch.stack([weight.isfinite().all() for weight in state.model.parameters()]).all()
    if bad is None and bool(weights):
        return
    finite = losses[:bad] or [loss for _, loss, *_ in state.history[-1:]]
    what = "a weight" if bad is None else f"the loss ({losses[bad]})"
    step = state.step if bad is None else state.logged_step + bad + 1
    kept = checkpoint.step_of(path)
    raise InputError(
        f"{path.parent}: {what} is not finite at step {step}; last finite loss: "
        f"{f'{finite[-1]:.6g}' if finite else 'none'}; last good checkpoint: "
        f"{'none' if kept is None else f'{path}, step {kept}'}. Lower "
        "training.learning_rate or set training.gradient_clip"
        + ("" if kept is None else ", and delete the checkpoint")
    )


def _provenance(
    state: TrainState,
    features: ResidentFeatures,
    cache: FeatureCache,
    config: RunConfig,
    seed: int,
    device: torch.device,
    precision: str,
) -> dict:
    """What made a run, as plain data."""
    images = config.training.steps * config.training.batch_size
    return {
        "mmqsa": mmqsa.__version__,
        "packages": {name: version(name) for name in ("torch", "timm", "numpy", "h5py")},
        "python": platform.python_version(),
        "device": describe(device),
        "precision": precision,
        "features_in": features.where,
        "seed": seed,
        "seconds": round(state.seconds, 1),
        "images_per_second": round(images / state.seconds, 1),
        "num_images": len(features),
        "num_parameters": sum(parameter.numel() for parameter in state.model.parameters()),
        "updates_per_head": state.updates_per_head,
        "resumed_at_steps": state.resumed_at_steps,
        "final_loss": round(state.history[-1][1], 6),
        "cache": cache.attributes,
        "cache_fingerprint": cache.fingerprint,
    }
