"""Results that the tests of reporting write by themselves, and what is made of them."""

import json

import pandas as pd

from mmqsa.config.evaluation import BASELINES
from mmqsa.config.workflow import Config
from mmqsa.paths import Paths
from mmqsa.reporting.results import Results, load_spec, read_published, table_spec
from mmqsa.reporting.tables import make_table

RECORD = {
    "mmqsa": "0.1.0",
    "packages": {"torch": "2"},
    "python": "3",
    "device": "cpu",
    "precision": "fp32",
    "num_parameters": 2_000_000,
    "updates_per_head": [10, 20],
    "seconds": 90.0,
    "images_per_second": 10.0,
    "final_loss": 0.5,
    "num_images": 7,
    "cache_fingerprint": "abcdefabcdefabcdef",
    "cache": {},
    "seed": 0,
}


class Made:
    """A results folder below ``tmp_path``; ``config`` is the plain data of a Config."""

    def __init__(self, folder):
        self.paths = Paths(folder)
        self.published = read_published()
        self.config = {"seeds": [0, 1], "settings": {"full": {}, "random": {}}}

    def write(self, path, rows):
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(path, index=False)

    def metrics(self, setting, seed, rows, kind="", images="voc2012-val", **common):
        """Write a metrics file of a run; ``common`` is in every row."""
        names = {"matching": "hungarian", "mask_source": "decoder", "eval_seed": 0} | common
        self.write(self.paths.metrics(setting, seed, images, kind), [names | row for row in rows])

    def provenance(self, setting, seed, **record):
        """Write a run's provenance."""
        path = self.paths.run(setting, seed) / "provenance.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(RECORD | record))

    def references(self, method, rows, kind="", **common):
        """The same of a baseline or the controls, or of a method of other code."""
        rows = [{"num_slots": 2, "eval_seed": 0} | common | row for row in rows]
        ours = method in (*BASELINES, "controls")
        place = self.paths.reference if ours else self.paths.method
        self.write(place("voc2012-val", method, kind), rows)

    def method(self, name, **record):
        """Write the record of a method of other code."""
        path = self.paths.methods / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"name": name, "title": name} | record))

    @staticmethod
    def scores(value, *metrics, n_images=12):
        """Rows with the same value of each of ``metrics``."""
        return [
            {"protocol": "paper", "metric": metric, "value": value, "n_images": n_images}
            for metric in metrics
        ]

    def results(self, **table):
        """What a table is made from; without settings, it has those of the config.

        ``names`` are the printed names of settings, which are of the whole config.
        """
        named = table.pop("names", {})
        data = self.config | {"tables": {"made": {"caption": "C"} | table}}
        data |= {"labels": data.get("labels", {}) | named}
        spec = self.paths.results / "spec.yaml"
        spec.write_text(table_spec(Config.model_validate(data), "made"))
        return Results(load_spec(spec), self.paths, self.published)

    def table(self, **table):
        """A table's tidy frame, and its Markdown."""
        csv, markdown, *_ = make_table(self.results(**table))
        return pd.read_csv(csv), markdown.read_text()
