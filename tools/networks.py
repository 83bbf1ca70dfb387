"""Write src/mmqsa/config/networks.csv: the networks of timm that a backbone can be, in two minutes.

    python tools/networks.py

Run it when constraints.txt names another version of timm, and set TIMM in
src/mmqsa/config/networks.py to that version.
"""

import csv
import io
from types import SimpleNamespace

import timm
import torch

from mmqsa.atomic import write_text
from mmqsa.config.networks import TABLE
from mmqsa.errors import InputError
from mmqsa.features.backbone import check_family

MODULES = ("deit", "eva", "vision_transformer")  # of timm.models


def rows() -> list[list[object]]:
    """The rows of the table; networks of other families are left out."""
    table = []
    for name in sorted({name for module in MODULES for name in timm.list_models(module=module)}):
        tagged = timm.list_models(f"{name}.*", include_tags=True)
        tags = [other.partition(".")[2] for other in tagged]
        trained = {other.partition(".")[2] for other in timm.list_pretrained(f"{name}.*")}
        with torch.device("meta"):
            network = timm.create_model(name, pretrained=False, num_classes=0)
        try:
            check_family(SimpleNamespace(name=name), network)
        except InputError:
            continue
        default = timm.get_pretrained_cfg(name).tag or ""
        tags.sort(key=lambda tag: (tag != default, tag))
        sizes = network.patch_embed.patch_size[0], network.embed_dim, len(network.blocks)
        table.append([name, *sizes, " ".join(tags), " ".join(sorted(set(tags) - trained))])
    return table


if __name__ == "__main__":
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "patch", "dim", "depth", "tags", "untrained"])
    writer.writerows(rows())
    write_text(TABLE, text.getvalue())
