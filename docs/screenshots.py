"""The pictures of docs/page.md, made of pages in headless Chromium (Debian's package `chromium`).

python docs/screenshots.py first results/voc-vits14/page docs/page.png
python docs/screenshots.py explorer results/demo/page docs/explorer.png
"""

import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

BESIDE = "#b=untrained,0,hungarian/attention&sort=difference"
STATES = {  # what is shown: state in the address, height of the window
    "first": ("", 840),
    "explorer": (BESIDE, 800),
    "image": (f"{BESIDE}&truth=1&boxes=1&image=", 860),
}


def main(what: str, page: Path, out: Path) -> None:
    """Write one picture, in 256 colours, to ``out``."""
    state, height = STATES[what]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport={"width": 1366, "height": height})
        tab.goto((page.resolve() / "index.html").as_uri() + state)
        if tab.locator("#explorer").count():
            tab.wait_for_function("document.body.dataset.ready")
            tab.wait_for_timeout(500)
            tab.wait_for_function("!document.body.dataset.busy")
        if what == "image":
            tab.locator(".tile").nth(1).click()
            tab.wait_for_function("!document.body.dataset.busy && detail.open")
        picture = Image.open(BytesIO(tab.screenshot())).convert("RGB")
        browser.close()
    picture.quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
