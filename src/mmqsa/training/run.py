"""A trained run on disk: weights, resolved config, history and provenance in one folder."""

import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmqsa.atomic import whole_file, write_text
from mmqsa.config.base import DESCRIBES, validated
from mmqsa.config.choices import ALIKE, MatchingName
from mmqsa.config.files import check_regular, dump_yaml, quoted, read_yaml
from mmqsa.config.provenance import read_provenance
from mmqsa.config.training import RunConfig
from mmqsa.errors import InputError
from mmqsa.features.attributes import CacheAttributes, check_attributes
from mmqsa.features.cache import FeatureCache
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.model.merging import Merging
from mmqsa.model.slot_fusion import SlotFusion
from mmqsa.paths import (
    CHECKPOINT,
    CONFIG,
    FUSION,
    HISTORY,
    LEARNED,
    METRICS,
    PROVENANCE,
    SIMILARITY,
    SNAPSHOTS,
    WEIGHTS,
)

CONFIG_SHA256 = "config_sha256"  # in the metadata of weights
MAX_BYTES = 2_000_000_000  # of weights: twice those of the largest model that is trained


@dataclass
class Run:
    """A trained model, its config and provenance, and what was learned to merge its heads by.

    >>> run = Run.load("run")
    >>> run.config.slots.num_slots, run.provenance["seed"]
    (4, 0)
    >>> features = torch.from_numpy(FeatureCache("val.h5").features[:2])
    >>> noise = run.model.noise(2, torch.Generator().manual_seed(0))
    >>> run.model.segment(features, noise)["attention"].shape  # (B, K, N)
    torch.Size([2, 4, 36])
    """

    model: MaskedSlotModel
    config: RunConfig
    provenance: dict
    similarity: Tensor | None = None
    """(D_slot, D_slot) projection of slots"""
    fusion: SlotFusion | None = None

    @classmethod
    def load(cls, folder: str | Path, snapshot: int | None = None) -> "Run":
        """Read a run's folder, with the weights of its end or those after ``snapshot`` steps.

        Raises InputError when a file of the run is missing or does not fit the others.
        """
        folder = Path(folder)
        weights = folder / WEIGHTS if snapshot is None else snapshot_path(folder, snapshot)
        for path in (folder / CONFIG, folder / PROVENANCE, weights):
            if not path.is_file():
                raise InputError(f"{path}: missing; train the run, or name its folder")
        written = read_yaml(folder / CONFIG)
        config = validated(RunConfig, written, folder / CONFIG, DESCRIBES)
        provenance = read_provenance(folder / PROVENANCE)
        validated(CacheAttributes, provenance["cache"], f"{folder / PROVENANCE}: cache")
        state, about = read_tensors(weights)
        if about.get(CONFIG_SHA256, config_sha256(written)) != config_sha256(written):
            raise InputError(
                f"{folder / CONFIG}: was changed since {weights} was trained with it; restore it, "
                "or train another run"
            )
        model = _model(config, state)
        if model is None:
            raise InputError(
                f"{weights}: does not fit {folder / CONFIG}; one of the two was changed"
            )
        learned = _similarity(folder, config), _fusion(folder, config)
        return cls(model.eval(), config, provenance, *learned)

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
        _remove_snapshots(folder)  # of another training
        (folder / SNAPSHOTS).mkdir(parents=True, exist_ok=True)
        settings = self.config.dependencies()
        about = {CONFIG_SHA256: config_sha256(settings)}
        for step, weights in snapshots.items():
            _save_weights(weights, snapshot_path(folder, step), about)
        write_text(folder / CONFIG, dump_yaml(settings))
        lines = ["step,loss,learning_rate,images_per_second"]
        lines += [
            f"{step},{loss:.6f},{rate:.3e},{speed:.1f}" for step, loss, rate, speed in history
        ]
        write_text(folder / HISTORY, "\n".join(lines) + "\n")
        write_text(folder / PROVENANCE, json.dumps(self.provenance, indent=2) + "\n")
        _save_weights(self.model.state_dict(), folder / WEIGHTS, about)

    def merging(self, alike: float = ALIKE, asked: Collection[MatchingName] = ()) -> Merging:
        """What merges its heads.

        Raises InputError when one of the matchings that are ``asked`` for was not learned.
        """
        for matching, learned, command in (
            ("learned", self.similarity, "similarity"),
            ("fusion", self.fusion, "fusion"),
        ):
            if matching in asked and learned is None:
                raise InputError(
                    f"matching {matching}: this run has no learned {command}; run "
                    f"`mmqsa {command}`, or choose another"
                )
        return Merging(self.similarity, self.fusion, alike)

    def check_cache(self, cache: FeatureCache) -> None:
        """Raises InputError when a cache was made with another backbone than the run's."""
        trained_on = self.provenance["cache"]
        expected = {name: trained_on.get(name) for name in cache.network}
        expected["features"] = tuple(self.model.feature_mean.shape)
        check_attributes(cache.network, expected, cache.path, "the trained run")


def finished_run(
    folder: Path, config: RunConfig, cache: FeatureCache, seed: int
) -> dict[str, Any] | None:
    """The provenance of the run that is asked for, if it is in ``folder``; None without any.

    Raises InputError that shows the first difference when another run is there, or other files of
    the same names.
    """
    mine = [folder / name for name in (CONFIG, HISTORY, PROVENANCE)]
    if (folder / SNAPSHOTS).exists() and not (folder / SNAPSHOTS).is_dir():
        raise InputError(f"{folder / SNAPSHOTS}: a file, where a run has a folder; name another")
    if not (folder / WEIGHTS).exists():
        others = [path for path in mine if path.exists()]
        if others and not (folder / CHECKPOINT).exists():
            raise InputError(
                f"{others[0]}: exists, and {WEIGHTS} does not: these are not the files of a run "
                "that can go on; name another folder"
            )
        return None
    asked = config.dependencies() | {"seed": seed, "features": cache.fingerprint}
    provenance = read_provenance(folder / PROVENANCE)
    there = read_yaml(folder / CONFIG)
    there |= {"seed": provenance["seed"], "features": provenance["cache_fingerprint"]}
    if difference := first_difference(there, asked):
        raise InputError(
            f"{folder}: holds a finished run with {difference}; name another folder, or give "
            "--overwrite to remove that run and all that was made from it"
        )
    return provenance


def remove_run(folder: Path) -> None:
    """Remove a run's files, finished or not, and what was made from them; others stay."""
    for name in (WEIGHTS, CONFIG, HISTORY, PROVENANCE, CHECKPOINT):
        (folder / name).unlink(missing_ok=True)
    for name in LEARNED:
        (folder / name).unlink(missing_ok=True)
        (folder / name).with_suffix(".json").unlink(missing_ok=True)
    _remove_snapshots(folder)
    remove_metrics(folder)


def remove_metrics(folder: Path) -> None:
    """Remove a run's scores and label maps; other files stay, and so does their folder."""
    _remove(folder / METRICS, "*.csv", "*.csv.gz", "*-label_maps.h5")


def _remove_snapshots(folder: Path) -> None:
    _remove(folder / SNAPSHOTS, "step*")


def _remove(folder: Path, *patterns: str) -> None:
    """Remove the files of some names from a folder, and the folder if it is empty then."""
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        path.unlink()
    with suppress(OSError):
        folder.rmdir()


def first_difference(there: Mapping[str, Any], asked: Mapping[str, Any], where: str = "") -> str:
    """``key = value, not value`` of the first key that differs; empty without any."""
    for key in dict.fromkeys([*asked, *there]):
        one, two, name = there.get(key), asked.get(key), f"{where}{key}"
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            if difference := first_difference(one, two, f"{name}."):
                return difference
        elif one != two:
            return f"{name} = {quoted(one)}, not {quoted(two)}"
    return ""


def snapshot_path(folder: Path, step: int) -> Path:
    """The weights that a run had after ``step`` steps."""
    return folder / SNAPSHOTS / f"step{step}.safetensors"


def config_sha256(settings: Mapping[str, Any]) -> str:
    """Of a run's config as plain data: its weights carry it, so that an edited file is found.

    Where the backbone's weights are kept may change: their own hash is compared.
    """
    backbone = dict(settings.get("backbone", {}))
    backbone.pop("weights", None)
    text = json.dumps({**settings, "backbone": backbone}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file as float32, and its metadata.

    Raises InputError when it is missing, damaged, or a tensor is not finite.
    """
    check_regular(path)
    if path.exists() and path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES:,} bytes, so no weights of a run")
    try:
        with safe_open(path, "pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = file.metadata() or {}
    except FileNotFoundError:
        raise InputError(f"{path}: missing; train the run, or name its folder") from None
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: damaged run ({reason}); train it again") from None
    state = {}
    for name, tensor in stored.items():
        if not tensor.dtype.is_floating_point:
            raise InputError(f"{path}: {quoted(name)} is {tensor.dtype}; train the run again")
        state[name] = tensor.float()
        if not state[name].isfinite().all():
            raise InputError(f"{path}: {quoted(name)} is not finite; train the run again")
    return state, about


def _model(config: RunConfig, state: dict[str, Tensor]) -> MaskedSlotModel | None:
    """The model of a config with these weights; None where they do not fit."""
    mean = state.get("feature_mean")
    if mean is None or mean.ndim != 2:
        return None
    with torch.device("meta"):  # shapes alone: those of an edited config may not fit in memory
        expected = MaskedSlotModel(config.model, *mean.shape).state_dict()
    if {name: tensor.shape for name, tensor in expected.items()} != {
        name: tensor.shape for name, tensor in state.items()
    }:
        return None
    model = MaskedSlotModel(config.model, *mean.shape)
    model.load_state_dict(state)
    return model


def _similarity(folder: Path, config: RunConfig) -> Tensor | None:
    """The (D_slot, D_slot) projection of a run, once it is learned."""
    if not (folder / SIMILARITY).exists():
        return None
    state, _ = read_tensors(folder / SIMILARITY)
    width = config.slots.slot_dim
    if "projection" not in state or state["projection"].shape != (width, width):
        raise InputError(
            f"{folder / SIMILARITY}: no similarity of this run's slots; remove it, and run "
            "`mmqsa similarity` again"
        )
    return state["projection"]


def _fusion(folder: Path, config: RunConfig) -> SlotFusion | None:
    """The fusion of a run, once it is learned."""
    if not (folder / FUSION).exists():
        return None
    state, _ = read_tensors(folder / FUSION)
    sizes = config.slots.num_heads, config.slots.slot_dim
    width = next(iter(state.get("first.bias", torch.empty(0)).shape), 0)
    with torch.device("meta"):  # shapes alone: those of a damaged file may not fit in memory
        expected = SlotFusion(*sizes, width).state_dict() if width else {}
    if not width or {name: tensor.shape for name, tensor in expected.items()} != {
        name: tensor.shape for name, tensor in state.items()
    }:
        raise InputError(
            f"{folder / FUSION}: no fusion of this run's slots; remove it, and run `mmqsa fusion` "
            "again"
        )
    fusion = SlotFusion(*sizes, width)
    fusion.load_state_dict(state)
    return fusion.requires_grad_(False)


def _save_weights(weights: Mapping[str, Tensor], path: Path, about: dict[str, str]) -> None:
    """Write a model's weights, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with whole_file(path) as temporary:
        temporary.write_bytes(save(plain, about))  # save_file would make it unreadable to others
