import pytest

from mmqsa.config.workflow import Config
from mmqsa.paths import Paths
from mmqsa.reporting.inputs import TABLES, figure_inputs, table_inputs
from mmqsa.reporting.tables import MAKERS


def test_every_kind_of_table_declares_its_inputs():
    assert set(TABLES) == set(MAKERS)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_table_reads_nothing_that_it_does_not_declare(made, kind, monkeypatch):
    results = made.results(kind=kind)
    config = Config.model_validate(
        made.config | {"tables": {"made": {"caption": "C", "kind": kind}}}
    )
    declared = set(table_inputs(config, "made", made.paths))
    asked = set()
    is_file = type(made.paths.results).is_file
    monkeypatch.setattr(
        type(made.paths.results), "is_file", lambda path: asked.add(path) or is_file(path)
    )
    MAKERS[kind](results)
    read = {path for path in asked if made.paths.results in path.parents}
    # These are measured for the first setting only.
    measured = {path for path in read if path.stem.endswith(("agreement", "slots"))}
    assert read and read - measured <= declared


def test_only_a_row_of_one_image_set_reads_its_images(tmp_path):
    rows = {"clean": ["val"], "fog": ["val-fog1", "val-fog2"]}
    config = {"seeds": [0], "tables": {"t": {"caption": "C", "images": rows}}}
    declared = table_inputs(Config.model_validate(config), "t", Paths(tmp_path))
    metrics = [path.name for path in declared if path.parent.name == "metrics"]
    assert sorted(metrics) == [
        *("voc2012-val-fog1.csv", "voc2012-val-fog2.csv"),
        *("voc2012-val-per_image.csv.gz", "voc2012-val.csv"),
    ]


def test_figures_read_the_configs_of_runs(tmp_path):
    tables = {"t": {"caption": "C", "curve": {"against": "slots.num_heads"}, "references": "none"}}
    config = Config.model_validate({"seeds": [0], "tables": tables})
    paths = Paths(tmp_path)
    assert set(figure_inputs(config, "t", "curve", paths)) == {
        paths.metrics("full", 0, "voc2012-val"), paths.run("full", 0) / "config.yaml"
    }  # fmt: skip
