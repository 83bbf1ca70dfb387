"""Verdicts on claims, and signs of failure, from values that the tests choose."""

import pandas as pd
import pytest
from scipy.stats import ttest_ind

from mmqsa.config.tables import Claim
from mmqsa.config.workflow import Config
from mmqsa.reporting.claims import FEWEST_SEEDS, held
from mmqsa.reporting.diagnosis import CHECKS
from mmqsa.reporting.results import load_spec, table_spec
from mmqsa.reporting.tables import make_table

SEEDS = [0, 1, 2, 3]


def metrics(values):
    """{SETTING or SETTING/MATCHING: one value a seed} -> rows of one metric."""
    rows = []
    for name, own in values.items():
        setting, _, matching = name.partition("/")
        for seed, value in enumerate(own):
            rows.append(
                {
                    "setting": setting,
                    "matching": matching or "hungarian",
                    "seed": seed,
                    "value": value,
                }
            )
    return pd.DataFrame(rows)


def claim(*order, **other):
    return Claim(says="so", source="here", order=list(order), **other)


def test_two_settings_by_welch():
    values = {"a": [1.0, 2.0, 3.0], "b": [11.0, 12.0, 14.0]}
    found = held(claim("a", "b"), metrics(values))
    assert found["difference"] == pytest.approx(37 / 3 - 2)
    assert found["p"] == pytest.approx(ttest_ind(values["b"], values["a"], equal_var=False).pvalue)


def test_two_matchings_of_the_same_runs_are_paired():
    """A gain that is small beside the spread over seeds, but there in every run."""
    values = {"a/greedy": [10.0, 20.0, 30.0, 40.0], "a": [11.0, 21.1, 31.0, 41.1]}
    found = held(claim("a/greedy", "a"), metrics(values))
    assert found["test"] == "paired t" and found["p"] < 0.001
    same = held(claim("a/greedy", "a"), metrics({"a/greedy": [1.0] * 3, "a": [1.0] * 3}))
    assert same["p"] == 1 and same["difference"] == 0


def test_a_trend_over_several_settings():
    rising = {name: [10.0 * rank + seed for seed in SEEDS] for rank, name in enumerate("abcd")}
    assert held(claim(*"abcd"), metrics(rising))["p"] < 0.001
    assert held(claim(*"dcba"), metrics(rising))["difference"] < 0
    flat = {name: [float(seed) for seed in SEEDS] for name in "abcd"}
    assert held(claim(*"abcd"), metrics(flat))["p"] > 0.9


def test_a_trend_that_its_ends_contradict_is_none():
    values = {
        name: [10.0 * rank, 10.0 * rank + 1, 10.0 * rank + 2] for rank, name in enumerate("abcd")
    }
    values["a"] = [1000.0, 2.0, 3.0]  # one run out of the way: the mean, not the ranks
    found = held(claim(*"abcd"), metrics(values))
    assert found["difference"] < 0 and found["p"] == 1


def test_spread_shrinks_along_the_order():
    values = {
        name: [50 + width * step for step in (-2, -1, 0, 1, 2)]
        for name, width in zip("abcd", (9.0, 5.0, 2.0, 0.5), strict=True)
    }
    found = held(claim(*"abcd", of="spread"), metrics(values))
    assert found["difference"] > 0 and found["p"] < 0.05
    assert held(claim(*"abcd"), metrics(values))["p"] > 0.5  # their means are alike


def test_few_seeds_have_no_verdict():
    found = held(claim("a", "b"), metrics({"a": [1.0, 2.0, 3.0], "b": [9.0] * (FEWEST_SEEDS - 1)}))
    assert found == {"n_seeds": FEWEST_SEEDS - 1, "verdict": "not enough runs"}
    assert held(claim("a", "absent"), metrics({"a": [1.0] * 3}))["n_seeds"] == 0


VALUES = {"full": 60.0, "random": 40.0, "untrained": 60.0}  # ± 1 over seeds


@pytest.fixture
def made(tmp_path):
    """``made(table, backbone)``: a tidy frame by what is below ``tmp_path``, and its Markdown."""
    claims = [
        {"says": "beats random", "source": "I", "order": ["random", "full"]},
        {"says": "beats nothing", "source": "I", "order": ["full", "random"]},
        {"says": "same", "source": "I", "order": ["untrained", "full"]},
        {"says": "never run", "source": "I", "order": ["late", "full"]},
        {"says": "CorLoc 68.99", "source": "summary", "order": ["full"]},
    ]
    settings = ["full", "random", "untrained", "late"]
    common = {"caption": "C", "settings": settings, "mask_sources": ["attention"]}
    tables = {
        "claims": {"kind": "claims", "claims": claims, **common},
        "diagnosis": {"kind": "diagnosis", **common},
        "compute": {"kind": "compute", **common},
        "provenance": {"kind": "provenance", "caption": "P"},
    }
    published = tmp_path / "published.csv"
    published.write_text(
        "protocol,method,encoder,metric,value,source,note\npaper,MMQSA,,corloc,68.99,s,\n"
    )
    for setting, mean in VALUES.items():
        for seed in SEEDS:
            folder = tmp_path / "runs" / setting / f"seed{seed}"
            (folder / "metrics").mkdir(parents=True)
            rows = [
                {
                    "matching": "hungarian",
                    "mask_source": "attention",
                    "eval_seed": 0,
                    "protocol": "paper",
                    "metric": metric,
                    "value": mean + seed - 1.5,
                    "n_images": 9,
                }
                for metric in ("corloc", "corloc_one_box", "miou_with_background")
            ]
            pd.DataFrame(rows).to_csv(folder / "metrics/voc2012-val.csv", index=False)
            steps = range(1, 21)
            history = pd.DataFrame({"step": steps, "loss": [1 / (1 + step) for step in steps]})
            history.to_csv(folder / "history.csv", index=False)
    (tmp_path / "controls").mkdir()
    pd.DataFrame(
        [
            ["centre square", 2, "paper", "corloc", 70.0, 9],
            ["centre square", 2, "paper", "corloc_one_box", 66.0, 9],
            ["centre square", 2, "paper", "miou_with_background", 30.0, 9],
        ],
        columns=["name", "slots", "protocol", "metric", "value", "n_images"],
    ).to_csv(tmp_path / "controls/voc2012-val-controls.csv", index=False)

    def make(name, backbone="vit_small_patch16_224.dino"):
        config = Config.model_validate(
            {
                "seeds": SEEDS,
                "backbone": {"name": backbone},
                "settings": {name: {} for name in settings},
                "tables": tables,
            }
        )
        spec = tmp_path / f"{name}.yaml"
        spec.write_text(table_spec(config, name))
        csv, markdown, *_ = make_table(load_spec(spec), tmp_path, published)
        return pd.read_csv(csv), markdown.read_text()

    return make


def test_verdicts(made):
    table, text = made("claims")
    verdicts = table[table["metric"] == "corloc"].set_index("claim")["verdict"].to_dict()
    assert verdicts == {
        "beats random": "reproduced",
        "beats nothing": "contradicted",
        "same": "not reproduced",
        "never run": "not enough runs",
        "CorLoc 68.99": "not reproduced",  # 60 ± 2.05 does not reach it
    }
    assert "reproduced (+20.0, p < 0.001)" in text and "not reproduced (-9.0)" in text


@pytest.mark.parametrize(
    "value, verdict",
    [(59.0, "reproduced"), (61.0, "reproduced"), (61.5, "not enough runs"), (63, "not reproduced")],
)
def test_the_papers_own_value_is_reached_or_not(made, tmp_path, value, verdict):
    """Ours is 60, and its interval ends at 62.05."""
    (tmp_path / "published.csv").write_text(
        f"protocol,method,encoder,metric,value,source,note\npaper,MMQSA,,corloc,{value},s,\n"
    )
    table, _ = made("claims")
    own = table[(table["claim"] == "CorLoc 68.99") & (table["metric"] == "corloc")]
    assert own["verdict"].tolist() == [verdict]


def test_other_data_get_no_verdict_against_the_papers_numbers(made):
    table, _ = made("claims", backbone="vit_tiny_patch16_224")
    own = table[(table["claim"] == "CorLoc 68.99") & (table["metric"] == "corloc")]
    assert own["verdict"].tolist() == ["other data"] and own["difference"].isna().all()


def test_signs_of_failure(made, tmp_path):
    table, text = made("diagnosis")
    assert set(table["sign"]) <= {check.sign for check in CHECKS}
    found = table.set_index("sign")["found"].to_dict()
    assert found["masks found, boxes loose"] == "yes"  # 60 > 30, but 60 < 66
    assert found["random masking as good as background masking"] == "no"
    assert found["training no better than none"] == "yes"
    assert found["below a control that looks at no image"] == "yes"  # CorLoc
    assert found["loss still falling at the end"] == "yes"
    assert found["seeds more than 2 points apart"] == "no"  # 1.3
    assert found["slots collapsed"] == found["heads that never match"] == "not measured"
    assert found["below a training-free method on the same keys"] == "not measured"
    assert "CorLoc 60.0, 70.0 (centre square)" in text
    # The heads' own numbers: one slot has everything, head 1 is like no other.
    folder = tmp_path / "runs/full/seed0/metrics"
    pd.DataFrame(
        [["attention", "merged", 1.0, 0.95]], columns=["mask_source", "head", "used", "largest"]
    ).to_csv(folder / "voc2012-val-slots.csv", index=False)
    pairs = [
        (head, slot, other, own, 0.1, 0.1 + 0.8 * (slot == own and 1 not in (head, other)))
        for head in range(3)
        for slot in range(2)
        for other in range(3)
        for own in range(2)
    ]
    names = ["head", "slot", "other_head", "other_slot", "before", "after"]
    pd.DataFrame(pairs, columns=names).to_csv(folder / "voc2012-val-agreement.csv", index=False)
    table, text = made("diagnosis")
    found = table.set_index("sign")["found"].to_dict()
    assert found["slots collapsed"] == found["heads that never match"] == "yes"
    assert "least gained by head 2" in text  # as figures count them


def test_without_a_run_nothing_is_diagnosed(made, tmp_path):
    for path in (tmp_path / "runs/full").rglob("voc2012-val.csv"):
        path.unlink()
    assert set(made("diagnosis")[0]["found"]) == {"not measured"}


def test_compute_and_provenance_show_what_is_missing(made, tmp_path):
    (tmp_path / "runs/full/seed0/provenance.json").write_text(
        '{"mmqsa": "0.1.0", "packages": {"torch": "2"}, "python": "3", "device": "cpu", '
        '"precision": "fp32", "parameters": 2000000, "updates_per_head": [10, 20], '
        '"seconds": 90.0, "images_per_second": 10.0, "final_loss": 0.5, "images": 7, '
        '"cache_fingerprint": "abcdefabcdefabcdef"}'
    )
    table, text = made("compute")
    assert table["updates_per_head"].tolist() == [15] and "2.00" in text and "1.5" in text
    assert text.count("missing") == 3 * 5
    _, text = made("provenance")
    assert "abcdefabcdef " in text and text.count("missing") == 3
