import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from conftest import CPU, SMALL
from hypothesis import given
from hypothesis import strategies as some
from safetensors.torch import load_file, save_file

from mmqsa.config.model import DecoderConfig
from mmqsa.config.training import RunConfig
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache
from mmqsa.model.slot_fusion import SlotFusion
from mmqsa.training.loop import train
from mmqsa.training.run import Run


def test_the_config_on_disk_is_what_the_run_depends_on(run_folder, config):
    written = yaml.safe_load((run_folder / "config.yaml").read_text())
    expected = RunConfig.model_validate(
        {name: SMALL[name] for name in ("dataset", "backbone", "slots", "decoder", "training")}
    )
    assert written == expected.dependencies()
    assert "evaluation" not in written and "train_split" in written["dataset"]
    assert Run.load(run_folder).config.dependencies() == written


def test_what_is_saved_is_what_is_loaded(run_folder, tmp_path):
    run = Run.load(run_folder)
    run.save(tmp_path, [[10, 1.5, 4e-4, 99.95]], {})
    again = Run.load(tmp_path)
    assert again.config == run.config and again.provenance == run.provenance
    pairs = zip(run.model.state_dict().items(), again.model.state_dict().items(), strict=True)
    assert all(one[0] == two[0] and torch.equal(one[1], two[1]) for one, two in pairs)
    assert again.similarity is None and not again.model.training
    last = (tmp_path / "history.csv").read_text().splitlines()[-1]
    assert last == "10,1.500000,4.000e-04,100.0" or last == "10,1.500000,4.000e-04,99.9"


def test_a_transformer_decoders_run_resumes_and_segments(caches, config, tmp_path, train_until):
    decoder = DecoderConfig(kind="transformer", hidden_dim=12, layers=2, orders=9)
    config, cache = config.model_copy(update={"decoder": decoder}), FeatureCache(caches["train"])
    train(cache, config, 0, tmp_path / "whole", CPU)
    train_until(1, cache, config, 0, tmp_path / "cut", CPU)
    train(cache, config, 0, tmp_path / "cut", CPU)
    whole, cut = (Run.load(tmp_path / name).model for name in ("whole", "cut"))
    pairs = zip(whole.state_dict().values(), cut.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    features = torch.randn(2, whole.num_patches, 192)
    masks = cut.segment(features, cut.noise(2, torch.Generator().manual_seed(0)))["decoder"]
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(2, whole.num_patches))


def test_a_cache_of_another_backbone_is_refused(run_folder, caches):
    run, cache = Run.load(run_folder), FeatureCache(caches["val"])
    run.check_cache(cache)
    run.provenance["cache"]["weights_sha256"] = "other"
    with pytest.raises(InputError, match=r"val\.h5: made with weights_sha256.*the trained run"):
        run.check_cache(cache)


def test_a_cache_of_another_width_is_refused(run_folder, caches, tmp_path):
    path = shutil.copy(caches["val"], tmp_path / "val.h5")
    with h5py.File(path, "a", locking=False) as file:
        del file["features"]
        file["features"] = np.ones((6, 36, 8), np.float16)
    with pytest.raises(
        InputError, match=r"features = \(36, 8\), but the trained run .*\(36, 192\)"
    ):
        Run.load(run_folder).check_cache(FeatureCache(path))


@pytest.fixture
def copied(tmp_path, run_folder):
    """A run that the test may damage."""
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.faults
def test_a_run_whose_config_was_edited_is_refused(copied):
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace("ratio: 0.7", "ratio: 0.6"))
    with pytest.raises(InputError, match=r"config.yaml: was changed since .*model.safetensors"):
        Run.load(copied)
    (copied / "config.yaml").write_text(text)
    save_file(load_file(copied / "model.safetensors"), copied / "model.safetensors")
    Run.load(copied)  # of a version that did not bind them
    (copied / "config.yaml").write_text(text.replace("num_heads: 3", "num_heads: 2"))
    with pytest.raises(InputError, match=r"model.safetensors: does not fit .*config.yaml"):
        Run.load(copied)
    (copied / "config.yaml").write_text(text.replace("mlp_dim: 16", "mlp_dim: 16384"))
    with pytest.raises(InputError, match="does not fit"):
        Run.load(copied)


def without(name):
    return lambda record: json.dumps({key: record[key] for key in record if key != name})


def changed(**values):
    return lambda record: json.dumps(record | values)


@pytest.mark.faults
@pytest.mark.parametrize(
    "change, said",
    [
        (lambda _: "", "not valid JSON"),
        (lambda _: "[1]", "no provenance of a run"),
        (lambda _: "null", "no provenance of a run"),
        (without("cache"), "cache: Field required"),
        (without("seed"), "seed: Field required"),
        (changed(seconds=-1), "seconds: Input should be greater"),
        (changed(cache={"grid": 2}), "cache: dataset: Field required"),
        (changed(updates_per_head=[]), "updates_per_head"),
        (changed(final_loss=float("nan")), "final_loss"),
    ],
)
def test_a_damaged_provenance_is_named(copied, change, said):
    path = copied / "provenance.json"
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(InputError) as refused:
        Run.load(copied)
    assert str(refused.value).startswith(f"{path}: ") and said in str(refused.value)


@pytest.mark.faults
def test_damaged_weights_are_named(copied):
    path = copied / "model.safetensors"
    whole = load_file(path)
    for name, tensor, said in (
        ("feature_mean", whole["feature_mean"] * float("nan"), "'feature_mean' is not finite"),
        ("feature_mean", whole["feature_mean"].to(torch.complex64), "'feature_mean' is torch.comp"),
        ("feature_mean", whole["feature_mean"].to(torch.int64), "'feature_mean' is torch.int64"),
        ("feature_mean", torch.zeros(3), "does not fit"),
        ("another", torch.zeros(3), "does not fit"),
    ):
        save_file(whole | {name: tensor}, path)
        with pytest.raises(InputError, match=said):
            Run.load(copied)
    for content in (b"", b"\xff" * 100, path.read_bytes()[:-10]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"model.safetensors: damaged run"):
            Run.load(copied)
    os.truncate(path, 10**12)  # it takes no room on a disk
    with pytest.raises(InputError, match=r"model.safetensors: more than .* no weights of a run"):
        Run.load(copied)
    path.unlink()
    with pytest.raises(InputError, match=r"model.safetensors: missing"):
        Run.load(copied)
    path.mkdir()
    with pytest.raises(InputError, match="missing"):
        Run.load(copied)


@pytest.mark.faults
def test_a_fusion_of_other_slots_is_named(copied):
    good = SlotFusion(3, 16, 4).state_dict()
    for name, tensor in (
        *(("first.bias", torch.tensor(1.0)), ("first.bias", torch.zeros(10**6))),
        *(("first.weight", torch.zeros(4, 9)), ("other", torch.zeros(3))),
    ):
        save_file(good | {name: tensor}, copied / "fusion.safetensors")
        with pytest.raises(InputError, match="no fusion of this run's slots"):
            Run.load(copied)
    save_file(good, copied / "fusion.safetensors")
    assert Run.load(copied).fusion is not None


def test_a_similarity_of_other_slots_is_named(copied):
    for tensors in ({"other": torch.eye(16)}, {"projection": torch.eye(8)}):
        save_file(tensors, copied / "similarity.safetensors")
        with pytest.raises(InputError, match="no similarity of this run's slots"):
            Run.load(copied)


def test_a_finished_run_is_left_as_it_is(copied, caches, config, capsys):
    before = contents(copied)
    provenance = train(FeatureCache(caches["train"]), config, 0, copied, CPU)
    assert provenance == Run.load(copied).provenance and contents(copied) == before
    assert "already trained with these settings" in capsys.readouterr().err


@pytest.mark.faults
def test_another_finished_run_is_not_overwritten(copied, caches, config):
    (copied / "metrics").mkdir()
    (copied / "metrics/val.csv").write_text("kept")
    before, cache = contents(copied), FeatureCache(caches["train"])
    longer = config.changed("test", {"training": {"steps": 31}})
    for settings, seed, said in (
        (longer, 0, r"with training.steps = 30, not 31; name another"),
        (config, 1, r"with seed = 0, not 1"),
    ):
        with pytest.raises(InputError, match=said):
            train(cache, settings, seed, copied, CPU)
    with pytest.raises(InputError, match="with features = "):
        train(FeatureCache(caches["val"]), config, 0, copied, CPU)
    assert contents(copied) == before


def test_overwriting_removes_what_was_made_from_the_old_run(copied, caches, config):
    for name in (
        "similarity.safetensors",
        "fusion.safetensors",
        "fusion.json",
        "resume.pt",
        "metrics/val.csv",
        "snapshots/step3.x",
    ):
        (copied / name).parent.mkdir(exist_ok=True)
        (copied / name).write_text("of the old run")
    (copied / "notes.txt").write_text("mine")
    shorter = config.changed("test", {"training": {"steps": 6}})
    train(FeatureCache(caches["train"]), shorter, 0, copied, CPU, overwrite=True)
    names = {str(path.relative_to(copied)) for path in contents(copied)}
    files = {"config.yaml", "history.csv", "model.safetensors", "provenance.json"}
    assert names == files | {"notes.txt"}
    assert Run.load(copied).config.training.steps == 6


def test_a_run_that_could_not_be_trained_today_stays_readable(tmp_path, caches, config):
    """Its warm-up is as long as its training, which was let through once."""
    short = config.training.model_copy(update={"steps": 3})
    old = config.model_copy(update={"training": short})
    train(FeatureCache(caches["train"]), old, 0, tmp_path, CPU)
    assert Run.load(tmp_path).config.training.steps == 3
    with pytest.raises(InputError, match=r"warmup_steps: 3 is not below training.steps, 3"):
        RunConfig.load(tmp_path / "config.yaml")


@pytest.mark.faults
def test_files_that_are_no_run_are_not_overwritten(tmp_path, caches, config):
    """A project's folder has a config.yaml as well."""
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(InputError, match=r"config.yaml: exists, and model.safetensors does not"):
        train(FeatureCache(caches["train"]), config, 0, tmp_path, CPU)
    assert (tmp_path / "config.yaml").read_text() == "mine"


@pytest.mark.faults
def test_folders_of_ones_own_stay(tmp_path, caches, config):
    """A folder may have snapshots and metrics that are not of a run."""
    mine = {tmp_path / "snapshots/holiday.jpg", tmp_path / "metrics/notes.txt"}
    for path in mine:
        path.parent.mkdir()
        path.write_text("mine")
    training = {"steps": 3, "snapshots": [1], "schedule": {"warmup_steps": 1}}
    short = config.changed("test", {"training": training})
    for overwrite in (False, True):
        train(FeatureCache(caches["train"]), short, 0, tmp_path, CPU, overwrite=overwrite)
        assert all(path.read_text() == "mine" for path in mine)
        assert (tmp_path / "snapshots/step1.safetensors").is_file()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/snapshots").write_text("mine")
    with pytest.raises(InputError, match="snapshots: a file, where a run has a folder"):
        train(FeatureCache(caches["train"]), short, 0, tmp_path / "other", CPU)


@pytest.mark.fuzz
@given(data=some.data())
def test_a_run_with_any_bytes_changed(run_folder, tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "spoiled"
    shutil.copytree(run_folder, folder, dirs_exist_ok=True)
    path = folder / data.draw(
        some.sampled_from(["model.safetensors", "provenance.json", "config.yaml"])
    )
    content = bytearray(path.read_bytes())
    near = min(len(content), 3000) - 1  # where the headers are
    for _ in range(data.draw(some.integers(0, 4))):
        place = data.draw(some.integers(0, near))
        content[place : place + data.draw(some.integers(0, 8))] = data.draw(some.binary(max_size=8))
    if data.draw(some.booleans()):
        del content[data.draw(some.integers(0, len(content))) :]
    path.write_bytes(content)
    try:
        run = Run.load(folder)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(bool(one.isfinite().all()) for one in run.model.state_dict().values())
