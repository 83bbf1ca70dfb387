import gzip

import pandas as pd
import pytest

from mmqsa.config.files import dump_yaml, read_yaml
from mmqsa.config.tables import METRICS
from mmqsa.config.workflow import Config
from mmqsa.errors import InputError
from mmqsa.reporting.results import SOURCES, load_spec, read_published, table_spec


def test_a_spec_keeps_only_settings_that_are_run(made):
    made.config["grid"] = ["full"]
    made.config["settings"] |= {"few": {"slots": {"num_heads": 1}}}
    made.config["grid"] += ["few"]
    lines = {"a": ["full", "random", "few"], "b": ["random"]}
    curve = {"against": "slots.num_heads", "lines": lines}
    settings = ["random", "full", "few"]
    spec = made.results(settings=settings, curve=curve, names={"full": "Ours"}).spec
    assert spec.table.settings == ["full", "few"] and spec.first == "full"
    assert spec.table.curve.lines == {"a": ["full", "few"], "b": []}
    assert spec.label("full") == "Ours" and spec.label("random") == "random"


@pytest.mark.parametrize(
    "changes, comparable",
    [
        ({}, True),
        ({"backbone": {"name": "vit_tiny_patch16_224"}}, False),
        ({"dataset": {"name": "other"}}, False),
    ],
)
def test_only_the_papers_data_and_backbone_are_comparable(made, changes, comparable):
    made.config |= changes
    assert made.results().spec.comparable is comparable


@pytest.mark.parametrize(
    "dataset, published, expected",
    [
        ("voc2012", ["paper", "boxes"], True),
        ("voc2007", ["boxes-voc2007"], True),
        ("coco20k", ["boxes-coco20k"], True),
        ("voc2007", ["boxes"], False),
        ("voc2012", ["boxes", "boxes-voc2007"], False),
    ],
)
def test_published_values_are_alike_on_their_own_data_set(made, dataset, published, expected):
    made.config |= {"dataset": {"name": dataset}}
    assert made.results(published=published).spec.like_published is expected
    made.config |= {"backbone": {"name": "vit_tiny_patch16_224"}}
    assert not made.results(published=published).spec.like_published


def test_a_caption_says_what_the_table_is_about(made):
    made.config["backbone"] = {"pretrained": False, "feature": "token"}
    made.config["training"] = {"steps": 1000, "batch_size": 8}
    assert made.results().spec.caption("More.", "") == (
        "C. Images: voc2012-val. Features: vit_small_patch16_224.dino with random weights, token. "
        "Training: 1,000 steps of 8 images. More."
    )


OTHER_SCORE = " Masking is by the principal component, not by the mean as in the paper."


@pytest.mark.parametrize(
    "score, named, said",
    [
        ("mean", {}, ""),
        ("principal-component", {}, OTHER_SCORE),
        ("principal-component", {"full": "By the {score}"}, ""),  # the row says so
    ],
)
def test_a_caption_says_where_masking_is_not_the_papers(made, score, named, said):
    made.config |= {"masking": {"score": score}, "settings": {"full": {}}}
    assert made.results(names=named).spec.caption().endswith(f"64 images.{said}")


def test_a_caption_names_the_rows_that_are_masked_as_in_the_paper(made):
    other = {"masking": {"score": "principal-component"}}
    made.config |= {"settings": {"full": {}, "heads1": other}}
    caption = made.results(names={"full": "Ours"}).spec.caption()
    assert caption.endswith(OTHER_SCORE.removesuffix(".") + ", but for Ours.")


def test_a_spec_with_an_unknown_key_is_refused(tmp_path):
    text = table_spec(Config.model_validate({"tables": {"t": {"caption": "C"}}}), "t")
    (tmp_path / "t.yaml").write_text(text + "other: 1\n")
    with pytest.raises(InputError, match=r"t\.yaml: other"):
        load_spec(tmp_path / "t.yaml")


@pytest.mark.faults
@pytest.mark.parametrize(
    "key, value, said",
    [
        ("seeds", {"full": [0, 0], "random": [0]}, r"seeds\.full: 0 is there twice"),
        ("seeds", {"full": [0], "random": []}, r"seeds\.random: List should have at least 1"),
        ("seeds", {"random": [0]}, "seeds: none of the setting full"),
        ("seeds", None, "seeds: "),
        ("protocols", {}, "protocols: "),
        ("protocols", {"": []}, "protocols.'': List should have at least 1"),
        ("protocols", {"other": ["paper"]}, "protocols: expected the rows of images"),
        ("images", {"": ["voc2012-val", "voc2012-val"]}, "'voc2012-val' is there twice"),
        ("images", {"": ["../val"]}, "images"),
        ("num_slots", True, "num_slots: "),
        ("num_slots", 10**30, "num_slots: "),
        ("features", "x" * 5000, "features: "),
        ("table", {"caption": "C", "settings": ["full", "full"]}, "'full' is there twice"),
        (
            "table",
            {"caption": "C", "curve": {"against": "nothing"}},
            r"curve\.against: unknown key",
        ),
        ("table", {"caption": "C", "curve": {"against": "masking.strategy"}}, "unknown key"),
    ],
)
def test_a_spec_is_whole(made, key, value, said):
    made.results()
    path = made.paths.results / "spec.yaml"
    path.write_text(dump_yaml(read_yaml(path) | {key: value}))
    with pytest.raises(InputError, match=said):
        load_spec(path)


def test_means_over_evaluation_seeds_and_image_sets(made):
    for images, value in (("voc2012-val-fog1", 50.0), ("voc2012-val-fog2", 30.0)):
        rows = [
            row | {"eval_seed": seed}
            for seed in (0, 1)
            for row in made.scores(value + seed, "corloc")
        ]
        made.metrics("full", 1, rows, images=images)
    metrics = made.results(images={"fog": ["val-fog1", "val-fog2"]}).run_metrics()
    assert metrics[["setting", "seed", "row"]].to_numpy().tolist() == [["full", 1, "fog"]]
    assert metrics["value"].item() == 40.5
    assert metrics["eval_sd"].item() == pytest.approx(0.5**0.5)


def test_references_have_the_kind_of_their_method(made):
    for method in ("controls", "kmeans", "probe"):
        made.references(method, made.scores(50.0, "corloc"), name=method)
    metrics = made.results().reference_metrics().set_index("name")
    assert metrics["kind"].to_dict() == {
        "controls": "control", "kmeans": "method", "probe": "supervised"
    }  # fmt: skip
    assert made.results(references="none").reference_metrics().empty


def test_what_does_not_exist_is_empty(made):
    results = made.results()
    assert results.run_metrics().empty and results.reference_metrics().empty
    assert results.provenance("full", 0) == {} and results.history("full", 0).empty


def test_a_file_from_before_they_were_compressed_is_not_taken_for_none(made):
    made.metrics("full", 0, [{"image_id": "a", "paper/mbo_c": 0.5}], kind="per_image")
    path = made.paths.metrics("full", 0, "voc2012-val", "per_image")
    assert len(made.results().runs("per_image")) == 1
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    assert len(made.results().runs("per_image")) == 1
    path.unlink()
    with pytest.raises(InputError, match=r"per_image\.csv: .* compressed now; run `gzip -n "):
        made.results().runs("per_image")


def test_every_published_number_has_a_source_and_a_known_metric(tmp_path):
    published = read_published()
    assert len(published) > 40 and published["source"].notna().all()
    assert set(published["metric"]) <= set(METRICS)
    elsewhere = {"boxes-voc2007", "boxes-coco20k"}
    assert set(published["protocol"]) == {"paper", "dinosaur", "spot", "boxes"} | elsewhere
    text = "protocol,method,encoder,metric,value,source,note\npaper,ours,,corloc,1.5,here,\n"
    (tmp_path / "mine.csv").write_text(text)
    assert len(read_published(tmp_path / "mine.csv")) == 1
    (tmp_path / "mine.csv").write_text(text.replace("source", "sauce"))
    with pytest.raises(InputError, match=r"mine.csv: .*it has no column source"):
        read_published(tmp_path / "mine.csv")
    with pytest.raises(InputError, match=r"absent.csv: "):
        read_published(tmp_path / "absent.csv")


def test_every_mask_source_has_a_name():
    assert list(SOURCES) == Config().evaluation.mask_sources


def test_a_metrics_frame_without_runs_has_its_columns(made):
    assert isinstance(made.results().runs("per_image"), pd.DataFrame)
    assert {"setting", "seed", "images", "mask_source"} <= set(made.results().runs("per_image"))


def test_scores_of_other_labels_do_not_stand_together(made):
    """A run, a control and a method of other code; kinds that one of them lacks do not count."""
    known = "side=320 classes=0a1b"
    made.metrics("full", 0, made.scores(60.0, "mbo_c"), labels_sha256=known)
    made.metrics("full", 1, made.scores(60.0, "mbo_c"))  # from before files told
    made.references("controls", made.scores(20.0, "mbo_c"), name="one slot", labels_sha256=known)
    made.method("spot", title="SPOT")
    for labels, said in (
        (f"{known} boxes=ffff", None),
        ("side=320 classes=ffff", r"spot/voc2012-val.csv: .*other labels than .* .classes.; score"),
        ("side=224 classes=0a1b", r"spot/voc2012-val.csv: .*other labels than .* .side."),
    ):
        rows = made.scores(40.0, "mbo_c")
        made.references("spot", rows, name="spot", labels_sha256=labels)
        if said is None:
            assert "SPOT" in made.table(references="all")[1]
        else:
            with pytest.raises(InputError, match=said):
                made.table(references="all")
