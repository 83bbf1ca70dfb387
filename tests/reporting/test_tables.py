from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from mmqsa.config.base import dump_yaml
from mmqsa.config.workflow import Config
from mmqsa.errors import InputError
from mmqsa.reporting.figures import FIGURES, draw
from mmqsa.reporting.results import HEADINGS, load_spec, table_spec
from mmqsa.reporting.tables import make_table

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "resources/published.csv"
VALUES = {("heads1", 0): 50.0, ("heads1", 1): 54.0, ("full", 0): 60.0}


@pytest.fixture
def config():
    return Config.model_validate(
        {
            "seeds": [0, 1],
            "settings": {"full": {}, "heads1": {"slots": {"num_heads": 1}}, "random": {}},
            "tables": {
                "num_heads": {
                    "caption": "Heads",
                    "settings": ["heads1", "full", "random"],
                    "labels": {"full": "8 heads"},
                    "published": ["paper"],
                    "intervals": True,
                    "curve": {
                        "against": "slots.num_heads",
                        "lines": {"a": ["heads1", "full"], "b": ["random"]},
                    },
                    "figures": ["controls", "training"],
                },
            },
        }
    )


@pytest.fixture
def results(tmp_path, config):
    """Results of three runs out of six, and of one control."""
    for (setting, seed), value in VALUES.items():
        folder = tmp_path / "runs" / setting / f"seed{seed}"
        (folder / "metrics").mkdir(parents=True)
        (folder / "config.yaml").write_text(dump_yaml(config.setting(setting).sections()))
        (folder / "history.csv").write_text("step,loss\n1,1.0\n2,0.5\n")
        rows = [
            ("hungarian", source, eval_seed, "paper", metric, value + eval_seed - 0.5, 10)
            for source in ("decoder", "attention")
            for eval_seed in (0, 1)
            for metric in ("corloc", "miou_with_background", "mbo_c")
        ]
        pd.DataFrame(
            rows,
            columns=[
                "matching",
                "mask_source",
                "eval_seed",
                "protocol",
                "metric",
                "value",
                "n_images",
            ],
        ).to_csv(folder / "metrics" / "voc2012-val.csv", index=False)
    (tmp_path / "controls").mkdir()
    pd.DataFrame(
        [["one slot", 1, "paper", "corloc", 33.0, 10]],
        columns=["name", "slots", "protocol", "metric", "value", "n_images"],
    ).to_csv(tmp_path / "controls/voc2012-val-controls.csv", index=False)
    spec = tmp_path / "config/tables/heads.yaml"
    spec.parent.mkdir(parents=True)
    spec.write_text(table_spec(config, "heads"))
    return tmp_path


def test_table_has_mean_spread_n_control_and_missing(results):
    spec = load_spec(results / "config/tables/heads.yaml")
    csv, md, tex, _ = make_table(spec, results, PUBLISHED)
    table = pd.read_csv(csv)
    rows = table[(table["metric"] == "corloc") & (table["mask_source"] == "decoder")]
    rows = rows.set_index("setting")
    assert rows.loc["heads1", ["n_seeds", "mean"]].tolist() == [2, 52.0]
    assert rows.loc["heads1", "sd"] == pytest.approx(8**0.5, abs=1e-3)
    # Student's t, 1 degree of freedom: 12.706 * sd / sqrt(2)
    assert rows.loc["heads1", "ci_high"] == pytest.approx(52 + 12.7062 * 2, abs=1e-2)
    # Evaluation seeds gave the value -0.5 and +0.5.
    assert rows.loc["heads1", "eval_sd"] == pytest.approx(0.5**0.5, abs=1e-3)
    assert rows.loc["full", "n_seeds"] == 1 and pd.isna(rows.loc["full", "sd"])
    assert rows.loc["full", "published"] == 68.99
    assert rows.loc["full", "difference"] == pytest.approx(60 - 68.99)
    assert rows.loc["random", "n_seeds"] == 0 and pd.isna(rows.loc["random", "mean"])
    control = table[table["kind"] == "control"]
    assert control[["label", "mean"]].to_numpy().tolist() == [["one slot", 33.0]]
    text = md.read_text()
    assert "52.0 ± 2.8" in text and "missing" in text and "| one slot" in text
    assert "MMQSA (DINO ViT-S/16)" in text
    assert "[26.6, 77.4]" in text and "[-9.0]" in text  # interval of heads1, full less the paper
    assert "**60.0**" in text and "**52.0" not in text  # best of its mask source
    latex = tex.read_text()
    assert r"52.0 \pm 2.8" in latex and r"\bfseries 60.0" in latex
    assert latex.count(r"\midrule") == 4  # masks of two sources, controls, published
    page = md.with_suffix(".html").read_text()
    assert "<b>60.0</b>" in page and "http" not in page  # opens offline


def test_other_data_are_not_compared_with_the_paper(results, config):
    other = config.model_copy(
        update={"backbone": config.backbone.model_copy(update={"name": "vit_tiny_patch16_224"})}
    )
    spec = results / "config/tables/heads.yaml"
    spec.write_text(table_spec(other, "heads"))
    csv, md, *_ = make_table(load_spec(spec), results, PUBLISHED)
    assert pd.read_csv(csv)["difference"].isna().all()
    assert "Not the paper's data or backbone" in md.read_text()


def test_tables_are_the_same_bytes_again(results):
    spec = load_spec(results / "config/tables/heads.yaml")
    first = [path.read_bytes() for path in make_table(spec, results, PUBLISHED)]
    assert first == [path.read_bytes() for path in make_table(spec, results, PUBLISHED)]


def test_figures_are_drawn_and_are_the_same_bytes_again(results):
    spec = load_spec(results / "config/tables/heads.yaml")
    assert spec.table.drawn == ["curve", "controls", "training"]
    for kind in spec.table.drawn:
        paths = draw(kind, spec, results)
        first = [path.read_bytes() for path in paths]
        assert [path.suffix for path in paths] == [".pdf", ".png"] and all(map(len, first))
        assert first == [path.read_bytes() for path in draw(kind, spec, results)]


def test_a_figure_of_nothing_is_an_error(tmp_path, results):
    spec = load_spec(results / "config/tables/heads.yaml")
    for kind in FIGURES:
        with pytest.raises(InputError):
            draw(kind, spec, tmp_path / "empty")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"curve": {"against": "slots.heds"}}, "unknown key .slots.heds."),
        (
            {"curve": {"against": "slots.num_heads", "lines": {"a": ["other"]}}},
            "claims or curve name other",
        ),
        (
            {"claims": [{"says": "", "source": "", "order": ["other/greedy"]}]},
            "claims or curve name other",
        ),
    ],
)
def test_a_table_that_cannot_be_made_is_refused(config, change, said):
    data = config.model_dump()
    data["tables"]["heads"] |= change
    data["settings"]["other"] = {}
    with pytest.raises(ValidationError, match=said):
        Config.model_validate(data)


def test_every_published_number_has_a_source_and_a_known_metric():
    published = pd.read_csv(PUBLISHED)
    assert published["source"].notna().all()
    assert set(published["metric"]) <= set(HEADINGS)
    assert set(published["protocol"]) == {"paper", "dinosaur", "boxes"}
