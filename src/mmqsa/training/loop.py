"""The training loop: from a feature cache to a run's folder."""

import csv
import hashlib
import io
import math
import platform
import time
from importlib.metadata import version
from pathlib import Path

import torch

import mmqsa
from mmqsa.config.training import RUN_SECTIONS, RunConfig
from mmqsa.device import choose_precision, describe, naming_when_memory_ends
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache
from mmqsa.features.resident import ResidentFeatures
from mmqsa.features.standardise import feature_statistics
from mmqsa.memory import keep_freed_memory
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.paths import CHECKPOINT
from mmqsa.progress import progress_bar
from mmqsa.training import checkpoint
from mmqsa.training.batches import Batches
from mmqsa.training.checkpoint import Progress
from mmqsa.training.run import save_run
from mmqsa.training.schedule import learning_rate_factor
from mmqsa.training.signals import Stopped, StopSignals, stop_signals
from mmqsa.training.step import make_step

HISTORY_FIELDS = ["step", "loss", "learning_rate", "images_per_second"]


def train(
    cache: FeatureCache, settings: RunConfig, seed: int, out: Path, device: torch.device
) -> dict:
    """Train one run into the folder ``out`` and return its provenance.

    A training that was killed goes on from its checkpoint. Raises InputError on a loss that is
    not finite, naming the step; Stopped after SIGTERM or SIGINT, with a checkpoint of that step.
    """
    keep_freed_memory()
    with stop_signals() as stop, naming_when_memory_ends("training.batch_size"):
        training = _Training(cache, settings, seed, out, device, stop)
        training.run()
        return training.finish()


class _Training:
    """One training between its files: what it holds is what a checkpoint saves."""

    def __init__(
        self,
        cache: FeatureCache,
        settings: RunConfig,
        seed: int,
        out: Path,
        device: torch.device,
        stop: StopSignals,
    ):
        self.stop = stop
        self.cache, self.settings, self.config = cache, settings, settings.training
        self.seed, self.out, self.device = seed, out, device
        self.precision = choose_precision(self.config.precision, device)
        self.keys = ResidentFeatures(cache, device)
        self.model = _build(settings, self.keys, seed).to(device)
        self.step = make_step(self.model, self.config, self.precision, device)
        # Heads and batches are drawn on the CPU: their indices are needed there, without a sync.
        self.draws = torch.Generator().manual_seed(seed)
        self.noise = torch.Generator(device).manual_seed(seed)
        found = checkpoint.restore(self._resume, self._identity, *self._state)
        self.progress = found or Progress(updates=[0] * self.model.heads)
        self.batches = Batches(
            len(self.keys),
            self.config.batch_size,
            self.draws,
            self.keys.index_device,
            self.progress.order,
        )
        # Losses since the last row of the history, on the device until that row is written.
        self.losses = torch.zeros(self.config.log_every, device=device)
        self.losses[: len(self.progress.losses)] = torch.tensor(self.progress.losses)
        self.since = len(self.progress.losses)
        self.before, self.started = self.progress.seconds, time.monotonic()
        self.saved = self.started
        self.logged = self.started, self.progress.step

    @property
    def _state(self) -> tuple:
        return self.model, self.step.optimiser, [self.draws, self.noise]

    @property
    def _resume(self) -> Path:
        return self.out / CHECKPOINT

    @property
    def _identity(self) -> str:
        """sha256 of all that a training's numbers depend on."""
        parts = (
            self.settings.fingerprint(*RUN_SECTIONS),
            self.cache.fingerprint,
            str(self.seed),
            self.device.type,
            self.precision,
        )
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def run(self) -> None:
        """Every step that is left."""
        config, every = self.config, self.config.heads_per_step == "all"
        bar = progress_bar(
            range(self.progress.step, config.steps),
            initial=self.progress.step,
            total=config.steps,
            desc=f"train seed {self.seed}",
            unit=" steps",
        )
        for step in bar:
            if self.stop.asked:
                self._save()
                raise Stopped(
                    f"{self.out}: {self.stop.asked} at step {step}; the same command goes on there"
                )
            rate = config.learning_rate * learning_rate_factor(config.schedule, step, config.steps)
            drawn = int(torch.randint(self.model.heads, (), generator=self.draws))
            heads = range(self.model.heads) if every else [drawn]
            keys = self.keys.take(self.batches.next())
            draws = self.model.draw(len(keys), self.noise, len(heads))
            self.losses[self.since] = self.step(keys, heads, draws, rate)
            self.since += 1
            for head in heads:
                self.progress.updates[head] += 1
            self.progress.step = step + 1
            if self.progress.step % config.log_every == 0 or self.progress.step == config.steps:
                self._log(rate)
                loss, speed = self.progress.history[-1][1::2]
                bar.set_postfix(loss=f"{loss:.4f}", images_per_s=f"{speed:.0f}")
            if time.monotonic() - self.saved > config.checkpoint_seconds:
                self._save()

    def finish(self) -> dict:
        """Write the run's files; its checkpoint goes when they are there."""
        self._save()
        provenance = self._provenance()
        save_run(
            self.out, self.model, self.settings, _history_csv(self.progress.history), provenance
        )
        self._resume.unlink()
        return provenance

    def _log(self, rate: float) -> None:
        self._check()
        now = time.monotonic()
        mean = self.losses[: self.since].double().mean().item()
        before, step = self.logged  # not since the last row: a resumed training was not there
        speed = (self.progress.step - step) * self.config.batch_size / (now - before)
        self.progress.history.append([self.progress.step, mean, rate, speed])
        self.since, self.logged = 0, (now, self.progress.step)

    def _save(self) -> None:
        self._check()
        self.progress.losses = self.losses[: self.since].tolist()
        self.progress.order = self.batches.left
        self.progress.seconds = self.before + time.monotonic() - self.started
        checkpoint.save(self._resume, self._identity, *self._state, self.progress)
        self.saved = time.monotonic()

    def _check(self) -> None:
        """Raises InputError when a loss since the last row, or a weight, is not finite.

        So a checkpoint is always a good one.
        """
        losses = self.losses[: self.since].tolist()
        bad = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)
        weights = torch.stack([weight.isfinite().all() for weight in self.model.parameters()]).all()
        if bad is None and bool(weights):
            return
        good = losses[:bad] or [loss for _, loss, *_ in self.progress.history[-1:]]
        what = "a weight" if bad is None else f"the loss ({losses[bad]})"
        at = self.progress.step - (0 if bad is None else self.since - bad - 1)
        kept = checkpoint.step_of(self._resume)
        raise InputError(
            f"{self.out}: {what} is not finite at step {at}; last finite loss: "
            f"{f'{good[-1]:.6g}' if good else 'none'}; last good checkpoint: "
            f"{'none' if kept is None else f'{self._resume}, step {kept}'}. Lower "
            "training.learning_rate or set training.gradient_clip"
            + ("" if kept is None else ", and delete the checkpoint")
        )

    def _provenance(self) -> dict:
        """What made a run, as plain data."""
        images = self.config.steps * self.config.batch_size
        return {
            "mmqsa": mmqsa.__version__,
            "packages": {name: version(name) for name in ("torch", "timm", "numpy", "h5py")},
            "python": platform.python_version(),
            "device": describe(self.device),
            "precision": self.precision,
            "features_in": self.keys.where,
            "seed": self.seed,
            "seconds": round(self.progress.seconds, 1),
            "images_per_second": round(images / self.progress.seconds, 1),
            "images": len(self.keys),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "updates_per_head": self.progress.updates,
            "resumed_at_steps": self.progress.resumed,
            "final_loss": round(self.progress.history[-1][1], 6),
            "cache": self.cache.attributes,
            "cache_fingerprint": self.cache.fingerprint,
        }


def _build(settings: RunConfig, keys: ResidentFeatures, seed: int) -> MaskedSlotModel:
    """A model with weights drawn from ``seed`` and the training set's standardisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MaskedSlotModel(settings.model, *keys.shape[1:])
    model.standardise_by(*feature_statistics(keys.array, settings.features.standardise))
    return model


def _history_csv(rows: list[list]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HISTORY_FIELDS)
    for step, loss, rate, speed in rows:
        writer.writerow([step, f"{loss:.6f}", f"{rate:.3e}", f"{speed:.1f}"])
    return text.getvalue()
