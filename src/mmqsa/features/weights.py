"""Weights of a backbone: random, a local file, or what timm downloads."""

import hashlib
import warnings
from pathlib import Path
from textwrap import shorten
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mmqsa.config.base import expand
from mmqsa.config.data import BackboneConfig
from mmqsa.config.files import check_regular
from mmqsa.errors import InputError
from mmqsa.features.positions import smooth_positions


def create(config: BackboneConfig, pretrained: bool, **size: Any) -> Any:
    """Whatever network timm has of that name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return timm.create_model(config.name, pretrained=pretrained, num_classes=0, **size)


def backbone_weights(
    config: BackboneConfig, native: Any = None
) -> tuple[dict[str, Tensor], str | None]:
    """State dict at the network's native size, and the sha256 of the file, where it is a file."""
    native = native or create(config, pretrained=False)
    if not config.pretrained:
        if config.weights:
            raise InputError("backbone.weights: given, but backbone.pretrained is false; drop one")
        state = native.state_dict()
        if "pos_embed" in state:
            state["pos_embed"] = smooth_positions(native, state["pos_embed"])
        return state, None
    if config.weights:
        path = Path(expand(config.weights, "backbone.weights"))
        return _local_weights(path, native, config.name), _file_sha256(path)
    try:
        state = create(config, pretrained=True).state_dict()
    except Exception as error:
        reason = shorten(str(error), 90, placeholder="…")
        pretrained: Any = native.pretrained_cfg
        hub = pretrained.get("hf_hub_id") or f"timm/{config.name}"
        raise InputError(
            f"backbone.name: the pretrained weights of {config.name!r} could not be loaded "
            f"({reason}); on a machine with the network fetch model.safetensors from "
            f"https://huggingface.co/{hub} and name the file in backbone.weights"
        ) from None
    return state, None


def _local_weights(path: Path, native: Any, name: str) -> dict[str, Tensor]:
    """Weights from a .safetensors or a tensors-only .pth file, checked against the network."""
    check_regular(path)
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:  # weights_only: a pickle that holds code is refused, never run
            with warnings.catch_warnings(action="ignore"):  # of kinds that are refused below
                state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; correct backbone.weights") from None
    except (SafetensorError, RuntimeError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: not readable as weights ({reason})") from None
    except Exception as error:
        reason = f"not a plain tensor file: {type(error).__name__}"
        raise InputError(f"{path}: not readable as weights ({reason})") from None
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, not tensors by name")
    expected = native.state_dict()
    weights = {}
    for key, tensor in expected.items():
        found = state.get(key)
        if not isinstance(found, Tensor):
            raise InputError(f"{path}: has no {key}; these are not the weights of {name}")
        if not _is_plain(found):
            raise InputError(
                f"{path}: {key} is no plain array of real numbers but {_kind(found)}; "
                "save the weights as dense float tensors"
            )
        shapes = tuple(found.shape), tuple(tensor.shape)
        if shapes[0] != shapes[1]:
            raise InputError(
                f"{path}: {key} is {shapes[0]}, {name} has {shapes[1]}; "
                "these are another network's weights: correct backbone.name or backbone.weights"
            )
        weights[key] = found.float()
        if not weights[key].isfinite().all():
            raise InputError(f"{path}: {key} is not finite; fetch the weights again")
    return weights


def _is_plain(tensor: Tensor) -> bool:
    """Whether it is a dense array of real numbers in memory."""
    strided = tensor.layout is torch.strided and not tensor.is_nested
    return strided and tensor.device.type == "cpu" and tensor.dtype.is_floating_point


def _kind(tensor: Tensor) -> str:
    return f"{'nested ' * tensor.is_nested}{tensor.dtype} on {tensor.device}, {tensor.layout}"


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_sha256(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
