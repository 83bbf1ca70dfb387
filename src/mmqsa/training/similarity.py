"""Training of a learned similarity on a frozen run."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save

from mmqsa.atomic import whole_file, write_text
from mmqsa.config.evaluation import SimilarityConfig
from mmqsa.device import describe
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache, check_attributes
from mmqsa.features.resident import ResidentFeatures
from mmqsa.memory import keep_freed_memory
from mmqsa.model.inference import Discoverer
from mmqsa.model.learned_similarity import LearnedSimilarity
from mmqsa.paths import SIMILARITY
from mmqsa.progress import progress_bar
from mmqsa.training.batches import Batches
from mmqsa.training.run import Run


def train_similarity(
    run: Run, cache: FeatureCache, config: SimilarityConfig, folder: Path, device: torch.device
) -> tuple[float, float]:
    """Learn the similarity of a run's slots and write it into the run's ``folder``.

    Every step merges all heads softly onto a random reference head, decodes the merged slots and
    compares with the features, as training does; only the similarity learns. Returns the mean loss
    of the first and the last tenth of the steps. Raises InputError when the run has a single head,
    the cache is another network's, or the loss is not finite.
    """
    if run.model.heads == 1:
        raise InputError(f"{folder}: has one head, so there is nothing to match")
    trained_on = run.provenance["cache"]
    expected = {name: trained_on.get(name) for name in cache.network}
    check_attributes(cache.attributes, expected, cache.path, reader="the trained run")
    keep_freed_memory()
    model = run.model.to(device).requires_grad_(False)
    keys, discoverer = ResidentFeatures(cache, device), Discoverer(model)
    similarity = LearnedSimilarity(model.slot_attention.width).to(device)
    optimiser = torch.optim.Adam(similarity.parameters(), config.learning_rate)
    draws = torch.Generator().manual_seed(0)
    noise = torch.Generator(device).manual_seed(0)
    batches = Batches(len(keys), config.batch_size, draws, keys.index_device, left=[])
    losses = torch.zeros(config.steps, device=device)
    for step in progress_bar(range(config.steps), desc="similarity", unit=" steps"):
        batch = keys.take(batches.next())
        with torch.no_grad():
            slots = discoverer.run_heads(batch, noise).slots
            target = model.standardised(batch)
        reference = torch.randint(model.heads, (len(batch),), generator=draws).to(device)
        patches = model.draw(0, noise).patches
        merged = similarity.soft_merge(
            slots, reference, config.temperature, config.sinkhorn_iterations
        )
        reconstruction, _ = model.decoder(merged, patches)
        loss = F.mse_loss(reconstruction, target if patches is None else target[:, patches])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses[step] = loss.detach()
    if not bool(losses.isfinite().all() and similarity.projection.isfinite().all()):
        raise InputError(
            f"{folder}: the similarity's loss is not finite; lower "
            "matching.similarity.learning_rate"
        )
    tenth = max(1, config.steps // 10)
    first, last = losses[:tenth].mean().item(), losses[-tenth:].mean().item()
    state = {"projection": similarity.projection.detach().cpu().contiguous()}
    about = config.model_dump() | {
        "first_loss": round(first, 6),
        "final_loss": round(last, 6),
        "device": describe(device),
    }
    write_text((folder / SIMILARITY).with_suffix(".json"), json.dumps(about, indent=2) + "\n")
    with whole_file(folder / SIMILARITY) as temporary:
        temporary.write_bytes(save(state))
    return first, last
