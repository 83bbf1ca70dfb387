"""Weights of a backbone: random, a local file, or what timm downloads."""

import hashlib
from pathlib import Path
from textwrap import shorten
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmqsa.atomic import whole_file
from mmqsa.config.base import expand
from mmqsa.config.data import BackboneConfig
from mmqsa.config.files import check_regular
from mmqsa.errors import InputError
from mmqsa.features.checkpoints import hub_file, network_weights
from mmqsa.features.positions import smooth_positions


def create(config: BackboneConfig, pretrained: bool, **size: Any) -> Any:
    """Whatever network timm has of that name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return timm.create_model(config.name, pretrained=pretrained, num_classes=0, **size)


def backbone_weights(
    config: BackboneConfig, native: Any = None, fetched: Path | None = None
) -> tuple[dict[str, Tensor], str | None]:
    """State dict at the size of the weights, and the sha256 of ``backbone.weights``, if given.

    ``fetched`` is a file of ``fetch_weights``: with it timm downloads nothing.
    """
    native = native or create(config, pretrained=False)
    if fetched and (config.weights or not config.pretrained):
        key = "weights" if config.weights else "pretrained"
        raise InputError(
            f"--weights: backbone.{key} says which weights to use; drop one of the two"
        )
    if not config.pretrained:
        if config.weights:
            raise InputError("backbone.weights: given, but backbone.pretrained is false; drop one")
        state = native.state_dict()
        if "pos_embed" in state:
            state["pos_embed"] = smooth_positions(native, state["pos_embed"])
        return state, None
    if config.weights:
        path = Path(expand(config.weights, "backbone.weights"))
        return network_weights(path, native, config.name), _file_sha256(path)
    if fetched:
        return _read_fetched(fetched, config.name), None
    return _from_timm(config, native), None


def _from_timm(config: BackboneConfig, native: Any) -> dict[str, Tensor]:
    """The weights that timm has, or downloads now."""
    try:
        return create(config, pretrained=True).state_dict()
    except Exception as error:
        reason = shorten(str(error), 90, placeholder="…")
        raise InputError(
            f"backbone.name: the pretrained weights of {config.name!r} could not be loaded "
            f"({reason}); on a machine with the network fetch {hub_file(native, config.name)} and "
            "name the file in backbone.weights, or for a trained run in --backbone"
        ) from None


def fetch_weights(config: BackboneConfig, native: Any, out: Path) -> bool:
    """Write what timm has of the network ``native`` to ``out``; False where it is there already.

    Raises InputError where the config needs none, and where ``out`` is another file, which stays.
    """
    if config.weights or not config.pretrained:
        key, what = ("weights", "a file") if config.weights else ("pretrained", "random weights")
        raise InputError(f"backbone.{key}: {what}, so that there is nothing to fetch")
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: weights are called NAME.safetensors; correct --out")
    if out.exists():
        _read_fetched(out, config.name)
        return False
    state = _from_timm(config, native)
    about = {"backbone": config.name, "state_sha256": state_sha256(state)}
    with whole_file(out) as temporary:
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, temporary, about)
    return True


def _read_fetched(path: Path, name: str) -> dict[str, Tensor]:
    """The weights in a file of ``fetch_weights``, checked against the hash in it."""
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; write it with `mmqsa weights`") from None
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: no whole file of `mmqsa weights` ({error}); if it is of your own, name it in "
            "backbone.weights, else delete it and fetch it again"
        ) from None
    if "state_sha256" not in about:
        raise InputError(
            f"{path}: was not written by `mmqsa weights`; it stays: name a file of your own in "
            "backbone.weights"
        )
    if about.get("backbone") != name:
        raise InputError(
            f"{path}: holds the weights of {about.get('backbone')}, not of {name}; it stays: name "
            "another file"
        )
    if state_sha256(state) != about["state_sha256"]:
        raise InputError(f"{path}: damaged (its hash differs); delete it and fetch it again")
    return state


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_sha256(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
