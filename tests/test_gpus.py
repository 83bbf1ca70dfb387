import pytest

from mmqsa import gpus


@pytest.mark.parametrize(
    "visible, number", [(None, 3), ("", 0), ("1", 1), ("0,1,2,3", 3), ("-1", 0), ("GPU-a,GPU-b", 2)]
)
def test_gpus_are_those_of_the_driver_that_are_visible(tmp_path, monkeypatch, visible, number):
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "null"):
        (tmp_path / name).touch()
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "none")
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus.num_gpus() == number
