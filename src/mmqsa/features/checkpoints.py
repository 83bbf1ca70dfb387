"""Tensors of a network in a file of weights, plain or a whole checkpoint of a training.

A checkpoint keeps the network below other names (``teacher``, ``module.backbone.``), beside heads,
other networks and the state of the optimiser. Nothing in a file is run: a pickle may hold tensors,
plain values and ``argparse.Namespace``, in which DINO keeps its options.
"""

import re
import sys
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from io import StringIO
from math import isqrt
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mmqsa.config.files import check_regular
from mmqsa.errors import InputError
from mmqsa.progress import notice

PROBE = "patch_embed.proj.weight"  # every network that is taken here has it
WRAPPERS = re.compile(r"\b(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
CHUNK = re.compile(r"^blocks\.\d+\.(?=\d+\.)")  # DINOv2 counts blocks through all its chunks
# A tensor of the network itself: where one is left over, the file's network is another.
OWN = re.compile(
    r"(blocks|norm_pre|patch_embed|pos_embed|cls_token|dist_token|reg\w*_tokens?|storage_tokens)\b"
)
TRANSFORMERS = re.compile(r"\bembeddings\.(patch_embeddings|cls_token)\b")  # Hugging Face's names
DEPTH = 8  # dictionaries in dictionaries


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors or a tensors-only torch file, nested names joined by dots."""
    check_regular(path)
    try:
        loaded = load_file(path) if _is_safetensors(path) else _unpickled(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; correct backbone.weights") from None
    except (SafetensorError, RuntimeError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: not readable as weights ({reason})") from None
    except Exception as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if not found:
            reason = f"not a plain tensor file: {type(error).__name__}"
            raise InputError(f"{path}: not readable as weights ({reason})") from None
        raise InputError(
            f"{path}: not readable as weights (it holds {found[1]}, and Python objects are never "
            "loaded); where you trust it, load it with torch.load(FILE, weights_only=False) and "
            "save its state_dict alone with torch.save"
        ) from None
    if not isinstance(loaded, dict):
        raise InputError(f"{path}: holds a {type(loaded).__name__}, not tensors by name")
    tensors: dict[str, Tensor] = {}
    for key, tensor in _flat(loaded, seen=set()):
        if key in tensors:
            raise InputError(f"{path}: has {key} twice; save the tensors of one network alone")
        tensors[key] = tensor
    if not tensors:
        raise InputError(f"{path}: holds no tensors by name; it has {_some([*map(str, loaded)])}")
    return tensors


def _is_safetensors(path: Path) -> bool:
    """By content: hubs and people call either kind .bin, .pt or anything."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"  # after the length of the head, which is JSON


def _unpickled(path: Path) -> Any:
    allowed = torch.serialization.safe_globals([Namespace])
    with allowed, warnings.catch_warnings(action="ignore"):  # on kinds of tensors, refused later
        return torch.load(path, map_location="cpu", weights_only=True)


def _flat(table: dict, seen: set[int], prefix: str = "", depth: int = 0) -> Iterator:
    """(name, tensor) of a dictionary and those in it; each is looked into once."""
    seen.add(id(table))
    for key, value in table.items():
        name = WRAPPERS.sub("", f"{prefix}{key}")
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, dict) and id(value) not in seen and depth < DEPTH:
            yield from _flat(value, seen, f"{name}.", depth + 1)


def network_weights(path: Path, native: Any, name: str) -> dict[str, Tensor]:
    """The weights of ``native``, timm's network ``name``, out of a file that may hold more.

    Positions may be those of another square grid. Of several networks the teacher is taken, else
    the average (``ema``). Raises InputError where none fits, or two alike.
    """
    tensors = read_tensors(path)
    prefixes = [key.removesuffix(PROBE) for key in tensors if f".{key}".endswith(f".{PROBE}")]
    found = [_Candidate.of(tensors, prefix, native, name) for prefix in prefixes]
    found.sort(key=lambda one: one.rank)
    if not found:
        raise InputError(f"{path}: {_no_network(list(tensors), native, name)}")
    fitting = [one for one in found if not one.fault]
    if not fitting:
        raise InputError(f"{path}: {found[0].fault}")
    chosen = fitting[0]
    if len(fitting) > 1 and fitting[1].rank == chosen.rank:
        raise InputError(
            f"{path}: holds two networks like {name}, {chosen.place} and {fitting[1].place}; "
            "save the tensors of one of them alone"
        )
    unused = [key for key in tensors if not key.startswith(chosen.prefix)] + chosen.unused
    if unused:
        others = ", ".join(one.place for one in found if one is not chosen)
        notice(
            f"{path}: takes the weights {chosen.place}"
            + f", not those {others}" * bool(others)
            + f"; not used: {len(unused)} tensor{'s'[: len(unused) != 1]}, such as {unused[0][:80]}"
        )
    weights = {key: chosen.weights[key].float() for key in native.state_dict()}
    for key, tensor in weights.items():
        if not tensor.isfinite().all():
            raise InputError(f"{path}: {chosen.prefix}{key} is not finite; fetch the weights again")
    return weights


@dataclass
class _Candidate:
    """One of the networks in a file."""

    prefix: str
    weights: dict[str, Tensor]
    """by timm's names"""
    unused: list[str]
    fault: str
    """why these are not the weights that are looked for; empty where they are"""

    @property
    def rank(self) -> int:
        """DINO evaluates its teacher, and timm the average."""
        words = re.split(r"[._]", self.prefix.lower())
        return 0 if "teacher" in words else 1 if "ema" in words else 2

    @property
    def place(self) -> str:
        return f"below {self.prefix.rstrip('.')!r}" if self.prefix else "at the top"

    @classmethod
    def of(cls, tensors: dict[str, Tensor], prefix: str, native: Any, name: str) -> Self:
        """The network below ``prefix``, compared with ``native``."""
        inside = [key for key in tensors if key.startswith(prefix)]
        own = {CHUNK.sub("blocks.", key.removeprefix(prefix)): tensors[key] for key in inside}
        expected = native.state_dict()
        weights, fault = own, _misfit(PROBE, own[PROBE], expected[PROBE], native, name)
        if len(own) < len(inside):
            fault = fault or "counts its blocks anew in every chunk; count them through"
        if not fault and not expected.keys() <= own.keys():
            weights = _by_timms_names(own, native)
        for key in expected:
            if key not in weights:
                fault = fault or f"has no {prefix}{key}; these are not the weights of {name}"
            fault = fault or _misfit(key, weights[key], expected[key], native, name)
        for key in [*weights, *_lost_biases(own, weights)]:
            if key not in expected and OWN.match(key):
                fault = fault or (
                    f"has {prefix}{key}, and {name} has none; these are another network's weights: "
                    "correct backbone.name or backbone.weights"
                )
        used = {id(weights[key]) for key in expected.keys() & weights.keys()}
        unused = [key for key in own if key not in expected and id(own[key]) not in used]
        return cls(prefix, weights, [f"{prefix}{key}" for key in unused], fault)


def _misfit(key: str, found: Tensor, expected: Tensor, native: Any, name: str) -> str:
    """Why a tensor is not that of the network ``native``; empty where it is."""
    strided = found.layout is torch.strided and not found.is_nested
    if not (strided and found.device.type == "cpu" and found.dtype.is_floating_point):
        kind = f"{'nested ' * found.is_nested}{found.dtype} on {found.device}, {found.layout}"
        return (
            f"{key} is no plain array of real numbers but {kind}; save the weights as dense float "
            "tensors"
        )
    shapes = tuple(found.shape), tuple(expected.shape)
    if shapes[0] == shapes[1] or (key == "pos_embed" and position_grid(found, native)):
        return ""
    return (
        f"{key} is {shapes[0]}, {name} has {shapes[1]}; these are another network's "
        "weights: correct backbone.name or backbone.weights"
    )


def position_grid(positions: Tensor, native: Any, prefix: int | None = None) -> int:
    """Patches a side of the square that positions (1, prefix + g*g, D) are for; 0: of none."""
    if prefix is None:
        prefix = native.pos_embed.shape[1] - native.patch_embed.num_patches
    if positions.ndim != 3 or positions.shape[::2] != native.pos_embed.shape[::2]:
        return 0
    side = isqrt(max(0, positions.shape[1] - prefix))
    return side * (side**2 + prefix == positions.shape[1])


def _by_timms_names(tensors: dict[str, Tensor], native: Any) -> dict[str, Tensor]:
    """An official layout that timm knows (DINOv2 with registers, DINOv3) by timm's names.

    timm would resample positions, by a rule that is not DINO's: it is shown a network of their
    grid. As they are, where timm fails on them: the tensor at fault is named later.
    """
    marked, network = dict(tensors), native
    if "register_tokens" in marked:  # timm knows DINOv2 by its mask token
        marked.setdefault("mask_token", torch.zeros(1))
    positions = marked.get("pos_embed")
    try:
        if positions is not None and native.pos_embed is not None:
            side = position_grid(positions, native) or position_grid(positions, native, prefix=1)
            if side != native.patch_embed.grid_size[0]:
                patch = native.patch_embed.patch_size[0]
                network = deepcopy(native)
                network.set_input_size((side * patch, side * patch))
        with redirect_stdout(StringIO()):  # where timm prints what it leaves out
            return sys.modules[type(native).__module__].checkpoint_filter_fn(marked, network)
    except Exception:
        return tensors


def _lost_biases(own: dict[str, Tensor], weights: dict[str, Tensor]) -> list[str]:
    """Biases of queries and values that timm left out, though they are not zero.

    Those of DINOv3 are zero, and timm has its networks without and with them (``_qkvb``).
    """
    lost = [key for key in own if key.endswith("attn.qkv.bias") and key not in weights]
    lost = [key for key in lost if key.replace("qkv.bias", "q_bias") not in weights]
    return [key for key in lost if any(part.any() for part in own[key].chunk(3)[::2])]


def hub_file(native: Any, name: str) -> str:
    """Where timm's own file of a network's weights is."""
    hub = native.pretrained_cfg.get("hf_hub_id") or f"timm/{name}"
    return f"model.safetensors from https://huggingface.co/{hub}"


def _some(keys: list[str]) -> str:
    """The first of many names."""
    shown = ", ".join(" ".join(key.split())[:80] for key in keys[:3])
    return (shown or "nothing") + f" and {len(keys) - 3} more" * (len(keys) > 3)


def _no_network(keys: list[str], native: Any, name: str) -> str:
    """What a file has that holds no network like ``native``."""
    first = next(iter(native.state_dict()))
    shown = _some(keys)
    if not any(map(TRANSFORMERS.search, keys)):
        return f"has no {first}; it has {shown}: these are not the weights of {name}"
    return (
        f"has no {first}; it has {shown}: these names are those of Hugging Face's transformers; "
        f"take timm's, {hub_file(native, name)}"
    )
