"""Size: a plan of thousands of jobs, and a cache of as many images as COCO's train split.

    python benchmarks/scale.py --scratch FOLDER    # needs 20 GB there; 15 minutes on two cores

The photographs are links to a few synthetic ones, the network is random and cut after its first
keys: what is measured is everything around it. Peaks are of a process's own (anonymous) memory,
looked at ten times a second: pages of a mapped file are the system's, to take back when it likes.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import yaml
from PIL import Image

import cases
from mmqsa.config.files import dump_yaml
from mmqsa.config.workflow import Config
from mmqsa.device import describe
from mmqsa.workload import IMAGES
from publish import publish

COCO = IMAGES["coco"]["train"]
ROOT = Path(__file__).parents[1]
CORRUPTIONS = ("noise", "blur", "contrast", "jpeg", "fog", "pixelate")
PHOTOGRAPHS, SIDE = 50, 320
CONFIG = Config.model_validate(
    {
        "backbone": {
            **{"name": "vit_tiny_patch16_224", "pretrained": False, "blocks": [0]},
            **{"mean": [0.5] * 3, "std": [0.5] * 3, "image_size": SIDE},
        },
        "slots": {"slot_dim": 192, "encoder_dim": 384, "mlp_dim": 384},
        "decoder": {"hidden_dim": 256, "patches_per_step": 64},
        "training": {"batch_size": 16, "log_every": 100},
    }
)


def plan(folder: Path, settings: int, seeds: int) -> dict:
    """A dry run of a grid on clean images and six corruptions."""
    names = ["full", *(f"s{index}" for index in range(1, settings))]
    tables = yaml.safe_load((ROOT / "config/tables.yaml").read_text())["tables"]
    images = {"clean": ["val"], **{kind: [f"val-{kind}3"] for kind in CORRUPTIONS}}
    changes = {
        "settings": {name: {"masking": {"ratio": 0.5}} for name in names[1:]},
        "grid": names,
        "seeds": list(range(seeds)),
        "tables": dict.fromkeys(tables)
        | {"all": {"caption": "All", "settings": names, "images": images}},
    }
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(changes))
    command = [sys.executable, "-m", "snakemake", "-n", "-F", "--configfile", path]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    total = next(line for line in done.stdout.splitlines() if line.startswith("total"))
    what = f"plan of {settings} settings x {seeds} seeds x {len(images)} image sets"
    return {"what": what, "count": int(total.split()[1]), "seconds": seconds}


def photographs(folder: Path, number: int) -> Path:
    """A VOC folder whose train split has ``number`` images, links to a few."""
    rng, voc = np.random.default_rng(0), folder / f"voc{number}"
    for below in ("JPEGImages", "ImageSets/Segmentation", "few"):
        (voc / below).mkdir(parents=True)
    few = [voc / "few" / f"{index}.jpg" for index in range(PHOTOGRAPHS)]
    for path in few:
        coarse = rng.integers(0, 255, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((SIDE, SIDE)).save(path, quality=90)
    ids = [f"{index:06d}" for index in range(number)]
    for index, image_id in enumerate(ids):
        (voc / "JPEGImages" / f"{image_id}.jpg").symlink_to(few[index % PHOTOGRAPHS])
    (voc / "ImageSets/Segmentation/train.txt").write_text("\n".join(ids))
    return voc


def peak(*arguments: str | Path) -> float:
    """MB of its own that Python has at most, called with these arguments."""
    command, most = [sys.executable, *map(str, arguments)], 0
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors) as process,
    ):
        while process.poll() is None:
            with contextlib.suppress(OSError, StopIteration):  # it ended meanwhile
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                own = next(line for line in lines if line.startswith("RssAnon"))
                most = max(most, int(own.split()[1]))
            time.sleep(0.1)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(errors.read().decode())
    return most / 1024


def measured(what: str, count: int, *arguments: str | Path) -> dict:
    """A stage in a process of its own: seconds, images a second, peak."""
    started = time.perf_counter()
    most = peak("-m", "mmqsa", *arguments)
    seconds = time.perf_counter() - started
    return {
        "what": what,
        "count": count,
        "seconds": seconds,
        "per s": count / seconds,
        "MB": most,
    }


def stages(folder: Path, sizes: list[int], steps: int) -> Iterator[dict]:
    """Extraction of each size, and a training on it."""
    changed = CONFIG.changed("benchmark", {"training": {"steps": steps}})
    config = folder / "config.yaml"
    config.write_text(dump_yaml(changed.model_dump(mode="json")))
    for size in sizes:
        cache, run = folder / f"{size}.h5", folder / f"run{size}"
        common = ["--config", config, "--device", "cpu"]
        extract = ["extract", "--data", photographs(folder, size), "--split", "train", *common]
        yield measured(f"extraction of {size:,} images", size, *extract, "--out", cache)
        seen = steps * CONFIG.training.batch_size
        train = ["train", "--features", cache, *common, "--out", run]
        row = measured(f"training on {size:,} images", seen, *train)
        made = json.loads((run / "provenance.json").read_text())
        # Its own seconds: reading all features once, for their mean, is not a step.
        row |= {"seconds": made["seconds"], "per s": made["images_per_second"]}
        gigabytes = cache.stat().st_size / 1e9
        row["what"] += f", {gigabytes:.1f} GB of features in {made['features_in']}"
        yield row


def main(
    scratch: Annotated[Path | None, typer.Option(help="Folder with room for 20 GB.")] = None,
    images: Annotated[int, typer.Option(help="Of the large cache.")] = COCO,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: does it run?")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for csv and markdown.")] = None,
) -> None:
    """Print the table; write it to --out."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        if quick:
            rows = chain([plan(folder, 5, 2)], stages(folder, [20], 4))
        else:
            rows = chain([plan(folder, 100, 10)], stages(folder, [2_000, images], 400))
        publish("scale", rows, describe(cases.torch.device("cpu")), out)


if __name__ == "__main__":
    typer.run(main)
