# Plain upsampling: test_evaluate.py; the protocols of each geometry: test_protocols.py.
import gzip
import time

import numpy as np
import pandas as pd
import torch

from mmqsa.evaluation.scoring import Scorer, winning_slots, write_csv
from mmqsa.features.cache import FeatureCache


def test_a_tie_goes_to_the_earlier_slot():
    masks = torch.tensor([[[0.5, 0.1, 0.2, 0.5], [0.5, 0.2, 0.1, 0.5], [0.1, 0.2, 0.2, 0.6]]])
    winner, value = winning_slots(masks, 2, 2)
    assert winner.tolist() == [[[0, 1], [0, 2]]]
    torch.testing.assert_close(value, torch.tensor([[[0.5, 0.2], [0.2, 0.6]]]))


def test_means_leave_out_what_an_image_cannot_have(tmp_path, caches):
    cache = FeatureCache(caches["val"])

    class OneEmpty:
        path, ids, boxes, attributes = cache.path, cache.ids, None, cache.attributes
        classes, instances = cache.classes[:], cache.instances[:]

    OneEmpty.classes[1] = OneEmpty.instances[1] = 0
    scorer = Scorer(OneEmpty())
    perfect = OneEmpty.classes.copy()
    perfect[perfect == 255] = 0
    scorer.add(range(6), perfect, name="perfect", with_objects=True)
    scorer.add([0, 2], np.zeros_like(perfect[:2]), name="one slot")
    path = scorer.write(tmp_path / "out.csv", ["name"])
    means = pd.read_csv(path).set_index(["name", "protocol", "metric"])
    values = means[["value", "n_images"]]
    assert values.loc["perfect", "paper", "mbo_c"].tolist() == [100, 5]
    assert values.loc["perfect", "paper", "miou_with_background"].tolist() == [100, 6]
    images = pd.read_csv(tmp_path / "out-per_image.csv.gz").set_index(["name", "image_id"])
    column = images["paper/mbo_c"]
    assert np.isnan(column["perfect", cache.ids[1]])
    expected = 100 * column["one slot"].mean()
    np.testing.assert_allclose(
        means.loc["one slot", "paper", "mbo_c"]["value"], expected, rtol=1e-4
    )
    objects = pd.read_csv(tmp_path / "out-per_object.csv.gz")
    assert set(objects["name"]) == {"perfect"} and cache.ids[1] not in set(objects["image_id"])
    assert (objects.loc[objects["labels"] == "class", "iou"] == 1).all()


def test_the_same_table_gives_the_same_bytes_compressed_or_not(tmp_path, monkeypatch):
    table = pd.DataFrame({"image_id": ["000139", "b"], "paper/mbo_c": [1 / 3, np.nan]})
    plain, one, two = (tmp_path / name for name in ("t.csv", "one.csv.gz", "two.csv.gz"))
    for path, now in ((plain, 0), (one, 0), (two, 1e9)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        write_csv(table, path)
    assert plain.read_text() == "image_id,paper/mbo_c\n000139,0.333333\nb,\n"
    assert one.read_bytes() == two.read_bytes()  # neither the time nor a file's name
    assert gzip.decompress(one.read_bytes()) == plain.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {plain.name, one.name, two.name}
