"""The door of metrics files: a damaged one is named, never dropped."""

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mmqsa.errors import InputError
from mmqsa.reporting.metrics_file import KINDS, read_table

WHOLE = """matching,mask_source,eval_seed,protocol,metric,value,n_images
hungarian,decoder,0,paper,corloc,50.5,243
hungarian,decoder,0,paper,mbo_c,40,243
hungarian,decoder,1,paper,corloc,51,243
hungarian,decoder,1,paper,mbo_c,,0
"""
NAMES = ("matching", "mask_source")


def test_what_was_written_is_read(tmp_path):
    (tmp_path / "m.csv").write_text(WHOLE)
    table = read_table(tmp_path / "m.csv", "", NAMES)
    assert table["value"].tolist()[:3] == [50.5, 40, 51] and len(table) == 4


def test_ids_of_digits_keep_their_zeros(tmp_path):
    (tmp_path / "m.csv").write_text("image_id,eval_seed,paper/corloc\n000139,0,1\n")
    assert read_table(tmp_path / "m.csv", "per_image")["image_id"].tolist() == ["000139"]


@pytest.mark.faults
@pytest.mark.parametrize(
    "old, new, said",
    [
        ("value", "values", "it has no column value"),
        ("matching,", "m,", "it has no column matching"),
        ("50.5", "fifty", "value is 'fifty', which is no number"),
        ("50.5", "inf", "value is inf, which is no number"),
        ("50.5", "", "a value is empty"),
        ("decoder,1,paper,corloc", "decoder,,paper,corloc", "eval_seed is empty in row 4"),
        ("0,paper,corloc", "0,,corloc", "protocol is empty in row 2"),
        ("decoder,1,paper,corloc", "decoder,0,paper,corloc", "row 4 repeats another"),
        ("hungarian,decoder,1,paper,corloc,51", "hungarian,decoder,1,pa\n", "is empty in row 5"),
        (",243\n", ",243,7,7\n", "not a metrics file"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, old, new, said):
    path = tmp_path / "m.csv"
    path.write_text(WHOLE.replace(old, new))
    with pytest.raises(InputError) as refused:
        read_table(path, "", NAMES)
    line = str(refused.value)
    assert line.startswith(f"{path}: not a metrics file") and said in line and "\n" not in line


@pytest.mark.faults
def test_one_of_several_runs_is_damaged(made):
    """Its seed would be missing from a mean, in silence."""
    for seed in (0, 1):
        made.metrics("full", seed, made.scores(50.0, "corloc"))
    assert made.results().run_metrics()["seed"].nunique() == 2
    path = made.paths.metrics("full", 1, "voc2012-val")
    path.write_text(path.read_text()[:-25])
    with pytest.raises(InputError, match=rf"{path}: not a metrics file"):
        made.results().run_metrics()


@pytest.mark.faults
def test_a_compressed_file_that_is_damaged(tmp_path):
    whole = gzip.compress(b"image_id,eval_seed\n000139,1\n" * 99)
    for name, content in (("cut", whole[:-20]), ("torn", whole[:20] + whole[30:]), ("plain", b"a")):
        path = tmp_path / f"{name}-per_image.csv.gz"
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"{name}-per_image.csv.gz: not a metrics file"):
            read_table(path, "per_image")
    with pytest.raises(InputError, match="not a metrics file"):
        read_table(tmp_path / "absent.csv")


@pytest.mark.faults
def test_a_file_that_unpacks_to_anything(tmp_path, monkeypatch):
    monkeypatch.setattr("mmqsa.reporting.metrics_file.MAX_BYTES", 1_000_000)
    path = tmp_path / "m-per_image.csv.gz"
    path.write_bytes(gzip.compress(b"0" * 50_000_000))
    with pytest.raises(InputError, match=r"more than 1 MB"):
        read_table(path, "per_image")


@pytest.mark.fuzz
@given(data=some.data())
def test_any_csv_is_read_or_refused(tmp_path_factory, data):
    kind, text = data.draw(some.sampled_from(sorted(KINDS))), bytearray(WHOLE.encode())
    for _ in range(data.draw(some.integers(0, 5))):
        place = data.draw(some.integers(0, len(text) - 1))
        text[place : place + data.draw(some.integers(0, 9))] = data.draw(some.binary(max_size=9))
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(data.draw(some.sampled_from([bytes(text), data.draw(some.binary())])))
    try:
        table = read_table(path, kind)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
    else:
        numbers = table[[*KINDS[kind].numbers, *KINDS[kind].measured]].to_numpy(float)
        assert isinstance(table, pd.DataFrame) and not np.isinf(numbers).any()
