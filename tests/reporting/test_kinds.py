"""Tables of strata, comparisons and sweeps, from metrics files that the tests write."""

import numpy as np
import pandas as pd
import pytest

from mmqsa.config.workflow import Config
from mmqsa.reporting.results import load_spec, table_spec
from mmqsa.reporting.tables import make_table

IMAGES = [f"image{number}" for number in range(12)]
TABLES = {
    "sizes": {"kind": "strata", "caption": "Sizes", "settings": ["full", "random"]},
    "comparisons": {"kind": "comparisons", "caption": "Pairs", "settings": ["full", "random"]},
    "sweep": {"kind": "sweep", "caption": "Sweep", "settings": ["full"]},
    "shift": {
        "caption": "Shift",
        "settings": ["full"],
        "images": {"clean": ["val"], "fog": ["val-fog1", "val-fog2"]},
        "references": "none",
    },
}


def write(folder, name, rows):
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / name, index=False)


@pytest.fixture
def make(tmp_path):
    """Write a table from what lies below ``tmp_path``; returns the tidy frame and its Markdown."""
    config = Config.model_validate(
        {"seeds": [0, 1], "settings": {"full": {}, "random": {}}, "tables": TABLES}
    )
    published = tmp_path / "published.csv"
    published.write_text("protocol,method,encoder,metric,value,source,note\n")

    def made(name):
        spec = tmp_path / f"{name}.yaml"
        spec.write_text(table_spec(config, name))
        csv, markdown, tex, _ = make_table(load_spec(spec), tmp_path, published)
        assert r"\bottomrule" in tex.read_text()
        return pd.read_csv(csv), markdown.read_text()

    return made


def metrics_of(tmp_path, setting, seed):
    return tmp_path / "runs" / setting / f"seed{seed}" / "metrics"


def test_strata_by_size_and_number(tmp_path, make):
    for seed, lift in ((0, 0.0), (1, 0.1)):
        objects = [  # image0 has two objects, one of them small
            {"image_id": "image0", "share": 0.005, "class": 3, "iou": 0.2 + lift},
            {"image_id": "image0", "share": 0.5, "class": 5, "iou": 0.8 + lift},
            {"image_id": "image1", "share": 0.01, "class": 3, "iou": 0.4 + lift},
        ]
        named = {"matching": "hungarian", "mask_source": "attention", "eval_seed": 0}
        rows = [{**named, "labels": "class", **own} for own in objects]
        write(metrics_of(tmp_path, "full", seed), "voc2012-val-per_object.csv", rows)
    control = [{"name": "one slot", "labels": "class", "eval_seed": 0, **own} for own in objects]
    write(tmp_path / "controls", "voc2012-val-controls-per_object.csv", control)
    table, text = make("sizes")
    own = table[table["setting"] == "full"].set_index(["by", "stratum"])
    small = own.loc[("size", "≤ 1 %")]
    assert small["n_objects"] == 2 and small["mean"] == pytest.approx(35)  # 1 % belongs to it
    assert small["sd"] == pytest.approx(10 / 2**0.5, abs=1e-3) and small["n_seeds"] == 2
    assert own.loc[("number", "2 objects"), "mean"] == pytest.approx(55)
    assert own.loc[("number", "1 object"), "n_objects"] == 1
    assert own.loc[("class", "3"), "mean"] == pytest.approx(35)
    assert own.loc[("size", "3–10 %"), "n_objects"] == 0
    assert "35.0 ± 7.1" in text and "missing" in text and "one slot" in text


def test_comparisons_are_paired_by_image(tmp_path, make):
    rng = np.random.default_rng(0)
    values = rng.uniform(0.2, 0.8, len(IMAGES))
    for setting, lift in (("full", 0.0), ("random", -0.1)):
        for seed in (0, 1):
            rows = [
                {
                    "image_id": name,
                    "matching": "hungarian",
                    "mask_source": "attention",
                    "eval_seed": 0,
                    "paper/mbo_c": value + lift,
                }
                for name, value in zip(IMAGES, values, strict=True)
            ]
            write(metrics_of(tmp_path, setting, seed), "voc2012-val-per_image.csv", rows)
    control = [
        {"image_id": name, "name": "one slot", "eval_seed": 0, "paper/mbo_c": value}
        for name, value in zip(IMAGES, values, strict=True)
    ]
    write(tmp_path / "controls", "voc2012-val-controls-per_image.csv", control)
    table, text = make("comparisons")
    table = table.set_index("label")
    assert table.loc["random", "difference"] == pytest.approx(-10)
    assert table.loc["random", "p"] == pytest.approx(2 / 2**12, abs=1e-4)  # all of one sign
    assert table.loc["random", "p_holm"] == pytest.approx(4 / 2**12, abs=1e-4)
    assert table.loc["one slot", "difference"] == 0 and table.loc["one slot", "p_holm"] == 1
    assert "-10.0 [-10.0, -10.0] *" in text


def test_a_sweep_has_a_row_for_every_pair(tmp_path, make):
    for seed in (0, 1):
        rows = [
            {
                "slots": slots,
                "iterations": 3,
                "matching": "hungarian",
                "mask_source": "decoder",
                "eval_seed": 0,
                "protocol": "paper",
                "metric": "corloc",
                "value": slots + 2 * seed,
                "n_images": 12,
            }
            for slots in (2, 9)
        ]
        write(metrics_of(tmp_path, "full", seed), "voc2012-val-sweep.csv", rows)
    table, text = make("sweep")
    assert table.set_index("slots")["mean"].to_dict() == {2: 3.0, 9: 10.0}
    assert "full, K = 9, T = 3" in text


def test_a_row_is_the_mean_of_its_image_sets(tmp_path, make):
    for name, value in (("val", 60.0), ("val-fog1", 50.0), ("val-fog2", 30.0)):
        rows = [
            {
                "matching": "hungarian",
                "mask_source": "decoder",
                "eval_seed": seed,
                "protocol": "paper",
                "metric": "corloc",
                "value": value,
                "n_images": 12,
            }
            for seed in (0, 1)
        ]
        for seed in (0, 1):
            write(metrics_of(tmp_path, "full", seed), f"voc2012-{name}.csv", rows)
    table, text = make("shift")
    assert table.set_index("row")["mean"].to_dict() == {"clean": 60.0, "fog": 40.0}
    assert "full, fog" in text and "control" not in set(table["kind"])


def test_nothing_to_show_is_shown_as_missing(make):
    for name in TABLES:
        assert "missing" in make(name)[1]
