"""A trained run on disk: weights, resolved config, history and provenance in one folder."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mmqsa.atomic import whole_file, write_text
from mmqsa.config.files import dump_yaml
from mmqsa.config.training import RunConfig
from mmqsa.errors import InputError
from mmqsa.features.attributes import check_attributes
from mmqsa.features.cache import FeatureCache
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.paths import CONFIG, HISTORY, PROVENANCE, SIMILARITY, SNAPSHOTS, WEIGHTS


@dataclass
class Run:
    """A trained model, its config and provenance, and its similarity once that is learned."""

    model: MaskedSlotModel
    config: RunConfig
    provenance: dict
    similarity: Tensor | None = None
    """(D_slot, D_slot) projection of slots"""

    @classmethod
    def load(cls, folder: str | Path, snapshot: int | None = None) -> "Run":
        """Read a run's folder, with the weights of its end or those after ``snapshot`` steps.

        Raises InputError when a file of the run is missing or does not fit the others.
        """
        folder = Path(folder)
        weights = folder / WEIGHTS if snapshot is None else snapshot_path(folder, snapshot)
        config = RunConfig.load(folder / CONFIG)
        try:
            provenance = json.loads((folder / PROVENANCE).read_text())
            state = load_file(weights)
            learned = (folder / SIMILARITY).exists() and load_file(folder / SIMILARITY)
        except FileNotFoundError as error:
            raise InputError(
                f"{error.filename or weights}: missing; train the run, or name its folder"
            ) from None
        except (json.JSONDecodeError, SafetensorError) as error:
            raise InputError(f"{folder}: damaged run ({error}); train it again") from None
        num_patches, feature_dim = state["feature_mean"].shape
        model = MaskedSlotModel(config.model, num_patches, feature_dim)
        try:
            model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        except RuntimeError:
            raise InputError(
                f"{weights}: does not fit {folder / CONFIG}; one of the two was changed"
            ) from None
        return cls(model.eval(), config, provenance, learned["projection"] if learned else None)

    def save(
        self,
        folder: Path,
        history: list[list[float]],
        snapshots: Mapping[int, Mapping[str, Tensor]],
    ) -> None:
        """Write the run's files, with the rows of its history and the weights at some steps.

        The folder of snapshots is always there, which a rule declares. The weights of the end come
        last, so that they vouch for the rest.
        """
        shutil.rmtree(folder / SNAPSHOTS, ignore_errors=True)  # of another training
        (folder / SNAPSHOTS).mkdir(parents=True)
        for step, weights in snapshots.items():
            _save_weights(weights, snapshot_path(folder, step))
        write_text(folder / CONFIG, dump_yaml(self.config.dependencies()))
        lines = ["step,loss,learning_rate,images_per_second"]
        lines += [
            f"{step},{loss:.6f},{rate:.3e},{speed:.1f}" for step, loss, rate, speed in history
        ]
        write_text(folder / HISTORY, "\n".join(lines) + "\n")
        write_text(folder / PROVENANCE, json.dumps(self.provenance, indent=2) + "\n")
        _save_weights(self.model.state_dict(), folder / WEIGHTS)

    def check_cache(self, cache: FeatureCache) -> None:
        """Raises InputError when a cache was made with another backbone than the run's."""
        trained_on = self.provenance["cache"]
        expected = {name: trained_on.get(name) for name in cache.network}
        check_attributes(cache.attributes, expected, cache.path, "the trained run")


def snapshot_path(folder: Path, step: int) -> Path:
    """The weights that a run had after ``step`` steps."""
    return folder / SNAPSHOTS / f"step{step}.safetensors"


def _save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a model's weights, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with whole_file(path) as temporary:
        temporary.write_bytes(save(plain))  # save_file would make it unreadable to others
