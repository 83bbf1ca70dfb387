"""Export of a run to one folder that works wherever it is copied, without data or network."""

import shutil
from pathlib import Path

from safetensors.torch import save_file

from mmqsa.atomic import claimed, whole_file, write_text
from mmqsa.config.base import expand
from mmqsa.config.data import BackboneConfig
from mmqsa.discover.segmenter import BACKBONE, run_backbone
from mmqsa.errors import InputError
from mmqsa.features.weights import backbone_weights
from mmqsa.paths import CONFIG, HISTORY, LEARNED, PROVENANCE, WEIGHTS, is_inside
from mmqsa.training.run import Run

CARD = """---
library_name: mmqsa
tags: [object-discovery, slot-attention, image-segmentation, unsupervised]
---
# {name}

Masked multi-query slot attention for unsupervised object discovery, on {config.backbone.feature}s
of `{config.backbone.name}`: {config.slots.num_slots} slots, {config.slots.num_heads} heads,
{config.masking.strategy} masking of {config.masking.ratio:.0%}. Trained by mmqsa {made[mmqsa]} on
{made[num_images]:,} images ({made[cache][dataset]}, {made[cache][split]}),
{config.training.steps:,} steps of {config.training.batch_size} images.

With mmqsa installed:

    mmqsa discover --run FOLDER photo.jpg --out out

```python
from mmqsa.discover import load

segmenter = load("FOLDER")
objects = segmenter(Image.open("photo.jpg"))   # objects.masks, objects.boxes, objects.scores
```

`provenance.json` says what made the run; {holds}.
"""


def export(
    folder: Path, out: Path, with_backbone: bool = True, weights: Path | None = None
) -> list[Path]:
    """Copy a run's files to ``out``, its backbone's weights and a model card beside them.

    ``weights`` is a file of them; None: those in the run's folder, else those of its config.
    Raises InputError when ``out`` holds something already or lies in the run, the run is damaged,
    or the backbone's weights are not those that it was trained on.
    """
    if is_inside(out, folder):
        raise InputError(f"{out}: lies in the run {folder}; name a folder outside of it")
    if is_inside(folder, out):
        raise InputError(f"{out}: has the run {folder} in it; name a new folder")
    with claimed(folder, shared=True), claimed(out):
        if out.exists() and any(out.iterdir()):
            raise InputError(f"{out}: not empty; name a new folder")
        return _export(folder, Run.load(folder), out, with_backbone, weights)


def _export(
    folder: Path, run: Run, out: Path, with_backbone: bool, weights: Path | None
) -> list[Path]:
    """Export a run to an empty folder that no other process writes to."""
    backbone = None
    if with_backbone and run.config.backbone.pretrained:  # random weights are drawn again
        _, backbone = run_backbone(folder, run, weights)
    written = []
    for name in (CONFIG, HISTORY, PROVENANCE, WEIGHTS, *LEARNED):
        if (folder / name).is_file():
            with whole_file(out / name) as temporary:
                shutil.copyfile(folder / name, temporary)
            written.append(out / name)
    holds = "the weights of the backbone are made again by its name"
    if backbone:
        written.append(_export_backbone(backbone, out))
        holds = f"`{written[-1].name}` holds the weights of the backbone, with their own licence"
    card = CARD.format(
        name=folder.resolve().parent.name if folder.name.startswith("seed") else folder.name,
        config=run.config,
        made=run.provenance,
        holds=holds,
    )
    write_text(out / "README.md", card)
    return [*written, out / "README.md"]


def _export_backbone(backbone: BackboneConfig, out: Path) -> Path:
    """Copy a local file unchanged, so that its hash stays; save what timm has fetched."""
    if backbone.weights:
        source = Path(expand(backbone.weights, "backbone.weights"))
        path = out / f"{BACKBONE}{source.suffix}"
        with whole_file(path) as temporary:
            shutil.copyfile(source, temporary)
        return path
    path = out / f"{BACKBONE}.safetensors"
    with whole_file(path) as temporary:
        save_file(backbone_weights(backbone)[0], temporary)
    return path
