import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from mmqsa.errors import InputError
from mmqsa.evaluation.agreement import score_agreement
from mmqsa.evaluation.draws import image_draws
from mmqsa.features.cache import FeatureCache
from mmqsa.training.run import Run

CPU = torch.device("cpu")


def test_agreement_is_the_cosine_of_matched_slots(tmp_path, run_folder, caches):
    run, cache = Run.load(run_folder), FeatureCache(caches["val"])
    path = score_agreement(run, cache, tmp_path, CPU, batch=6)
    table = pd.read_csv(path)
    heads, slots = 3, 4
    assert len(table) == (heads * slots) ** 2
    itself = table[(table["head"] == table["other_head"]) & (table["slot"] == table["other_slot"])]
    np.testing.assert_allclose(itself[["before", "after"]], 1, atol=1e-3)
    # Against one pair of slots, computed plainly.
    features = torch.from_numpy(cache.features[:])
    noise, _ = image_draws(run.model, cache.ids)
    with torch.inference_mode():
        of_heads = run.model.run_heads(features, noise).slots
    plain = torch.cosine_similarity(of_heads[:, 0, 1], of_heads[:, 2, 3], dim=-1).mean()
    row = table.query("head == 0 and slot == 1 and other_head == 2 and other_slot == 3")
    assert row["before"].item() == pytest.approx(plain.item(), abs=1e-3)
    # Matched to the first head, slots of the same index are more alike.
    apart = table[(table["head"] == 0) & (table["other_head"] != 0)]
    same = apart[apart["slot"] == apart["other_slot"]]
    assert same["after"].mean() >= same["before"].mean()
    assert same["after"].mean() == pytest.approx(_best(of_heads), abs=1e-3)


def _best(slots: torch.Tensor) -> float:
    """The mean cosine of the best one-to-one choices, by SciPy."""
    unit = torch.nn.functional.normalize(slots, dim=-1)
    values = []
    for image in unit:
        for head in (1, 2):
            cosine = (image[0] @ image[head].T).numpy()
            values.append(cosine[linear_sum_assignment(cosine, maximize=True)].mean())
    return float(np.mean(values))


def test_slots_in_use(tmp_path, run_folder, caches):
    run, cache = Run.load(run_folder), FeatureCache(caches["val"])
    score_agreement(run, cache, tmp_path, CPU)
    table = pd.read_csv(tmp_path / f"{cache.name}-slots.csv")
    assert set(table["head"].astype(str)) == {"merged", "0", "1", "2"}
    assert table["slots_used"].between(1, 4).all() and table["largest_share"].between(0.25, 1).all()
    assert set(table[table["head"] == "merged"]["mask_source"]) == {"decoder", "attention"}


def test_another_networks_features_are_refused(tmp_path, run_folder, caches):
    run = Run.load(run_folder)
    run.provenance["cache"]["weights_sha256"] = "other"
    with pytest.raises(InputError, match="weights_sha256"):
        score_agreement(run, FeatureCache(caches["val"]), tmp_path, CPU)
