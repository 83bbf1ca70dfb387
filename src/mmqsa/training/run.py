"""A trained run on disk: weights, resolved settings, history and provenance in one folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mmqsa.atomic import whole_file, write_text
from mmqsa.errors import InputError
from mmqsa.model.discovery import MaskedSlotModel
from mmqsa.settings import Settings, dump_yaml

WEIGHTS, SETTINGS, HISTORY, PROVENANCE = (
    "model.safetensors",
    "settings.yaml",
    "history.csv",
    "provenance.json",
)
SIMILARITY = "similarity.safetensors"  # there once one was learned


@dataclass
class Run:
    """A trained model and where it came from; ``similarity`` (W, W) is None until learned."""

    model: MaskedSlotModel
    settings: Settings
    provenance: dict
    similarity: Tensor | None = None

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Raises InputError when a file of the run is missing or does not fit the others."""
        folder = Path(folder)
        settings = Settings.load(folder / SETTINGS)
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
        model = MaskedSlotModel(settings, *state["feature_mean"].shape)
        try:
            model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        except RuntimeError:
            raise InputError(
                f"{folder / WEIGHTS}: does not fit {folder / SETTINGS}; one of the two was changed"
            ) from None
        return cls(model.eval(), settings, provenance, learned["projection"] if learned else None)


def save_run(
    folder: Path, model: MaskedSlotModel, settings: Settings, history: str, provenance: dict
) -> None:
    """Write all files of a run; the weights come last, so that they vouch for the rest."""
    write_text(folder / SETTINGS, dump_yaml(settings.sections()))
    write_text(folder / HISTORY, history)
    write_text(folder / PROVENANCE, json.dumps(provenance, indent=2) + "\n")
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    with whole_file(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(state))  # save_file would make it unreadable to others
