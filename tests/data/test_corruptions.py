from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import laplace

from mmqsa.config.tables import CORRUPTIONS
from mmqsa.data.corruptions import KINDS, SEVERITIES, Corruption
from mmqsa.data.scenes import _scene, _smooth_noise
from mmqsa.errors import InputError


@pytest.fixture(scope="module")
def image():
    """A scene in the middle of the range, with texture everywhere."""
    rng = np.random.default_rng(0)
    drawn = _scene(rng, 224)[0][:224, :224]
    texture = 20 * _smooth_noise(rng, 224, 224, 3)[..., None]
    return (70 + 0.35 * drawn + texture).clip(0, 255).astype(np.uint8)


def test_every_corruption_has_its_function_and_the_reverse():
    assert tuple(KINDS) == CORRUPTIONS


@pytest.mark.parametrize("kind", KINDS)
def test_a_severer_corruption_is_further_from_the_image(image, kind):
    found = [Corruption(kind, severity)(image, "a") for severity in SEVERITIES]
    for corrupted in found:
        assert corrupted.shape == image.shape and corrupted.dtype == np.uint8
    if kind == "contrast":  # what is left of it, for the others of the image itself
        left = [one.std(axis=(0, 1)).mean() / image.std(axis=(0, 1)).mean() for one in found]
    elif (
        kind == "fog"
    ):  # it lies elsewhere at each severity: what is left of two images' difference
        other = np.ascontiguousarray(image[:, ::-1])
        also = [Corruption(kind, severity)(other, "a") for severity in SEVERITIES]
        between = [np.std(one - two.astype(float)) for one, two in zip(found, also, strict=True)]
        left = [one / np.std(image - other.astype(float)) for one in between]
    else:
        left = [np.corrcoef(one.ravel(), image.ravel())[0, 1] for one in found]
    assert left[0] < 0.99 and all(one > two * 0.98 for one, two in pairwise(left))
    assert left[-1] < left[0] - 0.02


def test_an_image_is_corrupted_alike_each_time_and_others_otherwise(image):
    for kind in ("noise", "fog"):
        first = Corruption(kind, 3)(image, "a")
        np.testing.assert_array_equal(first, Corruption(kind, 3)(image, "a"))
        assert (first != Corruption(kind, 3)(image, "b")).mean() > 0.5


def test_each_kind_does_what_it_says(image):
    def at(name):
        return Corruption.parse(name)(image, "a").astype(float)

    def detail(picture):
        return np.abs(laplace(picture.mean(axis=2))).mean()

    assert detail(at("blur3")) < 0.5 * detail(image.astype(float)) < detail(at("noise3"))
    own, left = image.std(axis=(0, 1)), at("contrast3").std(axis=(0, 1))
    np.testing.assert_allclose(left, 0.2 * own, rtol=0.1)
    assert np.ptp(at("fog3"), axis=2).mean() < 0.5 * np.ptp(image, axis=2).mean()  # it is grey
    blocks = at("pixelate5")[:4, :4]  # of 4 px at a quarter of the size
    assert (blocks == blocks[0, 0]).all()
    assert at("jpeg5").tolist() != image.tolist()


@pytest.mark.parametrize("name", ["fog", "fog0", "fog6", "rain3", "", "fog33"])
def test_no_such_corruption(name):
    with pytest.raises(InputError, match="expected one of noise, blur"):
        Corruption.parse(name)
