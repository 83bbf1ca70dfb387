"""The doors of the figures that show photographs."""

import pytest

from mmqsa.cli import application
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.evaluation import gallery
from mmqsa.evaluation.pictures import pictures, ranked_images
from mmqsa.features.cache import FeatureCache
from mmqsa.training.run import Run

HEADING = "image_id,matching,mask_source,eval_seed,paper/mbo_c\n"


@pytest.mark.faults
@pytest.mark.parametrize(
    "text, said",
    [
        (HEADING, "it has no rows"),
        (f"{HEADING}a,hungarian,attention,0,\n", "has no paper/mbo_c of attention masks"),
        (f"{HEADING}a,hungarian,decoder,0,1\n", "has no paper/mbo_c of attention masks"),
        (HEADING.replace("mbo_c", "corloc") + "a,hungarian,attention,0,1\n", "has no paper/mbo_c"),
    ],
)
def test_scores_that_rank_no_image(tmp_path, text, said):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=f"m.csv: .*{said}"):
        ranked_images(tmp_path / "m.csv", 3)


def test_images_may_be_called_na(tmp_path):
    rows = [f"{name},hungarian,attention,0,{score}\n" for name, score in (("NA", 1), ("null", 0))]
    (tmp_path / "m.csv").write_text(HEADING + "".join(rows))
    assert ranked_images(tmp_path / "m.csv", 3) == ["NA", "null"]


def test_colours_of_attention_have_a_scale(run_folder, caches, voc_root, tmp_path, monkeypatch):
    cache, drawn = FeatureCache(caches["val"]), []
    rows = [f"{name},hungarian,attention,0,{index / 100}\n" for index, name in enumerate(cache.ids)]
    (tmp_path / "m.csv").write_text(HEADING + "".join(rows))
    monkeypatch.setattr(gallery, "save", lambda figure, out: drawn.append(figure))
    sources = Run.load(run_folder), cache, VocFolder.find(voc_root)
    gallery.iterations_gallery(*sources, tmp_path / "m.csv", tmp_path / "f")
    (bar,) = [axis for axis in drawn[0].axes if axis.get_label() == "<colorbar>"]
    assert bar.get_ylim() == (0, 1) and bar.get_ylabel() == "attention of the slot"


@pytest.mark.faults
def test_a_cache_that_does_not_fit(run_folder, caches, voc_root, monkeypatch):
    run, photographs, train, cache = (
        *(Run.load(run_folder), VocFolder.find(voc_root)),
        *(FeatureCache(caches[split]) for split in ("train", "val")),
    )
    with pytest.raises(InputError, match=r"has no image .*; give the scores of this split"):
        pictures(run, cache, photographs, train.ids[:1])
    monkeypatch.setattr(FeatureCache, "classes", None)
    with pytest.raises(InputError, match="has no class label maps"):
        pictures(run, cache, photographs, cache.ids[:1])
    cache.attributes["weights_sha256"] = "other"
    with pytest.raises(InputError, match="weights_sha256"):
        pictures(run, cache, photographs, cache.ids[:1])


@pytest.mark.faults
@pytest.mark.parametrize("command", ["figure gallery", "premise"])
def test_a_label_map_is_not_drawn_over(command, run_folder, caches, own_voc, tmp_path):
    label_map = next((own_voc / "SegmentationClass").iterdir())
    before, stem = label_map.read_bytes(), str(label_map.with_suffix(""))
    options = {
        "figure gallery": ["--run", run_folder, "--per-image", tmp_path / "absent", "--out", stem],
        "premise": ["--train", caches["train"], "--out", tmp_path / "out", "--figure", stem],
    }[command]
    options = ["--features", caches["val"], "--data", own_voc, *options]
    with pytest.raises(InputError, match=f"{label_map}: exists and is no figure of mmqsa"):
        application.app([*command.split(), *map(str, options)], standalone_mode=False)
    assert label_map.read_bytes() == before and not (tmp_path / "out").exists()
