"""Training of a learned merge on a frozen run: of its similarity, or of its fusion.

Either is trained as the run was: the merged slots are decoded and compared with the features.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import save
from torch import Tensor, nn

from mmqsa.atomic import claimed, whole_file, write_text
from mmqsa.config.base import Finite, Section, validated
from mmqsa.config.evaluation import FusionConfig, SimilarityConfig
from mmqsa.config.files import read_json
from mmqsa.device import describe, naming_when_memory_ends
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache
from mmqsa.features.resident import ResidentFeatures
from mmqsa.memory import keep_freed_memory
from mmqsa.model.learned_similarity import LearnedSimilarity
from mmqsa.model.matching import align
from mmqsa.model.slot_fusion import SlotFusion
from mmqsa.paths import FUSION, SIMILARITY
from mmqsa.progress import notice, progress_bar
from mmqsa.training.batches import Batches
from mmqsa.training.run import Run, first_difference, remove_metrics


class Outcome(Section):
    """What came of a training."""

    first_loss: Finite
    final_loss: Finite
    cache_fingerprint: Annotated[str, Field(max_length=64)] | None = None  # earlier versions: none


class SimilarityRecord(SimilarityConfig, Outcome, extra="ignore"):
    """What is written beside a similarity: its config, and what came of it."""


class FusionRecord(FusionConfig, Outcome, extra="ignore"):
    """The same of a fusion."""


@dataclass
class Kind:
    """What a merge that can be learned is called: itself, its file, and its record's class."""

    name: str
    file: str
    record: type[SimilarityRecord | FusionRecord]


SIMILARITY_KIND = Kind("similarity", SIMILARITY, SimilarityRecord)
FUSION_KIND = Kind("fusion", FUSION, FusionRecord)


def train_merging(
    run: Run,
    cache: FeatureCache,
    config: SimilarityConfig | FusionConfig,
    folder: Path,
    device: torch.device,
    overwrite: bool = False,
) -> tuple[float, float]:
    """Learn a merge of a run's slots, the one that ``config`` is of, and write it into ``folder``.

    Every step merges all heads onto a random reference head, decodes the merged slots and compares
    with the features, as training does; only the merge learns. Returns the mean loss of the first
    and the last tenth of the steps. One that is there and was learned in the same way stays as it
    is; ``overwrite`` removes it first, with the run's metrics. Raises InputError when another one
    is there, another process learns it or is at work on the run, the run has a single head, the
    cache is another network's, or the loss is not finite.
    """
    kind = FUSION_KIND if isinstance(config, FusionConfig) else SIMILARITY_KIND
    if run.model.num_heads == 1:
        raise InputError(f"{folder}: has one head, so there is nothing to match")
    run.check_cache(cache)
    path = folder / kind.file
    with claimed(folder, shared=not overwrite), claimed(path):  # metrics of others are removed
        if overwrite:
            for old in (path, path.with_suffix(".json")):
                old.unlink(missing_ok=True)
            remove_metrics(folder)
        if there := _finished(path, kind, config, cache):
            notice(f"{path}: already learned with these settings; nothing to do")
            return there.first_loss, there.final_loss
        return _train(kind, run, cache, config, path, device)


def _train(
    kind: Kind,
    run: Run,
    cache: FeatureCache,
    config: SimilarityConfig | FusionConfig,
    path: Path,
    device: torch.device,
) -> tuple[float, float]:
    """Learn a merge and write it to ``path``; the loss at first and at last."""
    keep_freed_memory()
    with naming_when_memory_ends(f"matching.{kind.name}.batch_size"):
        learned, losses = _learned(run, cache, config, device)
    state = {name: value.cpu() for name, value in learned.state_dict().items()}
    if not all(bool(values.isfinite().all()) for values in (losses, *state.values())):
        raise InputError(
            f"{path.parent}: the {kind.name}'s loss is not finite; lower "
            f"matching.{kind.name}.learning_rate"
        )
    tenth = max(1, config.steps // 10)
    first, last = losses[:tenth].mean().item(), losses[-tenth:].mean().item()
    about = config.model_dump() | {
        "first_loss": round(first, 6),
        "final_loss": round(last, 6),
        "device": describe(device),
        "cache_fingerprint": cache.fingerprint,
    }
    write_text(path.with_suffix(".json"), json.dumps(about, indent=2) + "\n")
    with whole_file(path) as temporary:
        temporary.write_bytes(save(state))
    return first, last


def _finished(
    path: Path, kind: Kind, config: SimilarityConfig | FusionConfig, cache: FeatureCache
) -> SimilarityRecord | FusionRecord | None:
    """The record of what is asked for, if it is at ``path``; None without any.

    Raises InputError that shows the first difference when another one is there.
    """
    if not path.exists():
        return None
    record = validated(kind.record, read_json(path.with_suffix(".json")), path.with_suffix(".json"))
    there = record.model_dump(include={*type(config).model_fields, "cache_fingerprint"})
    asked = config.model_dump() | {"cache_fingerprint": cache.fingerprint}
    if record.cache_fingerprint is None:
        del there["cache_fingerprint"], asked["cache_fingerprint"]
    if difference := first_difference(there, asked):
        raise InputError(
            f"{path}: was learned with {difference}; give --overwrite to remove it, "
            "and the run's metrics with it"
        )
    return record


def _learned(
    run: Run, cache: FeatureCache, config: SimilarityConfig | FusionConfig, device: torch.device
) -> tuple[nn.Module, Tensor]:
    """The learned merge, and the loss of each step."""
    model, features = run.model.to(device).requires_grad_(False), ResidentFeatures(cache, device)
    slot_dim = run.config.slots.slot_dim
    draws = torch.Generator().manual_seed(0)
    noise = torch.Generator(device).manual_seed(0)
    learned: LearnedSimilarity | SlotFusion
    if isinstance(config, FusionConfig):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            learned = SlotFusion(model.num_heads, slot_dim, config.hidden_dim)
    else:
        learned = LearnedSimilarity(slot_dim)
    optimiser = torch.optim.Adam(learned.to(device).parameters(), config.learning_rate)
    batches = Batches(len(features), config.batch_size, draws, features.index_device)
    losses = torch.zeros(config.steps, device=device)
    for step in progress_bar(range(config.steps), desc="merging", unit=" steps"):
        batch = features.take(batches.next())
        with torch.no_grad():
            slots = model.run_heads(batch, model.noise(len(batch), noise)).slots
            target = model.standardised(batch)
        reference = torch.randint(model.num_heads, (len(batch),), generator=draws).to(device)
        drawn = model.decoder.draw(noise)
        if isinstance(config, FusionConfig):
            merged = learned(slots, align(slots, reference, "hungarian"))
        else:
            assert isinstance(learned, LearnedSimilarity)
            merged = learned.soft_merge(
                slots, reference, config.temperature, config.sinkhorn_iterations
            )
        reconstruction, _ = model.decoder(merged, target, drawn)
        loss = F.mse_loss(reconstruction, model.decoder.compared(target, drawn))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses[step] = loss.detach()
    return learned, losses
