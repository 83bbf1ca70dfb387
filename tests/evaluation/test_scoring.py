# Plain upsampling: test_evaluate.py; the protocols of each geometry: test_protocols.py.
import numpy as np
import pandas as pd
import torch

from mmqsa.evaluation.scoring import Scorer, winning_slots
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
    assert means.loc["perfect", "paper", "mbo_c"].tolist() == [100, 5]
    assert means.loc["perfect", "paper", "miou_with_background"].tolist() == [100, 6]
    images = pd.read_csv(tmp_path / "out-per_image.csv").set_index(["name", "image_id"])
    column = images["paper/mbo_c"]
    assert np.isnan(column["perfect", cache.ids[1]])
    expected = 100 * column["one slot"].mean()
    np.testing.assert_allclose(
        means.loc["one slot", "paper", "mbo_c"]["value"], expected, rtol=1e-4
    )
    objects = pd.read_csv(tmp_path / "out-per_object.csv")
    assert set(objects["name"]) == {"perfect"} and cache.ids[1] not in set(objects["image_id"])
    assert (objects.loc[objects["labels"] == "class", "iou"] == 1).all()
