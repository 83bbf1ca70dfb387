"""Masks for anyone's photographs, and a folder to share."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mmqsa.cli.application import Device, Json, Out, RunFolder, app
from mmqsa.config.choices import ALIKE, MaskSource, MatchingName

Backbone = Annotated[
    Path | None,
    typer.Option(
        help="The backbone's weights; default: those in the run folder, or those of its config."
    ),
]


@app.command()
def discover(
    photographs: Annotated[list[Path], typer.Argument(help="Photographs, and folders of them.")],
    run: RunFolder,
    out: Out,
    mask_source: Annotated[
        MaskSource, typer.Option(help="attention follows objects best on short trainings.")
    ] = "attention",
    matching: Annotated[
        MatchingName,
        typer.Option(help="How heads are merged; `joined` chooses the number of objects."),
    ] = "hungarian",
    num_slots: Annotated[
        int | None, typer.Option(min=1, max=255, help="Default: as many as in training.")
    ] = None,
    alike: Annotated[
        float,
        typer.Option(min=0, max=1, help="Cosine above which `joined` makes two slots one object."),
    ] = ALIKE,
    smallest: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the image that an object has at least.")
    ] = 0.0,
    split: Annotated[
        bool, typer.Option("--split", help="Every connected part is an object of its own.")
    ] = False,
    refine: Annotated[bool, typer.Option(help="Masks follow the edges of the photograph.")] = True,
    backbone: Backbone = None,
    batch: Annotated[int, typer.Option(min=1, help="Photographs at a time.")] = 8,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the objects in photographs: label maps, overlays, a table, COCO annotations."""
    from mmqsa.discover import load
    from mmqsa.discover.output import discover as run_on

    segmenter = load(
        run, device, backbone, mask_source, matching, num_slots, alike, smallest, split, refine
    )
    done = run_on(segmenter, photographs, out, batch)
    if as_json:
        files = {"objects": out / "objects.csv", "coco": out / "coco.json", "masks": out / "masks"}
        print(json.dumps({"photographs": done} | {name: str(path) for name, path in files.items()}))
        return
    print(
        f"{out}: masks, overlays, objects.csv and coco.json of {done} photograph{'s'[: done != 1]}"
    )


@app.command()
def export(
    run: RunFolder,
    out: Out,
    with_backbone: Annotated[
        bool, typer.Option(help="Put the backbone's weights beside the run's.")
    ] = True,
    backbone: Backbone = None,
) -> None:
    """Put a run into one folder that works wherever it is copied."""
    from mmqsa.discover.export import export as run_export

    print(f"{out}: {len(run_export(run, out, with_backbone, backbone))} files")
