"""The page in a browser: its size, and the seconds to its first tile and to sort and compare.

    python benchmarks/page.py                        # pages of 243 and 1,449 made images
    python benchmarks/page.py results/demo/page      # or pages that are there

Needs Chromium. Made pages have four settings of eight heads, two mask sources each.
"""

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from PIL import Image
from playwright.sync_api import sync_playwright

from mmqsa.config.workflow import Config
from mmqsa.device import choose_device, describe
from mmqsa.evaluation.controls import random_slots
from mmqsa.evaluation.label_map_file import HEADS, VISIBLE, label_map_writer
from mmqsa.page.build import make_page
from mmqsa.page.explorer import write_explorer
from mmqsa.page.spec import make_spec
from mmqsa.paths import Paths, label_maps_path
from publish import publish

SIDE, GRID, HEADS_OF_A_RUN = 320, 20, 8
SETTINGS = ("full", "no-masking", "random", "untrained")
VIEWS = [("hungarian", "decoder"), ("hungarian", "attention")]
BEGIN = """async (changes) => {
  const began = performance.now();
  for (const [id, value] of changes) {
    const element = document.getElementById(id);
    element.value = value;
    element.dispatchEvent(new Event("input"));
    element.dispatchEvent(new Event("change"));
  }
  while (document.body.dataset.busy) await new Promise(requestAnimationFrame);
  return (performance.now() - began) / 1000;
}"""


def made_page(num_images: int, folder: Path) -> Path:
    """A page of made photographs, labels, masks and scores."""
    rng = np.random.default_rng(0)
    blocks = [random_slots(GRID * 2, 7, rng) for _ in range(50)]
    maps = np.stack([one.repeat(SIDE // len(one), 0).repeat(SIDE // len(one), 1) for one in blocks])
    ids = [f"image-{index:05d}" for index in range(num_images)]
    some = np.arange(num_images) % len(maps)
    cache: Any = SimpleNamespace(
        **{"ids": ids, "side": SIDE, "grid": GRID, "boxes": None, "path": "made"},
        **{"classes": maps[some] % 4, "instances": None, "attributes": {"geometry": "crop"}},
        square=lambda number: _photograph(number, maps),
    )
    photographs: Any = SimpleNamespace(
        image=lambda image_id: int(image_id[-5:]), class_names=["one", "two", "three"]
    )
    changes = {"settings": {name: {} for name in SETTINGS}, "seeds": [0]}
    spec = make_spec(Config.model_validate(changes)).model_copy(update={"references": []})
    paths = Paths(folder / "results")
    for number, setting in enumerate(SETTINGS):
        path = label_maps_path(paths.metrics(setting, 0, spec.image_set))
        path.parent.mkdir(parents=True)
        with label_map_writer(path, ids) as writer:
            names = ["/".join(view) for view in VIEWS]
            names += [f"{HEADS}/{head + 1}" for head in range(HEADS_OF_A_RUN)]
            for place, name in enumerate(names):
                writer.write(name, slice(0, num_images), maps[(some + place + number) % len(maps)])
            writer.write(VISIBLE, slice(0, num_images), rng.random((num_images, GRID**2)) < 0.3)
        rows = [
            {"image_id": one, "matching": matching, "mask_source": source, "eval_seed": 0}
            | {f"paper/{metric}": rng.random() for metric in ("miou_with_background", "mbo_c")}
            for matching, source in VIEWS
            for one in ids
        ]
        scores = paths.metrics(setting, 0, spec.image_set, "per_image")
        pd.DataFrame(rows).to_csv(scores, index=False)
    explorer = partial(write_explorer, spec, paths, cache, photographs)
    make_page(spec, paths, folder / "page", explorer)
    return folder / "page"


def _photograph(number: int, maps: np.ndarray) -> np.ndarray:
    """A made photograph: coloured regions with grain, about as large in a file as a real one."""
    rng = np.random.default_rng(number)
    colours = rng.integers(0, 256, (8, 3))
    grain = Image.fromarray(rng.integers(0, 60, (SIDE // 4, SIDE // 4), dtype=np.uint8))
    grain = np.asarray(grain.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=int)
    return (
        (colours[maps[number % len(maps)]] * 0.7 + grain[..., None]).clip(0, 255).astype(np.uint8)
    )


def rows(pages: list[Path], counts: list[int]) -> Iterator[dict]:
    """A row per page."""
    with sync_playwright() as driver:
        found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
        browser = driver.chromium.launch(executable_path=next(found), args=["--no-sandbox"])
        for page in pages:
            yield measured(browser, page, str(page))
        for count in counts:
            with tempfile.TemporaryDirectory() as folder:
                yield measured(browser, made_page(count, Path(folder)), "made")
        browser.close()


def measured(browser: Any, page: Path, name: str) -> dict:
    """Size and seconds of one page."""
    tab = browser.new_page(viewport={"width": 1366, "height": 768})
    tab.goto(f"{(page.resolve() / 'index.html').as_uri()}#explorer=")
    tab.wait_for_function("document.body.dataset.ready")
    tab.locator("#tiles").scroll_into_view_if_needed()
    tab.wait_for_function("document.body.dataset.firstTile && !document.body.dataset.busy")
    other = tab.locator("#a-method option").nth(1).get_attribute("value")
    sizes = [path.stat().st_size for path in page.rglob("*") if path.is_file()]
    methods = sum(path.is_dir() and path.name.isdigit() for path in (page / "data").iterdir())
    images = tab.evaluate("mmqsa.start().then((catalogue) => catalogue.images.length)")
    masks = sum(path.stat().st_size for path in (page / "data").glob("*/**/*.js"))
    row = {
        "page": name,
        "images": images,
        "settings and methods": methods,
        "files": len(sizes),
        "MB": sum(sizes) / 1e6,
        "kB of masks an image and setting": masks / 1e3 / images / methods,
        "s to the first tile": float(tab.evaluate("document.body.dataset.firstTile")) / 1000,
        "s to sort": tab.evaluate(BEGIN, [["order", "up"]]),
        "s to sort by a difference": tab.evaluate(
            BEGIN, [["b-method", other], ["sort", "difference"]]
        ),
    }
    tab.close()
    return row


def main(
    pages: Annotated[list[Path] | None, typer.Argument(help="Folders of pages.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few images: does it run?")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for csv and markdown.")] = None,
) -> None:
    """Print the table; write it to --out."""
    counts = [] if pages else [40] if quick else [243, 1449]
    machine = describe(choose_device("cpu", False))
    publish("page", rows(pages or [], counts), machine, out)


if __name__ == "__main__":
    typer.run(main)
