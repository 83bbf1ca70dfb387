"""A run in one folder that finds objects wherever it is copied, without data or network."""

import shutil
from pathlib import Path

from safetensors.torch import save_file

from mmqsa.atomic import whole_file, write_text
from mmqsa.discover.finder import BACKBONE
from mmqsa.errors import InputError
from mmqsa.features.backbone import backbone_weights
from mmqsa.training.run import HISTORY, PROVENANCE, SETTINGS, SIMILARITY, WEIGHTS, Run

CARD = """---
library_name: mmqsa
tags: [object-discovery, slot-attention, image-segmentation, unsupervised]
---
# {name}

Masked multi-query slot attention for unsupervised object discovery, on {feature}s of
`{backbone}`: {slots} slots, {heads} heads, {strategy} masking of {ratio:.0%}. Trained by
mmqsa {version} on {images:,} images ({dataset}, {split}), {steps:,} steps of {batch} images.

    pip install mmqsa
    mmqsa discover --run FOLDER photo.jpg --out out

```python
from mmqsa.discover import load

finder = load("FOLDER")
found = finder(Image.open("photo.jpg"))   # found.masks, found.boxes, found.scores
```

`{backbone_file}` {holds}; it has its own licence. `provenance.json` says what made the run.
"""


def export(folder: Path, out: Path, with_backbone: bool = True) -> list[Path]:
    """Copy a run's files to ``out``, its backbone's weights and a model card beside them.

    Raises InputError when ``out`` holds something already, or the run is damaged.
    """
    run = Run.load(folder)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: not empty; name a new folder")
    written = []
    for name in (SETTINGS, HISTORY, PROVENANCE, WEIGHTS, SIMILARITY):
        if (folder / name).is_file():
            with whole_file(out / name) as temporary:
                shutil.copyfile(folder / name, temporary)
            written.append(out / name)
    settings, provenance = run.settings, run.provenance
    own = with_backbone and settings.backbone.pretrained  # random weights are drawn again
    if own:
        with whole_file(out / BACKBONE) as temporary:
            save_file(backbone_weights(settings.backbone)[0], temporary)
        written.append(out / BACKBONE)
    card = CARD.format(
        name=folder.resolve().parent.name if folder.name.startswith("seed") else folder.name,
        feature=settings.backbone.feature,
        backbone=settings.backbone.name,
        slots=settings.slots.number,
        heads=settings.slots.heads,
        strategy=settings.masking.strategy,
        ratio=settings.masking.ratio,
        version=provenance["mmqsa"],
        images=provenance["images"],
        dataset=provenance["cache"]["dataset"],
        split=provenance["cache"]["split"],
        steps=settings.training.steps,
        batch=settings.training.batch_size,
        backbone_file=BACKBONE,
        holds="holds the backbone's weights" if own else "is not here: they are made by name",
    )
    write_text(out / "README.md", card)
    return [*written, out / "README.md"]
