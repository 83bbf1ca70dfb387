"""What each file of config/backbones costs: cache of VOC 2012 and images/s, with random weights.

python benchmarks/backbones.py              # about two minutes on 2 cores
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import timm
import torch
import typer

from mmqsa.config.files import read_yaml
from mmqsa.config.workflow import Config
from mmqsa.device import choose_device, describe
from mmqsa.features.backbone import load_backbone
from publish import publish

FOLDER = Path(__file__).parents[1] / "config/backbones"
VOC = 15_676 + 1_449  # images to train on (all but val) and of val


def rows(device: torch.device, quick: bool) -> Iterator[dict]:
    """A row per file of config/backbones."""
    for path in sorted(FOLDER.glob("*-vits16.yaml" if quick else "*.yaml")):
        config = Config.model_validate(read_yaml(path)).backbone
        backbone = load_backbone(config.model_copy(update={"pretrained": False}))
        backbone.network.to(device)
        side, num_images = config.image_size, 1 if quick else 8
        images = torch.zeros(num_images, 3, side, side, device=device)
        times = []
        for _ in range(1 if quick else 3):
            begun = time.perf_counter()
            backbone.features(images).cpu()
            times.append((time.perf_counter() - begun) / num_images)
        patches, dim = backbone.grid**2, backbone.feature_dim
        yield {
            "config/backbones": path.name,
            "timm's name": config.name,
            "licence": timm.get_pretrained_cfg(config.name).license,
            "patch": side // backbone.grid,
            "patches": patches,
            "dim": dim,
            "positions": backbone.position_rule,
            "VOC cache, GB": VOC * patches * dim * 2 / 1e9,
            "images/s": 1 / min(times),
        }


def main(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="Two of them: does it run?")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for csv and markdown.")] = None,
) -> None:
    """Print the table; write it to --out."""
    used = choose_device(device, False)
    publish("backbones", rows(used, quick), describe(used), out)


if __name__ == "__main__":
    typer.run(main)
