"""The training loop: one drawn head per step, features resident in memory."""

import csv
import hashlib
import io
import math
import platform
import time
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

import mmqsa
from mmqsa.errors import InputError
from mmqsa.features.standardise import key_statistics
from mmqsa.features.store import FeatureCache
from mmqsa.model.discovery import MaskedSlotModel
from mmqsa.progress import progress_bar
from mmqsa.settings import RUN_SECTIONS, Settings, Training
from mmqsa.training import checkpoint
from mmqsa.training.checkpoint import Progress
from mmqsa.training.run import save_run
from mmqsa.training.schedule import learning_rate_factor

HISTORY_FIELDS = ["step", "loss", "learning_rate", "images_per_second"]


def train(
    cache: FeatureCache, settings: Settings, seed: int, out: Path, device: torch.device
) -> dict:
    """Train one run into the folder ``out`` and return its provenance.

    A training that was killed goes on from its checkpoint. Raises InputError on a loss that is
    not finite, naming the step.
    """
    config = settings.training
    keys = torch.from_numpy(cache.keys[:]).to(device)  # (N, P, D) float16
    model = _build(settings, keys, seed).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    # Heads and batches are drawn on the CPU: their indices are needed there, without a sync.
    draws = torch.Generator().manual_seed(seed)
    noise = torch.Generator(device).manual_seed(seed)
    identity = _identity(settings, cache, seed, device)
    resume = out / checkpoint.CHECKPOINT
    progress = checkpoint.restore(resume, identity, model, optimiser, [draws, noise])
    progress = progress or Progress(updates=[0] * model.heads)
    batches = _Batches(len(keys), config.batch_size, draws, progress.order)
    precision = _precision(config, device)
    started = saved = logged = time.monotonic()
    already = progress.seconds
    running = torch.zeros((), device=device)
    first, since = progress.step, 0
    bar = progress_bar(
        range(first, config.steps),
        initial=first,
        total=config.steps,
        desc=f"train seed {seed}",
        unit=" steps",
    )
    for step in bar:
        rate = config.learning_rate * learning_rate_factor(config.schedule, step, config.steps)
        for group in optimiser.param_groups:
            group["lr"] = rate
        head = int(torch.randint(model.heads, (), generator=draws))
        batch = keys[batches.next().to(device)]
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = model.loss(batch, head, noise)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if config.gradient_clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        optimiser.step()
        progress.updates[head] += 1
        running += loss.detach()
        since += 1
        if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
            now = time.monotonic()
            mean = running.item() / since
            if not math.isfinite(mean):
                raise InputError(
                    f"{out}: the loss is {mean} by step {step + 1} (last finite: "
                    f"{_last_loss(progress)}); lower training.learning_rate or set gradient_clip"
                )
            speed = since * config.batch_size / (now - logged)
            progress.history.append([step + 1, mean, rate, speed])
            bar.set_postfix(loss=f"{mean:.4f}", images_per_s=f"{speed:.0f}")
            running.zero_()
            since, logged = 0, now
            # Only where the running mean is empty, so that a resumed history is the same.
            if now - saved > config.checkpoint_seconds:
                progress.step, progress.order = step + 1, batches.order
                progress.seconds = already + now - started
                checkpoint.save(resume, identity, model, optimiser, [draws, noise], progress)
                saved = now
    progress.seconds = already + time.monotonic() - started
    provenance = _provenance(cache, settings, model, progress, seed, device)
    save_run(out, model, settings, _history_csv(progress.history), provenance)
    resume.unlink(missing_ok=True)
    return provenance


class _Batches:
    """Batches of image indices: every image once per epoch, in an order drawn anew."""

    def __init__(self, images: int, size: int, draws: torch.Generator, order: list[int]):
        self.images, self.size, self.draws, self.order = images, size, draws, list(order)

    def next(self) -> Tensor:
        """The next (B,) indices; an epoch's end runs into the next one."""
        while len(self.order) < self.size:
            self.order += torch.randperm(self.images, generator=self.draws).tolist()
        batch, self.order = self.order[: self.size], self.order[self.size :]
        return torch.tensor(batch)


def _build(settings: Settings, keys: Tensor, seed: int) -> MaskedSlotModel:
    """A model with weights drawn from ``seed`` and the training set's standardisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MaskedSlotModel(settings, *keys.shape[1:])
    model.standardise_by(*key_statistics(keys, settings.keys.standardise))
    return model


def _precision(config: Training, device: torch.device) -> str:
    if config.precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return "bf16" if fast else "fp32"
    return config.precision


def _identity(settings: Settings, cache: FeatureCache, seed: int, device: torch.device) -> str:
    parts = settings.fingerprint(*RUN_SECTIONS), cache.fingerprint, str(seed), device.type
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _provenance(
    cache: FeatureCache,
    settings: Settings,
    model: MaskedSlotModel,
    progress: Progress,
    seed: int,
    device: torch.device,
) -> dict:
    """What made a run, as plain data."""
    images = settings.training.steps * settings.training.batch_size
    return {
        "mmqsa": mmqsa.__version__,
        "packages": {name: version(name) for name in ("torch", "timm", "numpy", "h5py")},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "precision": _precision(settings.training, device),
        "seed": seed,
        "seconds": round(progress.seconds, 1),
        "images_per_second": round(images / progress.seconds, 1),
        "images": len(cache.keys),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "updates_per_head": progress.updates,
        "final_loss": _last_loss(progress),
        "cache": cache.attributes,
        "cache_fingerprint": cache.fingerprint,
    }


def _last_loss(progress: Progress) -> float | None:
    return round(progress.history[-1][1], 6) if progress.history else None


def _history_csv(rows: list[list]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HISTORY_FIELDS)
    for step, loss, rate, speed in rows:
        writer.writerow([step, f"{loss:.6f}", f"{rate:.3e}", f"{speed:.1f}"])
    return text.getvalue()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "CPU"
