import pandas as pd
import pytest

from mmqsa.errors import InputError
from mmqsa.page.summary import (
    Cell,
    facts,
    page_table,
    verdicts,
    warnings,
)
from mmqsa.paths import Paths
from mmqsa.reporting.typeset import Printed, to_markdown


def test_a_markdown_table_is_read_as_it_was_written(tmp_path):
    rows = [{"": "Ours | theirs", "mBO^c": "52.0 ± 1.0"}, {"": "k-means", "mBO^c": "60.9"}]
    printed = Printed("A caption. More.", ["", "n", "mBO^c"], rows, ["a", "b"], left=2)
    printed.bold.loc[1, "mBO^c"] = True
    path = tmp_path / "tables/made.md"
    path.parent.mkdir()
    path.write_text(to_markdown(printed))
    table = page_table(Paths(tmp_path), "made", ["curve"])
    assert (table.caption, table.title) == ("A caption. More.", "A caption")
    assert (table.heading, table.left) == (["", "n", "mBO^c"], 2)
    assert table.figures == ["made-curve.png"]
    assert table.rows == [
        [Cell("Ours | theirs"), Cell(""), Cell("52.0 ± 1.0")],
        [Cell("k-means"), Cell(""), Cell("60.9", bold=True)],
    ]
    path.write_text("nothing\n")
    with pytest.raises(InputError, match="no table of mmqsa; make it again"):
        page_table(Paths(tmp_path), "made", [])


def test_facts_say_what_was_run_and_on_what(results, spec):
    told = facts(spec, results)
    assert told["Runs"] == "2, of 2 settings with 1 seed each"
    assert told["Time"].endswith("of training in total") and told["Machine"]
    assert "scenes" in told["Data"] and "random weights" in told["Features"]
    missing = spec.model_copy(update={"trained": spec.trained | {"other": [0, 1]}})
    assert facts(missing, results)["Runs"] == "2 of 4, of 3 settings with 1 or 2 seeds each"


SAID = {"source": "Table I", "masking": "mean (the paper)"}
CLAIMS = [
    ("More is better", "decoder", "corloc", "no evidence"),
    ("More is better", "attention", "corloc", "no evidence"),
    ("Ours wins", "decoder", "corloc", "opposite"),
    ("Ours wins", "decoder", "mbo_c", "weak evidence against"),
    ("Ours wins", "attention", "corloc", "no evidence"),
    ("Ours wins", "attention", "mbo_c", "no evidence"),
    ("Their number", "decoder", "corloc", "other data"),
    ("Training helps", "decoder", "corloc", "reproduced"),
    ("Training helps", "decoder", "miou", ""),
    ("Training helps", "decoder", "corloc", "reproduced"),  # by another protocol
]


def test_verdicts_are_told_in_words_and_the_decided_first(tmp_path):
    path = tmp_path / "claims.csv"
    columns = ["claim", "mask_source", "metric", "verdict"]
    pd.DataFrame(CLAIMS, columns=columns).assign(**SAID).to_csv(path, index=False)
    told = verdicts(path)
    assert [one.claim for one in told] == [
        *("Ours wins", "Training helps", "More is better", "Their number"),
    ]
    assert [one.tone for one in told] == ["open", "reproduced", "open", "open"]
    assert told[0].sentences == [
        "decoder masks: opposite for CorLoc; weak evidence against for mBO^c.",
        "attention masks: no evidence.",
    ]
    assert {one.source for one in told} == {"Table I; masked by: mean (the paper)"}
    assert told[2].sentences == ["no evidence."]
    assert told[1].told == {"decoder": {"reproduced": ["CorLoc"]}}


def test_warnings_are_the_signs_that_were_found(tmp_path):
    path = tmp_path / "diagnosis.csv"
    rows = [
        ("slots collapsed", "decoder", "yes", "1 of 3"),
        ("slots collapsed", "attention", "no", "3 of 3"),
        ("loss still falling", "", "yes", "5 %"),
    ]
    columns = ["sign", "mask_source", "detected", "evidence"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    assert warnings(path) == [
        {"sign": "slots collapsed", "evidence": {"decoder masks": "1 of 3"}},
        {"sign": "loss still falling", "evidence": {"": "5 %"}},
    ]
    path.write_text("sign\nx\n")
    with pytest.raises(InputError, match=r"diagnosis.csv: no table of mmqsa \("):
        warnings(path)
    with pytest.raises(InputError, match=r"claims.csv: missing; run `mmqsa table`"):
        verdicts(tmp_path / "claims.csv")
