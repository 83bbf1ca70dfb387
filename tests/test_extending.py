"""docs/extending.md: each function is run in the module that it names, with its line in place."""

import ast
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import CPU

from mmqsa.config import evaluation, tables
from mmqsa.config.evaluation import BASELINES
from mmqsa.config.tables import METRICS, ImageSet
from mmqsa.data import corruptions
from mmqsa.data.corruptions import KINDS, Corruption
from mmqsa.data.voc import VocFolder
from mmqsa.evaluation import baselines, metrics
from mmqsa.evaluation.baselines import METHODS, score_baseline
from mmqsa.evaluation.controls import score_controls
from mmqsa.evaluation.metrics import PROTOCOLS
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract

TEXT = (Path(__file__).parents[1] / "docs/extending.md").read_text()
MODULES = {
    "src/mmqsa/config/evaluation.py": evaluation,
    "src/mmqsa/config/tables.py": tables,
    "src/mmqsa/data/corruptions.py": corruptions,
    "src/mmqsa/evaluation/baselines.py": baselines,
    "src/mmqsa/evaluation/metrics.py": metrics,
}


def blocks(kind: str) -> tuple[str, str]:
    """The function and the line of the section "Add a KIND"; both name a file that is there."""
    section = TEXT.partition(f"## Add a {kind}\n")[2].partition("\n## ")[0]
    function, line = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for path in re.findall(r"`(src/\S+\.py)`", section):
        assert path in MODULES and Path(MODULES[path].__file__).match(path)
    assert len(line.strip().splitlines()) == 1
    return function, line


def run(function: str, module: object) -> None:
    """As if it stood in that module, which stays as it was."""
    exec(compile(function, "docs/extending.md", "exec"), dict(vars(module)))


@pytest.fixture
def registered():
    """Takes out of the registries, after the test, what it added to them."""
    registries = (BASELINES, METHODS, METRICS, *PROTOCOLS.values(), KINDS)
    before = [set(registry) for registry in registries]
    yield
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry) - names:
            del registry[name]


def test_a_baseline(registered, tmp_path, caches, config):
    function, line = blocks("baseline")
    run(function, baselines)
    BASELINES.update(ast.literal_eval(f"{{{line}}}"))
    changed = config.changed("test", {"evaluation": {"baselines": ["kmeans", "brightest"]}})
    val, train = FeatureCache(caches["val"]), FeatureCache(caches["train"])
    path = score_baseline(changed.evaluation.baselines[1], val, train, changed, tmp_path)
    scored = pd.read_csv(path)
    assert set(scored["name"]) == {"brightest patches"} and set(scored["num_slots"]) == {2}
    assert scored["value"].between(0, 100).all() and (scored["n_images"] == 6).all()


def test_a_metric(registered, tmp_path, caches):
    function, line = blocks("metric")
    run(function, metrics)
    METRICS.update(ast.literal_eval(f"{{{line}}}"))
    assert METRICS["recall_i"] == "recall^i"
    path = score_controls(FeatureCache(caches["val"]), tmp_path)
    scored = pd.read_csv(path)
    found = scored[scored["metric"] == "recall_i"]
    assert set(found["protocol"]) == {"dinosaur"} and found["value"].between(0, 100).all()
    objects = pd.read_csv(path.with_name(f"{path.stem}-per_object.csv.gz"))
    objects = objects[objects["labels"] == "instance"].assign(hit=lambda rows: rows["iou"] > 0.5)
    by_image = objects.groupby(["name", "image_id"])["hit"].mean()
    expected = 100 * by_image.groupby("name").mean()
    assert expected.max() > 0
    np.testing.assert_allclose(
        found.set_index("name")["value"][expected.index], expected, atol=1e-3
    )


def test_a_corruption(registered, tmp_path, voc_root, config, monkeypatch):
    function, line = blocks("corruption")
    run(function, corruptions)
    names = (*tables.CORRUPTIONS, *ast.literal_eval(f"({line.strip()})"))
    monkeypatch.setattr(tables, "VARIANT", tables.VARIANT.replace("pixelate", "|".join(names[-2:])))
    assert ImageSet.parse("val-darkness3", "voc").variant == "darkness3"
    voc, corruption = VocFolder.find(voc_root), Corruption.parse("darkness3")
    image = np.asarray(voc.image(voc.ids("val")[0]))
    np.testing.assert_allclose(corruption(image, "a"), image * 0.35, atol=0.51)
    extract(voc, "val", config, tmp_path / "val.h5", CPU, corruption)
    assert FeatureCache(tmp_path / "val.h5").name == "scenes-val-darkness3"
