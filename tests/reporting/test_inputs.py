import pytest

from mmqsa.config.workflow import Config
from mmqsa.paths import Paths
from mmqsa.reporting.inputs import TABLES, figure_inputs, figures, table_inputs
from mmqsa.reporting.results import table_spec
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


CURVE = {"against": "slots.num_heads"}
CORRUPTED = {"clean": ["val"], "fog": ["val-fog3"]}


@pytest.mark.parametrize(
    "table, changes, drawn",
    [
        ({"curve": CURVE}, {}, True),
        ({"curve": CURVE}, {"grid": ["full", "twin"]}, False),  # all with 8 heads
        ({"curve": CURVE | {"lines": {"a": ["full"], "b": ["one"]}}}, {}, False),
        ({"curve": CURVE | {"lines": {"a": ["full", "one"], "b": ["twin"]}}}, {}, True),
        ({"curve": {"against": "masking.ratio"}}, {"grid": ["full", "bare"]}, True),
        ({"figures": ["sweep"], "kind": "sweep"}, {}, True),
        (
            {"figures": ["sweep"], "kind": "sweep"},
            {"evaluation": {"sweep": {"num_slots": [7]}}},
            False,
        ),
        (
            {"figures": ["sweep"], "kind": "sweep"},
            {"evaluation": {"sweep": {"num_slots": [5]}}},
            True,
        ),
        ({"figures": ["severity"], "images": CORRUPTED}, {}, True),
        ({"figures": ["severity"], "images": {"fog": ["val-fog3"]}}, {}, False),
        ({"figures": ["severity"], "images": {"clean": ["val"], "all": ["train"]}}, {}, False),
        ({"figures": ["snapshots"], "kind": "snapshots"}, {}, False),
        ({"figures": ["snapshots"], "kind": "snapshots"}, {"training": {"snapshots": [0]}}, True),
        ({"figures": ["time"], "kind": "snapshots"}, {"training": {"snapshots": [0]}}, False),
        ({"figures": ["time"], "kind": "snapshots"}, {"training": {"snapshots": [0, 9]}}, True),
        ({"figures": ["training"]}, {}, True),
        ({"figures": ["training"]}, {"training": {"steps": 5, "log_every": 5}}, False),
        ({"figures": ["controls"]}, {}, True),
    ],
)
def test_no_figure_of_a_single_point_is_planned(table, changes, drawn):
    settings = {"full": {}, "one": {"slots": {"num_heads": 1}}, "twin": {}}
    settings["bare"] = {"masking": {"strategy": "none"}}
    data = {"seeds": [0], "settings": settings, "tables": {"t": {"caption": "C"} | table}}
    config = Config.model_validate(data | changes)
    kind = "curve" if "curve" in table else table["figures"][0]
    assert figures(config, config.tables["t"]) == [kind] * drawn
    assert (
        f"- {kind}" in table_spec(config, "t") or "against:" in table_spec(config, "t")
    ) == drawn


def test_figures_read_the_configs_of_runs(tmp_path):
    tables = {"t": {"caption": "C", "curve": {"against": "slots.num_heads"}, "references": "none"}}
    config = Config.model_validate({"seeds": [0], "tables": tables})
    paths = Paths(tmp_path)
    assert set(figure_inputs(config, "t", "curve", paths)) == {
        paths.metrics("full", 0, "voc2012-val"), paths.run("full", 0) / "config.yaml"
    }  # fmt: skip
