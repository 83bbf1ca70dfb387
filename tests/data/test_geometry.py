import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from mmqsa.data.geometry import Geometry, mean_colour

KINDS = ["crop", "squash"]


@pytest.mark.parametrize("kind", KINDS)
@given(width=st.integers(20, 90), height=st.integers(20, 90), data=st.data())
def test_image_labels_and_boxes_stay_aligned(kind, width, height, data):
    """A bright rectangle is found at the same place in image, label map and box."""
    x0 = data.draw(st.integers(0, width - 8))
    y0 = data.draw(st.integers(0, height - 8))
    x1, y1 = data.draw(st.integers(x0 + 8, width)), data.draw(st.integers(y0 + 8, height))
    labels = np.zeros((height, width), np.uint8)
    labels[y0:y1, x0:x1] = 7
    image = Image.fromarray(np.repeat(np.where(labels == 7, 255, 0)[..., None], 3, 2).astype("u1"))
    geometry = Geometry(kind, 48)

    square, moved = geometry.image(image), geometry.labels(labels)
    boxes = geometry.boxes(np.array([[x0, y0, x1, y1]], float), width, height)

    assert square.shape == (48, 48, 3)
    assert moved.shape == (48, 48)
    # Only pixels on the edge of the rectangle may differ: bicubic against nearest.
    disagree = (square[..., 0] > 127) != (moved == 7)
    edge = 4 * 48
    assert disagree.sum() <= edge
    rows, columns = np.nonzero(moved == 7)
    if len(rows) and len(boxes):
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(boxes[0] - tight).max() <= 1.5


def test_the_released_geometry_crops_the_image_and_squashes_the_labels():
    geometry = Geometry("released", 64)
    drawn = np.zeros((32, 128), np.uint8)
    drawn[:, 96:] = 3  # the right quarter, which the image's crop does not see
    image = geometry.image(Image.fromarray(drawn * 85).convert("RGB"))
    labels = geometry.labels(drawn)
    assert image.max() == 0
    assert (labels[:, 48:] == 3).all() and (labels[:, :48] == 0).all()
    np.testing.assert_allclose(
        geometry.boxes(np.array([[96, 0, 128, 32]]), 128, 32), [[48, 0, 64, 64]]
    )


@given(width=st.integers(40, 90), height=st.integers(40, 90))
def test_the_released_crop_is_torchvisions(width, height):
    """There: ToTensor, Normalize, CenterCrop, so that what it pads is the mean colour."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    steps = [transforms.ToTensor(), transforms.Normalize(mean, std), transforms.CenterCrop(64)]
    theirs = transforms.Compose(steps)(Image.fromarray(pixels))
    ours = Geometry("released", 64, mean_colour(mean)).image(Image.fromarray(pixels))
    normalised = (ours / 255 - mean) / std
    np.testing.assert_allclose(normalised, theirs.permute(1, 2, 0), atol=0.009)  # half a grey level


def test_boxes_outside_the_photograph():
    geometry = Geometry("squash", 50)
    found = [[-20, 10, 40, 300], [120, 0, 150, 40], [60, 60, 40, 40], [10, 10, 10, 40]]
    boxes = geometry.boxes(np.array(found), 100, 100)  # clipped; outside, turned round, empty: none
    np.testing.assert_allclose(boxes, [[0, 5, 20, 50]])


def test_boxes_outside_the_crop_are_dropped_and_others_clipped():
    geometry = Geometry("crop", 100)
    boxes = geometry.boxes(np.array([[0, 0, 40, 100], [90, 10, 150, 60]], float), 200, 100)
    np.testing.assert_allclose(boxes, [[40, 10, 100, 60]])
