"""The page in headless Chromium: all that docs/page.md says a reader can do."""

import json
import shutil
from functools import partial

import pandas as pd
import pytest
from shown_page import TITLE, score_method

from mmqsa.data.voc import VocFolder
from mmqsa.features.cache import FeatureCache
from mmqsa.page.build import make_page
from mmqsa.page.explorer import write_explorer
from mmqsa.paths import Paths

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here; `apt-get install chromium`"),
]
MERGED = "hungarian/attention"


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, page):
    """``visit(hash)``: a tab with the page. Nothing may fail in it, or be asked from elsewhere."""
    context = chromium.new_context(viewport={"width": 1366, "height": 768})
    faults, asked = [], []

    def open_page(state: str = ""):
        tab = context.new_page()
        tab.on("console", lambda message: message.type == "error" and faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("requestfailed", lambda request: faults.append(request.url))
        tab.goto(f"{(page / 'index.html').as_uri()}{state}")
        tab.wait_for_function("document.body.dataset.ready")
        tab.locator("#tiles").scroll_into_view_if_needed()
        tab.wait_for_timeout(200)  # which tiles are seen is told a moment later
        settled(tab)
        return tab

    yield open_page
    context.close()
    assert faults == []
    outside = [url for url in asked if not url.startswith((page.as_uri(), "data:"))]
    assert outside == [] and len(asked) > 5


def shown(tab) -> list[str]:
    """The names of the tiles, in order."""
    return tab.locator(".tile .caption span").all_text_contents()


def values(tab) -> list[str]:
    return tab.locator(".tile .caption b").all_text_contents()


def settled(tab):
    """Wait until what was chosen is drawn."""
    tab.wait_for_timeout(50)
    tab.wait_for_function("!document.body.dataset.busy")
    tab.wait_for_timeout(50)


@pytest.fixture(scope="module")
def scores(results, spec):
    """mBO^c of every image by setting, in percent."""

    def of(setting, matching="hungarian", source="attention"):
        table = pd.read_csv(results.metrics(setting, 0, spec.image_set, "per_image"))
        rows = table[(table["matching"] == matching) & (table["mask_source"] == source)]
        return 100 * rows.set_index("image_id")["paper/mbo_c"]

    return of


def test_tiles_are_sorted_by_a_metric_either_way(visit, scores):
    tab, expected = visit(), scores("full").sort_values(ascending=False)
    assert shown(tab) == expected.index.tolist()
    assert values(tab) == [f"{value:.1f}" for value in expected]
    tab.select_option("#order", "up")
    settled(tab)
    assert shown(tab) == expected.index.tolist()[::-1]
    tab.select_option("#sort", "name")
    tab.select_option("#order", "down")
    settled(tab)
    assert shown(tab) == sorted(expected.index)
    mean = f"mean mBOᶜ: {expected.round(1).mean():.1f}"
    assert tab.locator("#count").text_content() == f"6 of 6 images · {mean}"


def test_two_settings_stand_side_by_side_and_sort_by_their_difference(visit, scores):
    tab = visit()
    tab.select_option("#b-method", "no-masking")
    settled(tab)
    tab.select_option("#sort", "difference")
    settled(tab)
    difference = (scores("full").round(1) - scores("no-masking").round(1)).round(1)
    order = difference.sort_values(ascending=False, kind="stable")
    expected = [f"{value:+.1f}".replace("-", "−").replace("+0.0", "0.0") for value in order]
    assert expected == [text.partition("(")[2].rstrip(")") for text in values(tab)]
    assert tab.locator(".tile").first.locator("canvas").count() == 2
    tab.select_option("#b-method", "")
    settled(tab)
    assert tab.locator("#sort").input_value() == "a"
    assert tab.locator(".tile").first.locator("canvas").count() == 1


def test_images_are_kept_by_class_size_number_metric_and_name(visit, page):
    text = (page / "data/catalogue.js").read_text().strip()
    images = json.loads(text.removeprefix("mmqsa.receive(").removesuffix(")"))["images"]
    tab = visit()
    label = images[0]["objects"][0][0]
    having = {one["id"] for one in images if label in {of for of, *_ in one["objects"]}}
    tab.select_option("#class", str(label))
    settled(tab)
    assert set(shown(tab)) == having
    tab.select_option("#class", "")
    large = {
        one["id"] for one in images if any(0.1 < share <= 0.3 for _, share, _ in one["objects"])
    }
    tab.select_option("#size", "3")
    settled(tab)
    assert set(shown(tab)) == large
    tab.select_option("#size", "")
    tab.select_option("#number", "1")
    settled(tab)
    assert set(shown(tab)) == {one["id"] for one in images if len(one["objects"]) == 2}
    tab.select_option("#number", "")
    settled(tab)
    middle = sorted(map(float, values(tab)))[3]
    tab.fill("#least", str(middle))
    settled(tab)
    assert len(shown(tab)) == 3 and all(float(value) >= middle for value in values(tab))
    tab.click("#reset")
    settled(tab)
    assert len(shown(tab)) == 6
    tab.fill("#search", images[2]["id"][-3:])
    settled(tab)
    assert shown(tab) == [images[2]["id"]]


def test_a_number_is_typed_key_by_key(visit):
    tab = visit()
    middle = sorted(map(float, values(tab)))[3] - 0.05
    tab.click("#least")
    tab.keyboard.type(f"{middle:.2f}")
    settled(tab)
    assert tab.locator("#least").input_value() == f"{middle:.2f}"
    assert len(shown(tab)) == 3 and all(float(value) >= middle for value in values(tab))
    tab.keyboard.press("Control+a")
    tab.keyboard.type("-5")
    settled(tab)
    assert tab.locator("#least").input_value() == "-5" and len(shown(tab)) == 6


def test_a_link_holds_the_whole_state(visit):
    tab = visit()
    tab.select_option("#a-source", "decoder")
    settled(tab)
    tab.select_option("#b-method", "kmeans")
    settled(tab)
    tab.select_option("#b-variant", "k-means, K = 4")
    tab.select_option("#sort", "b")
    tab.check("#truth")
    tab.fill("#opacity", "80")
    settled(tab)
    tab.locator(".tile").nth(2).click()
    tab.wait_for_selector("#detail[open]")
    tab.click("#detail-close")
    settled(tab)
    state = tab.evaluate("location.hash")
    other = visit(state)
    settled(other)
    assert shown(other) == shown(tab) and values(other) == values(tab)
    assert other.locator("#b-variant").input_value() == "k-means, K = 4"
    assert other.locator("#a-source").input_value() == "decoder"
    assert other.is_checked("#truth") and other.locator("#opacity").input_value() == "80"
    tab.click("#link")
    settled(tab)
    assert "ink" in tab.locator("#told").text_content()  # copied, or where it is


def test_a_state_that_there_is_not_becomes_the_usual_one(visit):
    tab = visit(
        "#a=gone,7,none/nothing&metric=other&sort=difference&x=1&image=gone&class=999&size=9"
        "&number=7&least=abc&most=&opacity=200&colours=other&masks=2&order=sideways"
    )
    assert len(shown(tab)) == 6 and tab.locator("#metric").input_value() == "mbo_c"
    assert tab.locator("#a-method").input_value() == "full"
    usual = {"sort": "a", "order": "down", "class": "", "size": "", "number": "", "least": ""}
    for name, value in (usual | {"opacity": "55", "colours": "slot"}).items():
        assert tab.locator(f"#{name}").input_value() == value, name
    assert tab.is_checked("#masks")


def test_an_image_opens_with_its_masks_heads_and_objects(visit, scores, results, spec):
    tab = visit()
    name = shown(tab)[0]
    tab.locator(".tile").first.click()
    tab.wait_for_selector("#detail[open]")
    assert tab.locator("#detail-title").text_content() == name
    assert tab.locator("#detail-panels canvas").count() == 3
    assert tab.locator("#detail-heads canvas").count() == 1 + 3  # what masking leaves, and heads
    told = tab.locator("#detail-scores tr", has_text="mBO").locator("td").nth(1).text_content()
    assert told == f"{scores('full')[name]:.1f}"
    objects = pd.read_csv(results.metrics("full", 0, spec.image_set, "per_object"))
    rows = objects.query(
        "image_id == @name and labels == 'instance' and mask_source == 'attention'"
    )
    ious = tab.locator("#detail-objects td:nth-child(3)").all_text_contents()
    assert [float(value) for value in ious] == pytest.approx((100 * rows["iou"]).tolist(), abs=0.06)
    tab.keyboard.press("ArrowRight")
    settled(tab)
    assert tab.locator("#detail-title").text_content() == shown(tab)[1]
    assert tab.locator("#detail-place").text_content() == "2 of 6"
    tab.keyboard.press("Escape")
    settled(tab)
    assert tab.locator("#detail[open]").count() == 0 and "image" not in tab.evaluate(
        "location.hash"
    )


def test_an_opened_image_has_switches_and_back_closes_it(visit):
    tab = visit()
    tab.select_option("#b-method", "no-masking")
    tab.select_option("#a-method", "kmeans")
    settled(tab)
    tab.locator(".tile").first.click()
    tab.wait_for_selector("#detail[open]")
    titles = tab.locator("#detail-heads h3").all_text_contents()
    assert titles == ["Heads of B, no-masking before merging (attention)"]
    tab.locator("#detail [data-flag=truth]").check()
    settled(tab)
    assert tab.is_checked("#truth") and "truth=1" in tab.evaluate("location.hash")
    tab.go_back()
    settled(tab)
    assert tab.locator("#detail[open]").count() == 0 and len(shown(tab)) == 6


def test_the_keyboard_does_it_all(visit):
    tab = visit()
    tab.locator(".tile").first.focus()
    tab.keyboard.press("ArrowRight")
    focused = "document.activeElement.getAttribute('aria-label')"
    assert tab.evaluate(focused).startswith(shown(tab)[1])
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#detail[open]")
    tab.keyboard.press("Escape")
    settled(tab)
    assert tab.evaluate(focused).startswith(shown(tab)[1])  # where the reader was
    for key, flag in (("t", "truth"), ("b", "boxes"), ("h", "hidden"), ("m", "masks")):
        before = tab.is_checked(f"#{flag}")
        tab.keyboard.press(key)
        settled(tab)
        assert tab.is_checked(f"#{flag}") != before
    tab.keyboard.press("/")
    tab.keyboard.type("zzz")
    settled(tab)
    assert (
        shown(tab) == []
        and "0 of 6 images: nothing is like this" in tab.locator("#count").text_content()
    )


def test_the_page_is_dark_where_the_reader_wants_it(visit, chromium, page):
    tab = visit()
    light = "getComputedStyle(document.body).backgroundColor"
    before = tab.evaluate(light)
    tab.click("#theme")
    assert tab.evaluate(light) != before
    dark = chromium.new_context(color_scheme="dark").new_page()
    dark.goto((page / "index.html").as_uri())
    assert dark.evaluate(light) == tab.evaluate(light)
    dark.context.close()


def test_every_overlay_changes_what_a_tile_shows(visit):
    """By a picture of the tile, since a script may not read photographs from a disk."""
    tab = visit()
    tile = tab.locator(".tile").first
    pictures = [tile.screenshot()]
    for flag in ("truth", "boxes", "hidden"):
        tab.check(f"#{flag}")
        settled(tab)
        pictures.append(tile.screenshot())
    tab.select_option("#colours", "class")
    settled(tab)
    pictures.append(tile.screenshot())
    assert len(set(pictures)) == len(pictures)
    for flag in ("truth", "boxes", "hidden"):
        tab.uncheck(f"#{flag}")
    tab.select_option("#colours", "slot")
    settled(tab)
    assert tile.screenshot() == pictures[0]


def test_masks_are_drawn_where_they_were_predicted(visit, results, spec):
    """The outline of a mask in a tile lies where the label changes."""
    from mmqsa.evaluation.label_map_file import LabelMaps
    from mmqsa.paths import label_maps_path

    tab = visit()
    maps = LabelMaps(label_maps_path(results.metrics("full", 0, spec.image_set)))
    index = maps.ids.index(shown(tab)[0])
    script = """async (index) => {
      const catalogue = await mmqsa.start(), [method] = catalogue.methods;
      const view = method.views.find((one) => one.id === "hungarian/attention");
      return [...await mmqsa.labels({ method, seed: 0, view }, index)];
    }"""
    assert tab.evaluate(script, index) == maps.arrays[MERGED][index].ravel().tolist()


@pytest.mark.parametrize("lost", ["metrics.js", "catalogue.js", "0.js"])
def test_a_folder_that_was_not_copied_whole_says_so(visit, page, chromium, tmp_path, lost):
    shutil.copytree(page, tmp_path / "part", ignore=shutil.ignore_patterns(lost))
    tab = chromium.new_context().new_page()
    tab.goto((tmp_path / "part/index.html").as_uri())
    tab.locator("#tiles").scroll_into_view_if_needed()
    tab.wait_for_function(
        "document.getElementById('count').textContent.includes('cannot be loaded')"
    )
    assert "was the folder copied whole?" in tab.locator("#count").text_content()
    tab.context.close()
    visit()


def test_a_method_of_other_code_is_chosen_with_its_source_and_colour(
    chromium, results, spec, caches, voc_root, tmp_path
):
    shutil.copytree(results.results, tmp_path / "results")
    paths, out = Paths(tmp_path / "results"), tmp_path / "page"
    score_method(paths, spec)
    cache, folder = FeatureCache(caches["val"]), VocFolder.find(voc_root)
    make_page(spec, paths, out, partial(write_explorer, spec, paths, cache, folder))
    tab, faults = chromium.new_context().new_page(), []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto((out / "index.html").as_uri())
    tab.wait_for_function("document.body.dataset.ready")
    assert not tab.locator("#sources").is_visible()
    first = tab.locator("section[aria-label='The answer'] .swatch")
    background = "one => getComputedStyle(one).backgroundColor"
    assert first.evaluate(background) == "rgb(27, 120, 55)"  # on the first screen
    tab.select_option("#b-method", "spot")
    settled(tab)
    group = tab.locator("#b-method option:checked").evaluate("one => one.parentElement.label")
    assert group == "Methods of other code"
    assert tab.locator("#sources").text_content() == f"{TITLE}: CVPR 2024"
    assert tab.locator("#sources .swatch").evaluate(background) == "rgb(27, 120, 55)"
    tab.locator(".tile").first.click()
    tab.wait_for_selector("#detail[open]")
    caption = tab.locator("#detail-panels figcaption").last
    assert caption.text_content() == f"B: {TITLE}" and caption.locator(".swatch").count() == 1
    tab.context.close()
    assert faults == []
