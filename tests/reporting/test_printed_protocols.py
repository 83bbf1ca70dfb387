"""A table prints the protocol that its row of images names."""

import pytest

from mmqsa.config.tables import ImageSet


def scores(**of_protocol):
    return [
        {"protocol": protocol, "metric": "mbo_c", "value": value, "n_images": 12}
        for protocol, value in of_protocol.items()
    ]


def test_rows_of_one_image_set_under_two_protocols(made):
    for seed in (0, 1):
        made.metrics("full", seed, scores(paper=50, dinosaur=50, spot=40))
    made.references("kmeans", scores(paper=45, dinosaur=45, spot=35), name="k-means, K = 2")
    images = {"void ignored": ["val"], "void counted": ["val:spot"]}
    table, text = made.table(settings=["full"], images=images, references="all")
    rows = table[table["kind"] == "setting"].groupby("row")
    assert rows["protocol"].unique().map(list).to_dict() == {
        "void ignored": ["paper", "dinosaur"],
        "void counted": ["spot"],
    }
    assert rows["mean"].unique().map(list).to_dict() == {
        "void ignored": [50],
        "void counted": [40],
    }
    printed = [line for line in text.splitlines() if "k-means" in line]
    assert ["45.0" in line for line in printed] == [True, False] and "35.0" in printed[1]
    plain, _ = made.table(settings=["full"])
    assert set(plain["protocol"]) == {"paper", "dinosaur"}


def test_a_protocol_that_the_images_are_not_scored_by():
    assert ImageSet.parse("val-fog3:spot", "voc").printed == ("spot",)
    assert ImageSet.parse("val-released", "voc").printed == ("released",)
    assert ImageSet.parse("val:spot", "voc") == ImageSet.parse("val", "voc")  # scored once
    with pytest.raises(ValueError, match=r"by the protocol 'boxes'; expected paper or dinosaur"):
        ImageSet.parse("val:boxes", "voc")
