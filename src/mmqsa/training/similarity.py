"""Training of a learned similarity on a frozen run."""

import json
import shutil
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import save
from torch import Tensor

from mmqsa.atomic import whole_file, write_text
from mmqsa.config.base import Finite, validated
from mmqsa.config.evaluation import SimilarityConfig
from mmqsa.config.files import read_json
from mmqsa.device import describe, naming_when_memory_ends
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache
from mmqsa.features.resident import ResidentFeatures
from mmqsa.memory import keep_freed_memory
from mmqsa.model.learned_similarity import LearnedSimilarity
from mmqsa.paths import METRICS, SIMILARITY
from mmqsa.progress import notice, progress_bar
from mmqsa.training.batches import Batches
from mmqsa.training.run import Run, first_difference


class SimilarityRecord(SimilarityConfig, extra="ignore"):
    """What is written beside a similarity: its config, and what came of it."""

    first_loss: Finite
    final_loss: Finite
    cache_fingerprint: Annotated[str, Field(max_length=64)] | None = None  # earlier versions: none


def train_similarity(
    run: Run,
    cache: FeatureCache,
    config: SimilarityConfig,
    folder: Path,
    device: torch.device,
    overwrite: bool = False,
) -> tuple[float, float]:
    """Learn the similarity of a run's slots and write it into the run's ``folder``.

    Every step merges all heads softly onto a random reference head, decodes the merged slots and
    compares with the features, as training does; only the similarity learns. Returns the mean loss
    of the first and the last tenth of the steps. One that is there and was learned in the same way
    stays as it is; ``overwrite`` removes it first, with the run's metrics. Raises InputError when
    another one is there, the run has a single head, the cache is another network's, or the loss is
    not finite.
    """
    if run.model.num_heads == 1:
        raise InputError(f"{folder}: has one head, so there is nothing to match")
    run.check_cache(cache)
    record = (folder / SIMILARITY).with_suffix(".json")
    if overwrite:
        for path in (folder / SIMILARITY, record):
            path.unlink(missing_ok=True)
        shutil.rmtree(folder / METRICS, ignore_errors=True)
    if there := _finished(folder, record, config, cache):
        notice(f"{folder / SIMILARITY}: already learned with these settings; nothing to do")
        return there.first_loss, there.final_loss
    keep_freed_memory()
    with naming_when_memory_ends("matching.similarity.batch_size"):
        similarity, losses = _learned(run, cache, config, device)
    if not bool(losses.isfinite().all() and similarity.projection.isfinite().all()):
        raise InputError(
            f"{folder}: the similarity's loss is not finite; lower "
            "matching.similarity.learning_rate"
        )
    tenth = max(1, config.steps // 10)
    first, last = losses[:tenth].mean().item(), losses[-tenth:].mean().item()
    about = config.model_dump() | {
        "first_loss": round(first, 6),
        "final_loss": round(last, 6),
        "device": describe(device),
        "cache_fingerprint": cache.fingerprint,
    }
    write_text(record, json.dumps(about, indent=2) + "\n")
    with whole_file(folder / SIMILARITY) as temporary:
        temporary.write_bytes(save({"projection": similarity.projection.detach().cpu()}))
    return first, last


def _finished(
    folder: Path, path: Path, config: SimilarityConfig, cache: FeatureCache
) -> SimilarityRecord | None:
    """The record of the similarity that is asked for, if it is in ``folder``; None without any.

    Raises InputError that shows the first difference when another one is there.
    """
    if not (folder / SIMILARITY).exists():
        return None
    record = validated(SimilarityRecord, read_json(path), path)
    there = record.model_dump(include={*SimilarityConfig.model_fields, "cache_fingerprint"})
    asked = config.model_dump() | {"cache_fingerprint": cache.fingerprint}
    if record.cache_fingerprint is None:
        del there["cache_fingerprint"], asked["cache_fingerprint"]
    if difference := first_difference(there, asked):
        raise InputError(
            f"{folder / SIMILARITY}: was learned with {difference}; give --overwrite to remove it, "
            "and the run's metrics with it"
        )
    return record


def _learned(
    run: Run, cache: FeatureCache, config: SimilarityConfig, device: torch.device
) -> tuple[LearnedSimilarity, Tensor]:
    """The similarity, and the loss of each step."""
    model, features = run.model.to(device).requires_grad_(False), ResidentFeatures(cache, device)
    similarity = LearnedSimilarity(run.config.slots.slot_dim).to(device)
    optimiser = torch.optim.Adam(similarity.parameters(), config.learning_rate)
    draws = torch.Generator().manual_seed(0)
    noise = torch.Generator(device).manual_seed(0)
    batches = Batches(len(features), config.batch_size, draws, features.index_device)
    losses = torch.zeros(config.steps, device=device)
    for step in progress_bar(range(config.steps), desc="similarity", unit=" steps"):
        batch = features.take(batches.next())
        with torch.no_grad():
            slots = model.run_heads(batch, model.noise(len(batch), noise)).slots
            target = model.standardised(batch)
        reference = torch.randint(model.num_heads, (len(batch),), generator=draws).to(device)
        drawn = model.decoder.draw(noise)
        merged = similarity.soft_merge(
            slots, reference, config.temperature, config.sinkhorn_iterations
        )
        reconstruction, _ = model.decoder(merged, target, drawn)
        loss = F.mse_loss(reconstruction, model.decoder.compared(target, drawn))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses[step] = loss.detach()
    return similarity, losses
