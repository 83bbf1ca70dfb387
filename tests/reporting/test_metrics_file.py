"""The door of metrics files: a damaged one is named, never dropped."""

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mmqsa.errors import InputError
from mmqsa.reporting.metrics_file import KINDS, WORDS, read_table

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
        ("50.5", "fifty", "value is 'fifty', which is not a number"),
        ("50.5", "inf", "value is inf, which is not a number"),
        ("50.5", "", "a value is empty"),
        ("decoder,1,paper,corloc", "decoder,,paper,corloc", "eval_seed is empty in row 4"),
        ("0,paper,corloc", "0,,corloc", "protocol is empty in row 2"),
        ("decoder,1,paper,corloc", "decoder,0,paper,corloc", "row 4 repeats another"),
        ("hungarian,decoder,1,paper,corloc,51", "hungarian,decoder,1,pa\n", "is empty in row 5"),
        (",243\n", ",243,7,7\n", "its rows have more cells than its heading"),
        ("50.5", "-5", "value is -5.0, which is not a number from 0 to 100"),
        ("50.5", "250", "value is 250.0, which is not a number from 0 to 100"),
        ("50.5", "1" + "0" * 30, "which is not a number from 0 to 100"),
        ("50.5", "True", "value is 'True', which is not a number"),
        ("50.5,243", "50.5,-3", "n_images is -3, which is not a whole number"),
        ("50.5,243", "50.5,1.5", "n_images is 1.5, which is not a whole number"),
        ("50.5,243", "50.5,1" + "0" * 30, "which is not a whole number"),
        ("decoder,1,paper,corloc", "decoder,1" + "0" * 25 + ",paper,corloc", "eval_seed is"),
        ("paper,mbo_c,40", "paper,zzz,40", "unknown metric 'zzz'; expected corloc"),
        ("paper,mbo_c,40", "ours,mbo_c,40", "unknown protocol 'ours'"),
        ("hungarian,decoder,0,paper,mbo_c", "hungarian,eye,0,paper,mbo_c", "unknown mask_source"),
        ("hungarian,decoder,0,paper,corloc,50.5,243\n", "", "1 of 4 rows are missing"),
        ("243\nhungarian,decoder,1,paper,mbo_c,,0\n", "24", "its last line has no end"),
        ("n_images", "value", "the column 'value' is there twice"),
        ("decoder,0", "deco\0der,0", "not a metrics file"),
        (WHOLE[70:], "", "not a metrics file"),
        (WHOLE[WHOLE.index("\n") + 1 :], "", "it has no rows"),
        (WHOLE, "", "it is empty"),
        (WHOLE, ",".join(map(str, range(2000))) + "\n", "than 1,000"),
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
@pytest.mark.parametrize(
    "kind, text, said",
    [
        ("per_image", "image_id,eval_seed,paper/zzz\na,0,1\n", "unknown metric 'zzz'"),
        ("per_image", "image_id,eval_seed,paper/corloc\na,0,40\n", "not a number from 0 to 1"),
        ("per_image", "image_id,eval_seed\na,0\nb,0\na,1\n", "1 of 4 rows are missing"),
        ("per_image", "image_id,eval_seed\n", "it has no rows"),
        ("per_object", "image_id,labels,class,share,iou\na,class,1,0.5,2\n", "iou is 2"),
        ("agreement", "head,slot,other_head,other_slot,before,after\n0,0,0,0,7,1\n", "before is 7"),
        ("history", "step,loss\n1,0.5\n1,0.4\n", "row 3 repeats another"),
        ("published", "protocol,method,metric,value,source\npaper,a,corloc,1,b\n", "no column enc"),
        ("published", "protocol,method,encoder,metric,value,source\npaper,a,,x,1,b", "metric 'x'"),
    ],
)
def test_every_kind_has_bounds_and_every_row(tmp_path, kind, text, said):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_table(tmp_path / "m.csv", kind)


def test_an_adjusted_index_may_be_negative(tmp_path):
    (tmp_path / "m.csv").write_text("image_id,eval_seed,spot/fg_ari\na,0,-0.1\n")
    assert read_table(tmp_path / "m.csv", "per_image")["spot/fg_ari"].item() == -0.1


def test_where_boxes_are_scored_there_are_no_objects(tmp_path):
    (tmp_path / "m.csv").write_text("image_id,labels,class,share,iou\n")
    assert read_table(tmp_path / "m.csv", "per_object").empty


def test_an_image_may_be_called_na(tmp_path):
    names = ["NA", "null", "nan", "None", "007"]
    for kind, others in (
        ("per_image", ("", "")),
        ("per_object", (",labels,class,share,iou", ",class,1,1,1")),
    ):
        lines = [f"image_id,eval_seed{others[0]}", *(f"{name},0{others[1]}" for name in names)]
        (tmp_path / "m.csv").write_text("\n".join([*lines, ""]))
        assert read_table(tmp_path / "m.csv", kind)["image_id"].tolist() == names


@pytest.mark.faults
def test_text_in_void_is_named(made):
    made.references("kmeans", made.scores(50.0, "corloc"), name="k-means", void="none")
    with pytest.raises(InputError, match="void is 'none', which is not a number"):
        made.results().reference_metrics()


@pytest.mark.faults
def test_without_matching_the_masks_of_each_head_are_the_decoders(tmp_path):
    pairs = [(one, two) for one in ("none", "mask") for two in ("decoder", "decoder-masks")]
    rows = [f"{one},{two},0,paper,corloc,1,1" for one, two in pairs]
    text = "\n".join([WHOLE.partition("\n")[0], *rows[:1], *rows[2:], ""])
    (tmp_path / "m.csv").write_text(text)
    assert len(read_table(tmp_path / "m.csv", "", NAMES)) == 3
    (tmp_path / "m.csv").write_text(text.replace(f"{rows[2]}\n", ""))
    with pytest.raises(InputError, match="1 of 3 rows are missing"):
        read_table(tmp_path / "m.csv", "", NAMES)


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
def test_one_of_several_runs_was_scored_in_fewer_ways(made):
    made.metrics("full", 0, made.scores(50.0, "corloc", "mbo_c"))
    made.metrics("full", 1, made.scores(50.0, "corloc"))
    path = made.paths.metrics("full", 1, "voc2012-val")
    with pytest.raises(InputError, match=f"{path}: 1 rows, where another seed has more"):
        made.results().run_metrics()


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["folder", "loop", "pipe"])
def test_something_else_in_place_of_a_file(made, kind):
    path = made.paths.metrics("full", 0, "voc2012-val")
    path.parent.mkdir(parents=True)
    {"folder": Path.mkdir, "loop": lambda path: path.symlink_to(path), "pipe": os.mkfifo}[kind](
        path
    )
    with pytest.raises(InputError, match=f"{path}: not a regular file"):
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
    kind = data.draw(some.sampled_from(sorted(KINDS)))
    columns = [name for part in KINDS[kind][:3] for name in part]
    cells = [next(iter(WORDS.get(name, ["1"]))) for name in columns]
    text = bytearray(f"{','.join(columns)}\n{','.join(cells)}\n".encode())
    for _ in range(data.draw(some.integers(0, 5))):
        place = data.draw(some.integers(0, len(text)))
        text[place : place + data.draw(some.integers(0, 9))] = data.draw(some.binary(max_size=9))
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(data.draw(some.sampled_from([bytes(text), data.draw(some.binary())])))
    try:
        table = read_table(path, kind)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
    else:
        numbers = table.select_dtypes("number").to_numpy(float)
        assert isinstance(table, pd.DataFrame) and not np.isinf(numbers).any()
