import numpy as np
import pandas as pd
import pytest

from mmqsa.evaluation import premise as module
from mmqsa.evaluation.premise import object_share, score_premise
from mmqsa.features.cache import FeatureCache


def test_object_share_of_patches():
    classes = np.zeros((1, 4, 4), np.uint8)
    classes[0, :2, :2] = 5
    classes[0, 0, 2], classes[0, 1, 2] = 3, 255  # half of nothing: void is no object
    assert object_share(classes, 2).tolist() == [[1.0, 0.25, 0.0, 0.0]]


def test_premise_holds_where_it_is_made_to_hold(tmp_path, caches):
    cache = FeatureCache(caches["val"])
    found = pd.read_csv(score_premise(cache, 0.7, tmp_path)).set_index("strategy")
    share = found["all_object"].iloc[0]
    assert found.loc["none", "visible_object"] == pytest.approx(share, abs=1e-3)
    shares = object_share(cache.classes[:], cache.grid)
    assert share == pytest.approx(100 * shares.mean(), abs=1e-3)

    class Made:
        """Features whose mean falls with the share of object, as the paper says of DINO's."""

        path, grid, classes, name = cache.path, cache.grid, cache.classes, cache.name
        features = np.repeat((1 - shares)[..., None], 8, axis=2).astype(np.float16)

        def read(self, rows):
            return self.features[rows]

    made = pd.read_csv(score_premise(Made(), 0.7, tmp_path / "made")).set_index("strategy")
    assert made["correlation"].iloc[0] == pytest.approx(-1, abs=1e-3)
    assert (
        made.loc["background", "visible_object"] > share > made.loc["foreground", "visible_object"]
    )


def test_blocks_of_images_change_no_bit(tmp_path, caches, monkeypatch):
    cache = FeatureCache(caches["val"])
    once = score_premise(cache, 0.7, tmp_path / "once").read_bytes()
    monkeypatch.setattr(module, "BLOCK", 4)
    assert score_premise(cache, 0.7, tmp_path / "blocks").read_bytes() == once
