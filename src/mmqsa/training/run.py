"""A trained run on disk: weights, resolved config, history and provenance in one folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mmqsa.atomic import whole_file, write_text
from mmqsa.config.base import dump_yaml
from mmqsa.config.training import RunConfig
from mmqsa.errors import InputError
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.paths import CONFIG, HISTORY, PROVENANCE, SIMILARITY, WEIGHTS


@dataclass
class Run:
    """A trained model and where it came from; ``similarity`` (D_slot, D_slot) is None until learned."""

    model: MaskedSlotModel
    config: RunConfig
    provenance: dict
    similarity: Tensor | None = None

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Raises InputError when a file of the run is missing or does not fit the others."""
        folder = Path(folder)
        config = RunConfig.load(folder / CONFIG)
        try:
            provenance = json.loads((folder / PROVENANCE).read_text())
            state = load_file(folder / WEIGHTS)
            learned = (folder / SIMILARITY).exists() and load_file(folder / SIMILARITY)
        except FileNotFoundError as error:
            raise InputError(
                f"{error.filename or folder / WEIGHTS}: missing; train the run, or name its folder"
            ) from None
        except (json.JSONDecodeError, SafetensorError) as error:
            raise InputError(f"{folder}: damaged run ({error}); train it again") from None
        model = MaskedSlotModel(config.model, *state["feature_mean"].shape)
        try:
            model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        except RuntimeError:
            raise InputError(
                f"{folder / WEIGHTS}: does not fit {folder / CONFIG}; one of the two was changed"
            ) from None
        return cls(model.eval(), config, provenance, learned["projection"] if learned else None)


def save_run(
    folder: Path, model: MaskedSlotModel, config: RunConfig, history: str, provenance: dict
) -> None:
    """Write all files of a run; the weights come last, so that they vouch for the rest."""
    write_text(folder / CONFIG, dump_yaml(config.dependencies()))
    write_text(folder / HISTORY, history)
    write_text(folder / PROVENANCE, json.dumps(provenance, indent=2) + "\n")
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    with whole_file(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(state))  # save_file would make it unreadable to others
