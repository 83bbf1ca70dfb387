import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mmqsa.errors import InputError
from mmqsa.page.build import make_page
from mmqsa.page.spec import load_spec, make_spec, page_spec
from mmqsa.paths import Paths


class Links(HTMLParser):
    """Everything that a page loads or leads to."""

    def __init__(self, text):
        super().__init__()
        self.found, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href")]
        self.ids |= {value for name, value in attributes if name == "id"}


def test_everything_that_the_page_names_is_in_its_folder(page):
    links = Links((page / "index.html").read_text())
    assert len(links.found) > 8
    for link in links.found:
        if link.startswith("#"):
            assert link[1:] in links.ids
        elif link != "data:,":
            assert (page / link).is_file(), link
    scripts = "".join(path.read_text() for path in (page / "static").glob("*.js"))
    assert not re.search(r"https?:|//\w+\.\w", scripts)
    asked = set(re.findall(r"\$\(\"([\w-]+)\"\)", scripts))
    assert asked - links.ids == set() and len(asked) > 15


def test_the_first_screen_has_the_answer(page):
    text = (page / "index.html").read_text()
    for part in ("Masked", "mBO<sup>c</sup>", "summary-controls.png", "Masking beats none"):
        assert part in text
    assert text.index("Masked") < text.index("Masking beats none") < text.index('id="tiles"')


def test_a_spec_is_read_as_it_was_written(shown, tmp_path):
    path = tmp_path / "page.yaml"
    path.write_text(page_spec(shown))
    assert load_spec(path) == make_spec(shown)
    path.write_text(page_spec(shown) + "other: 1\n")
    with pytest.raises(InputError, match=r"page.yaml: other: no such key"):
        load_spec(path)


def test_a_spec_shows_what_the_config_asks_for(shown):
    asked = shown.changed(
        "test", {"page": {"settings": ["no-masking"], "num_seeds": 2}, "seeds": [3, 1]}
    )
    spec = make_spec(asked)
    assert spec.settings == {"no-masking": [3, 1]} and list(spec.trained) == ["full", "no-masking"]
    assert spec.notice == ""  # of scenes
    photographs = asked.changed("test", {"dataset": {"kind": "voc"}})
    assert "do not publish" in make_spec(photographs).notice
    matchings = ["hungarian", "none"]
    compared = {"caption": "C", "matchings": matchings, "labels": {"none": "Alone"}}
    swept = {"kind": "sweep", "matchings": ["hungarian"], "labels": {"hungarian": "K given"}}
    others = {"tables": {"matching": compared, "sweep": compared | swept}}
    named = asked.changed("test", others)
    settings = {"full": "Masked", "no-masking": "no-masking"}
    assert make_spec(named).labels == {"none": "Alone"} | settings
    bare = photographs.changed("test", {"page": {"photographs": False}})
    assert make_spec(bare).notice == ""
    with pytest.raises(InputError, match=r"page.settings: unknown setting 'other'"):
        shown.changed("test", {"page": {"settings": ["other"]}})


def test_photographs_come_with_their_notice(results, spec, tmp_path):
    noticed = spec.model_copy(update={"notice": "do not publish"})
    assert "do not publish" not in make_page(noticed, results, tmp_path / "bare").read_text()
    picture = results.figure("showcase", "gallery", "png")
    picture.write_bytes(b"")
    try:
        text = make_page(noticed, results, tmp_path / "page").read_text()
    finally:
        picture.unlink()
    assert "do not publish" in text and "showcase-gallery.png" in text


def test_without_a_cache_the_page_has_its_tables(results, spec, tmp_path):
    index = make_page(spec, results, tmp_path / "page")
    text = index.read_text()
    assert "summary-controls.png" in text and 'id="explorer"' not in text
    assert {path.name for path in index.parent.iterdir()} == {"index.html", "static", "figures"}


@pytest.mark.faults
def test_a_page_is_replaced_and_nothing_else_is(results, spec, tmp_path):
    out, link = tmp_path / "page", tmp_path / "link"
    make_page(spec, results, out)
    (out / "figures/old.png").write_text("")
    for name in (".snakemake_timestamp", ".DS_Store"):  # which the workflow and desktops leave
        (out / name).write_text("")
    link.symlink_to(out)
    make_page(spec, results, link)
    assert not (out / "figures/old.png").exists() and (out / "index.html").is_file()
    (out / "thesis").mkdir()
    with pytest.raises(InputError, match="page: has thesis, so it is no page of mmqsa; it stays"):
        make_page(spec, results, out)
    assert (out / "thesis").is_dir()
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_text("mine")
    with pytest.raises(InputError, match="other: exists and is no page of mmqsa; it stays"):
        make_page(spec, results, other)
    assert (other / "index.html").read_text() == "mine"


@pytest.mark.faults
def test_a_page_does_not_replace_the_results_in_it(results, spec, tmp_path):
    """A folder called data may be a page's part, and hold the results."""
    out = tmp_path / "page"
    make_page(spec, results, out)
    (tmp_path / "link").symlink_to(shutil.copytree(results.results, out / "data" / "results"))
    for inside in (out / "data" / "results", tmp_path / "link"):
        with pytest.raises(InputError, match=r"has the results .* in it; name another folder"):
            make_page(spec, Paths(inside), out)
    with pytest.raises(InputError, match="has the results"):
        make_page(spec, results, results.results)
    assert any((out / "data" / "results").iterdir())


@pytest.mark.faults
def test_a_page_that_cannot_be_made_leaves_the_old_one(results, spec, tmp_path):
    out = tmp_path / "page"
    make_page(spec, results, out)
    missing = spec.model_copy(update={"tables": {**spec.tables, "summary": ["curve"]}})
    with pytest.raises(InputError, match=r"summary-curve.png: missing; draw it with"):
        make_page(missing, results, out)
    assert (out / "index.html").is_file() and len(list(tmp_path.iterdir())) == 1


@pytest.mark.faults
def test_a_disk_that_fails_at_the_last_moment_leaves_the_old_page(
    results, spec, tmp_path, monkeypatch
):
    out, rename = tmp_path / "page", Path.rename
    make_page(spec, results, out)

    def failing(path, target):
        if path.name == "new":
            raise OSError("no space")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no space"):
        make_page(spec, results, out)
    assert (out / "index.html").is_file() and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("module, absent", [("build", ["torch", "h5py"]), ("explorer", ["torch"])])
def test_the_page_needs_little(module, absent):
    code = f"import sys, mmqsa.page.{module}; print([n for n in {absent} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
