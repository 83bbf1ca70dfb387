"""Fixtures: a small results folder with everything that a page shows, and its page."""

import shutil
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from mmqsa.config.methods import MethodRecord
from mmqsa.config.workflow import Config
from mmqsa.data.voc import VocFolder
from mmqsa.evaluation.agreement import score_agreement
from mmqsa.evaluation.baselines import score_baseline
from mmqsa.evaluation.controls import score_controls
from mmqsa.evaluation.evaluate import evaluate
from mmqsa.evaluation.label_map_file import PREDICTION, LabelMaps, label_map_writer
from mmqsa.evaluation.label_maps import baseline_label_maps, control_label_maps, run_label_maps
from mmqsa.features.cache import FeatureCache
from mmqsa.page.build import make_page
from mmqsa.page.explorer import write_explorer
from mmqsa.page.spec import PageSpec, make_spec
from mmqsa.paths import Paths, label_maps_path
from mmqsa.reporting.figures import draw
from mmqsa.reporting.results import Results, load_spec, read_published, table_spec
from mmqsa.reporting.tables import make_table
from mmqsa.training.loop import train
from mmqsa.training.run import Run

CLAIM = {"says": "Masking beats none", "source": "Table I", "order": ["no-masking", "full"]}
PRINTED = {
    "summary": {"caption": "In brief", "figures": ["controls"]},
    "claims": {"caption": "Claims", "kind": "claims", "references": "none", "claims": [CLAIM]},
    "diagnosis": {"caption": "Signs of failure", "kind": "diagnosis"},
}
CPU = torch.device("cpu")
CHANGES = {
    "settings": {"full": {}, "no-masking": {"masking": {"strategy": "none"}}},
    "seeds": [0],
    "labels": {"full": "Masked"},
    "tables": PRINTED,
    "matching": {"strategies": ["hungarian", "none"]},
    "evaluation": {"baselines": ["kmeans"], "seeds": [0]},
}


@pytest.fixture(scope="session")
def shown(config) -> Config:
    return config.changed("test", CHANGES)


@pytest.fixture(scope="session")
def spec(shown) -> PageSpec:
    return make_spec(shown)


@pytest.fixture(scope="session")
def results(tmp_path_factory, shown, caches, run_folder) -> Paths:
    """Two settings of one seed, k-means and the controls: scored, tabled and drawn."""
    paths = Paths(tmp_path_factory.mktemp("results"))
    val, fitted = FeatureCache(caches["val"]), FeatureCache(caches["train"])
    shutil.copytree(run_folder, paths.run("full", 0))
    train(fitted, shown.setting("no-masking"), 0, paths.run("no-masking", 0), CPU)
    for name in shown.settings:
        run, out = Run.load(paths.run(name, 0)), paths.metrics(name, 0, val.name).parent
        evaluate(run, val, shown, out, CPU)
        score_agreement(run, val, out, CPU)
        run_label_maps(run, val, shown, out, CPU)
    controls = paths.reference(val.name, "controls").parent
    score_baseline("kmeans", val, fitted, shown, controls)
    baseline_label_maps("kmeans", val, fitted, shown, controls)
    score_controls(val, controls, fitted, 4, [0])
    control_label_maps(val, controls, fitted, 4, [0])
    for name, table in shown.tables.items():
        path = paths.stage_config(f"tables/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(table_spec(shown, name))
        made = Results(load_spec(path), paths, read_published())
        make_table(made)
        for kind in table.drawn:
            draw(kind, made)
    return paths


@pytest.fixture(scope="session")
def page(results, spec, caches, voc_root, tmp_path_factory) -> Path:
    """The folder of the page of these results, alone in a place of its own."""
    out = tmp_path_factory.mktemp("sent") / "page"
    sources = FeatureCache(caches["val"]), VocFolder.find(voc_root)
    make_page(spec, results, out, partial(write_explorer, spec, results, *sources))
    return out


TITLE = r'SPOT w/o "refine"|\ **$a_ <b>x'  # no title is split, or read as anything but text


def score_method(paths, spec):
    """Leave what `mmqsa score` does, of k-means under another name; make the summary anew."""
    names = {kind: paths.reference(spec.image_set, "kmeans", kind) for kind in ("", "per_image")}
    for kind, path in names.items():
        table = pd.read_csv(path).query("num_slots == 4").assign(name="spot")
        scores = paths.method(spec.image_set, "spot", kind)
        scores.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(scores, index=False)
    maps = LabelMaps(label_maps_path(names[""]))
    with label_map_writer(label_maps_path(paths.method(spec.image_set, "spot")), maps.ids) as file:
        file.write(PREDICTION, slice(None), maps.arrays["k-means, K = 4"][:])
    record = MethodRecord(name="spot", title=TITLE, source="CVPR 2024", colour="#1b7837")
    (paths.methods / "spot.yaml").write_text(record.text())
    summary = load_spec(paths.stage_config("tables/summary"))
    make_table(Results(summary, paths, read_published()))
