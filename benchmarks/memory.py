"""Peak memory of extraction and training, each in a process of its own.

    python benchmarks/memory.py

Peaks are of the resident set, as the kernel counts it. What the libraries take before any work is
the first row.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

import cases
from mmqsa.config.files import dump_yaml
from mmqsa.config.workflow import Config
from mmqsa.data.scenes import write_scenes
from mmqsa.device import describe
from publish import publish


def peak(*arguments: str | Path) -> float:
    """MB that Python takes at most, called with these arguments."""
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(process.stderr.read().decode())
    return usage.ru_maxrss / 1024


def rows(folder: Path, quick: bool) -> Iterator[dict]:
    """A row per stage and size."""
    config = Config.model_validate(cases.RANDOM_VIT)
    (folder / "vit.yaml").write_text(dump_yaml(config.model_dump(mode="json")))
    yield {"what": "libraries alone", "MB": peak("-c", "import mmqsa.training.loop")}
    for images in (4,) if quick else (32, 128):
        root = folder / f"scenes{images}"
        scenes = config.dataset.scenes
        write_scenes(scenes.model_copy(update={"train": images, "val": 1, "side": 375}), root)
        arguments = [
            "-m",
            "mmqsa",
            "extract",
            "--data",
            root,
            "--split",
            "train",
            "--device",
            "cpu",
        ]
        arguments += ["--config", folder / "vit.yaml", "--out", folder / f"{images}.h5"]
        yield {"what": f"extraction of {images} images", "MB": peak(*arguments)}
    for images in (8,) if quick else (256, 1024):
        cache = cases.write_cache(folder / f"cache{images}.h5", images)
        size = cache.stat().st_size / 2**20
        for batch, decoder in product((1,) if quick else (4, 16), ("MLP", "transformer")):
            changes = {
                "training": {"steps": 3, "batch_size": batch, "log_every": 3},
                "features": {"standardise": "none"},
                "decoder": cases.TRANSFORMER if decoder == "transformer" else {},
            }
            changed = Config.model_validate(changes)
            (folder / "run.yaml").write_text(dump_yaml(changed.model_dump(mode="json")))
            out = folder / f"{images}-{batch}-{decoder}"
            arguments = ["-m", "mmqsa", "train", "--features", cache, "--device", "cpu"]
            arguments += ["--config", folder / "run.yaml", "--out", out]
            name = f"training, {decoder} decoder, batch {batch}, "
            name += f"features of {images} images ({size:.0f} MB) in memory"
            yield {"what": name, "MB": peak(*arguments)}


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: does it run?")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for csv and markdown.")] = None,
) -> None:
    """Print the table; write it to --out."""
    with tempfile.TemporaryDirectory() as folder:
        publish("memory", rows(Path(folder), quick), describe(cases.torch.device("cpu")), out)


if __name__ == "__main__":
    typer.run(main)
