"""The training loop with its checkpoints (checkpoint.py) and signals (signals.py)."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from conftest import CPU, SMALL

from mmqsa.config.files import dump_yaml
from mmqsa.config.workflow import Config
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache
from mmqsa.features.principal_component import background_direction
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.paths import CHECKPOINT
from mmqsa.training import checkpoint, loop
from mmqsa.training.loop import train
from mmqsa.training.run import Run
from mmqsa.training.signals import Stopped


def altered(**sections) -> Config:
    return Config.model_validate(
        {**SMALL, **{name: {**SMALL.get(name, {}), **values} for name, values in sections.items()}}
    )


def weights(folder):
    return Run.load(folder).model.state_dict()


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_holds_what_the_contract_says(run_folder, caches):
    run = Run.load(run_folder)
    history = (run_folder / "history.csv").read_text().splitlines()
    assert history[0] == "step,loss,learning_rate,images_per_second"
    assert [line.split(",")[0] for line in history[1:]] == ["10", "20", "30"]
    assert sum(run.provenance["updates_per_head"]) == 30
    assert run.provenance["num_images"] == 8 and run.provenance["features_in"] == "device"
    weights = [parameter.numel() for parameter in run.model.parameters()]
    assert run.provenance["num_parameters"] == sum(weights)
    assert run.provenance["cache_fingerprint"] == FeatureCache(caches["train"]).fingerprint
    assert not (run_folder / CHECKPOINT).exists()


def test_snapshots_are_the_weights_after_so_many_steps(tmp_path, caches, run_folder):
    kept, short = tmp_path / "kept", tmp_path / "short"
    stale = kept / "snapshots/step3.safetensors"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of another training")
    cache = FeatureCache(caches["train"])
    constant = {"schedule": {"kind": "constant", "warmup_steps": 0}}
    train(cache, altered(training={"steps": 9, "snapshots": [4, 0], **constant}), 0, kept, CPU)
    train(cache, altered(training={"steps": 4, **constant}), 0, short, CPU)
    assert same(Run.load(kept, 4).model.state_dict(), weights(short))
    assert not same(Run.load(kept, 0).model.state_dict(), weights(short))
    assert not stale.exists()
    with pytest.raises(InputError, match=r"step5.safetensors: missing"):
        Run.load(kept, 5)


def test_the_loss_falls(tmp_path, caches):
    longer = altered(training={"steps": 300, "log_every": 50, "learning_rate": 3e-3})
    train(FeatureCache(caches["train"]), longer, 0, tmp_path, CPU)
    losses = [
        float(line.split(",")[1])
        for line in (tmp_path / "history.csv").read_text().splitlines()[1:]
    ]
    assert losses[-1] < 0.9 * losses[0]


def test_same_seed_same_bits_other_seed_other_bits(tmp_path, caches, config, run_folder):
    for seed in (0, 1):
        train(FeatureCache(caches["train"]), config, seed, tmp_path / str(seed), CPU)
    assert same(weights(tmp_path / "0"), weights(run_folder))
    assert not same(weights(tmp_path / "1"), weights(run_folder))


def test_a_run_keeps_the_direction_that_it_hides_along(tmp_path, caches):
    cache = FeatureCache(caches["train"])
    train(cache, altered(masking={"score": "principal-component"}), 0, tmp_path, CPU)
    kept = Run.load(tmp_path).model.background_direction
    torch.testing.assert_close(kept, background_direction(cache.features))


@pytest.mark.faults
def test_a_killed_training_ends_in_the_same_bits(tmp_path, caches, train_until, run_folder):
    """Interrupted between two rows of the history, twice: as if nothing had happened."""
    often = altered(training={"checkpoint_seconds": 1e-9, "snapshots": [0, 15]})
    cache, killed = FeatureCache(caches["train"]), tmp_path / "killed"
    for step in (12, 17):
        train_until(step, cache, often, 0, killed, CPU)
        assert checkpoint.step_of(killed / CHECKPOINT) == step
    train(cache, often, 0, killed, CPU)
    assert same(weights(run_folder), weights(killed))
    train(cache, often, 0, tmp_path / "whole", CPU)
    for step in (0, 15):  # one before the first interruption, one between the two
        whole, resumed = (Run.load(tmp_path / name, step) for name in ("whole", "killed"))
        assert same(whole.model.state_dict(), resumed.model.state_dict())
    columns = [
        [line.split(",")[:3] for line in (folder / "history.csv").read_text().splitlines()]
        for folder in (run_folder, killed)
    ]
    assert columns[0] == columns[1]


KILLED = """
import os, signal, sys
from mmqsa.paths import CHECKPOINT
from mmqsa.training import checkpoint
last, when = int(sys.argv[1]), sys.argv[2]
real, count = checkpoint.save, 0
def save(path, *rest):
    global count
    count += 1
    if count == last and when == "writing":
        path.with_name(f".{path.stem}.0{path.suffix}").write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)
    real(path, *rest)
    if count == last:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.save = save
sys.argv = ["mmqsa", *sys.argv[3:]]
from mmqsa.cli import main
main()
"""


@pytest.mark.faults
def test_kill_minus_nine_at_any_moment(tmp_path, caches, run_folder):
    """SIGKILL while a checkpoint is written, after one, and at the end, before the run is."""
    often = altered(training={"checkpoint_seconds": 1e-9})
    (tmp_path / "config.yaml").write_text(dump_yaml(often.model_dump(mode="json")))
    command = ["train", "--features", caches["train"], "--config", tmp_path / "config.yaml"]
    command += ["--out", tmp_path / "run", "--device", "cpu"]
    kills = [(4, "writing"), (25, "after"), (2, "after"), (1, "after"), (0, "never")]
    for count, when in kills:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(count), when, *map(str, command)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
        )
        expected = 0 if when == "never" else -signal.SIGKILL
        assert done.returncode == expected, done.stderr
    assert same(weights(run_folder), weights(tmp_path / "run"))
    assert not list((tmp_path / "run").glob("*resume*"))


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_asked_to_stop_ends_after_the_step(tmp_path, caches, run_folder, number):
    def ask(step: int) -> None:
        if step == 7:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=rf"{number.name} at step 8; repeat the command to resume"):
        train(FeatureCache(caches["train"]), altered(), 0, tmp_path, CPU, on_step=ask)
    assert signal.getsignal(number) == before
    assert checkpoint.step_of(tmp_path / CHECKPOINT) == 8
    made = train(FeatureCache(caches["train"]), altered(), 0, tmp_path, CPU)
    assert made["resumed_at_steps"] == [8]
    assert same(weights(run_folder), weights(tmp_path))


@pytest.mark.faults
def test_a_checkpoint_of_another_training_is_refused_and_stays(tmp_path, caches, train_until):
    often = altered(training={"checkpoint_seconds": 1e-9})
    train_until(12, FeatureCache(caches["train"]), often, 0, tmp_path, CPU)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(InputError, match=r"resume.pt: belongs to a training with another config"):
        train(FeatureCache(caches["train"]), often, 1, tmp_path, CPU)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.faults
def test_a_checkpoint_of_other_code_is_refused(tmp_path, caches, train_until, monkeypatch):
    """Half a run of one activation and half of another would be neither."""
    often = altered(training={"checkpoint_seconds": 1e-9})
    train_until(12, FeatureCache(caches["train"]), often, 0, tmp_path, CPU)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "code_digest", lambda entry: "of another activation")
        with pytest.raises(InputError, match=r"another config, seed, features or code; delete it"):
            train(FeatureCache(caches["train"]), often, 0, tmp_path, CPU)
    provenance = train(FeatureCache(caches["train"]), often, 0, tmp_path, CPU)
    assert provenance["resumed_at_steps"] == [12]


@pytest.mark.faults
def test_a_checkpoint_that_is_none_is_named(tmp_path, caches, monkeypatch):
    cache, path = FeatureCache(caches["train"]), tmp_path / CHECKPOINT
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"resume.pt: not a regular file"):
        train(cache, altered(), 0, tmp_path, CPU)
    path.unlink()
    for state in ({"identity": "mine", "model": {}}, [1], {"other": 1}):
        monkeypatch.setattr(loop, "_identity", lambda *_: "mine")
        torch.save(state, path)
        with pytest.raises(InputError, match=r"resume.pt: damaged checkpoint \("):
            train(cache, altered(), 0, tmp_path, CPU)


@pytest.mark.faults
@pytest.mark.parametrize(
    "changes",
    [
        *({"step": "x"}, {"step": 10**9, "history": [], "losses": []}, {"epoch": [999_999] * 64}),
        *({"updates_per_head": None}, {"history": [[1]]}, {"snapshots": {1: {"other": 1}}}),
        *({"losses": [1.0] * 99}, {"step": 99, "history": [[99, 1.0, 1.0, 1.0]], "losses": []}),
    ],
)
def test_a_checkpoint_of_other_contents_is_named_and_stays(tmp_path, caches, train_until, changes):
    cache, path = FeatureCache(caches["train"]), tmp_path / CHECKPOINT
    config = altered(training={"checkpoint_seconds": 1e-9})
    train_until(3, cache, config, 0, tmp_path, CPU)
    torch.save(torch.load(path, weights_only=True) | changes, path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"resume.pt: damaged checkpoint \("):
        train(cache, config, 0, tmp_path, CPU)
    assert path.read_bytes() == before


@pytest.mark.faults
def test_a_model_of_any_size_is_refused_before_it_is_made(tmp_path, caches):
    plain = altered()  # a config that is read is refused before: tests/config/test_fits.py
    slots = plain.slots.model_copy(update={"slot_dim": 16384, "num_heads": 64})
    wide = plain.model_copy(update={"slots": slots})
    with pytest.raises(
        InputError, match=r"slots, decoder: a model of [\d,]+ parameters, more than"
    ):
        train(FeatureCache(caches["train"]), wide, 0, tmp_path, CPU)


@pytest.mark.faults
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, caches):
    schedule = {"kind": "constant", "warmup_steps": 5}
    rate = {"learning_rate": 1e3, "gradient_clip": None, "schedule": schedule}
    wild = altered(training={"steps": 40, **rate})
    with pytest.raises(
        InputError, match=r"the loss \((nan|inf)\) is not finite at step \d+; "
    ) as e:
        train(FeatureCache(caches["train"]), wild, 0, tmp_path, CPU)
    assert "last finite loss: 5." in str(e.value) and "good checkpoint: none. Lower" in str(e.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.faults
def test_the_last_good_checkpoint_survives_a_loss_that_is_not_finite(tmp_path, caches, monkeypatch):
    real, calls = MaskedSlotModel.forward, []

    def breaks(*arguments):
        calls.append(1)
        output = real(*arguments)
        output.loss = output.loss * (float("nan") if len(calls) == 8 else 1.0)
        return output

    monkeypatch.setattr(MaskedSlotModel, "forward", breaks)
    often = altered(training={"checkpoint_seconds": 1e-9})
    expected = r"the loss \(nan\) .* at step 8; .*resume.pt, step 7\. .*delete the checkpoint"
    with pytest.raises(InputError, match=expected):
        train(FeatureCache(caches["train"]), often, 0, tmp_path, CPU)
    assert checkpoint.step_of(tmp_path / CHECKPOINT) == 7


def test_the_mean_loss_of_a_row_is_that_of_its_steps(tmp_path, caches, run_folder):
    """Rows of one step each, averaged, are the rows of ten."""
    train(FeatureCache(caches["train"]), altered(training={"log_every": 1}), 0, tmp_path, CPU)
    each, tens = (
        [float(line.split(",")[1]) for line in text.splitlines()[1:]]
        for text in ((folder / "history.csv").read_text() for folder in (tmp_path, run_folder))
    )
    means = [sum(each[start : start + 10]) / 10 for start in (0, 10, 20)]
    assert means == pytest.approx(tens, abs=2e-6)


def test_all_heads_learn_in_each_step_when_asked(tmp_path, caches):
    every = altered(training={"heads_per_step": "all", "steps": 5})
    done = train(FeatureCache(caches["train"]), every, 0, tmp_path, CPU)
    assert done["updates_per_head"] == [5, 5, 5]


def test_merged_heads_learn_together_when_asked(tmp_path, caches, monkeypatch):
    seen, forward = [], MaskedSlotModel.forward

    def watched(model, features, heads, draws, merged=False):
        output = forward(model, features, heads, draws, merged)
        seen.append((list(heads), output.reconstruction.shape[1]))
        return output

    monkeypatch.setattr(MaskedSlotModel, "forward", watched)
    config = altered(training={"heads_per_step": "merged", "steps": 9})
    done = train(FeatureCache(caches["train"]), config, 0, tmp_path, CPU)
    assert done["updates_per_head"] == [9, 9, 9]
    # One reconstruction for all, and each of them is the reference now and then.
    assert {decoded for _, decoded in seen} == {1}
    assert {heads[0] for heads, _ in seen} == {0, 1, 2}


def test_bf16_learns_as_fp32_does(tmp_path, caches):
    losses = []
    for precision in ("fp32", "bf16"):
        config = altered(training={"precision": precision, "steps": 100, "learning_rate": 3e-3})
        done = train(FeatureCache(caches["train"]), config, 0, tmp_path / precision, CPU)
        assert done["precision"] == precision
        losses.append(done["final_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]
