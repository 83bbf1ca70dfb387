import os
import signal
import subprocess
import sys

import pytest
import torch
from conftest import CPU, SMALL

from mmqsa.config.base import dump_yaml
from mmqsa.config.training import ScheduleConfig
from mmqsa.config.workflow import Config
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.training import checkpoint, loop
from mmqsa.training.loop import train
from mmqsa.training.run import Run
from mmqsa.training.schedule import learning_rate_factor
from mmqsa.training.signals import Stopped


def altered(**sections) -> Config:
    return Config.model_validate(
        {**SMALL, **{name: {**SMALL.get(name, {}), **values} for name, values in sections.items()}}
    )


def weights(folder):
    return Run.load(folder).model.state_dict()


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_holds_what_the_contract_says(run_folder, caches, settings):
    run = Run.load(run_folder)
    assert run.config == settings
    history = (run_folder / "history.csv").read_text().splitlines()
    assert history[0] == "step,loss,learning_rate,images_per_second"
    assert [line.split(",")[0] for line in history[1:]] == ["10", "20", "30"]
    assert sum(run.provenance["updates_per_head"]) == 30
    assert run.provenance["cache_fingerprint"] == FeatureCache(caches["train"]).fingerprint
    assert not (run_folder / checkpoint.CHECKPOINT).exists()


def test_the_loss_falls(tmp_path, caches):
    longer = altered(training={"steps": 300, "log_every": 50, "learning_rate": 3e-3})
    train(FeatureCache(caches["train"]), longer, 0, tmp_path, CPU)
    losses = [
        float(line.split(",")[1])
        for line in (tmp_path / "history.csv").read_text().splitlines()[1:]
    ]
    assert losses[-1] < 0.9 * losses[0]


def test_same_seed_same_bits_other_seed_other_bits(tmp_path, caches, settings, run_folder):
    for seed in (0, 1):
        train(FeatureCache(caches["train"]), settings, seed, tmp_path / str(seed), CPU)
    assert same(weights(tmp_path / "0"), weights(run_folder))
    assert not same(weights(tmp_path / "1"), weights(run_folder))


@pytest.mark.faults
def test_a_killed_training_ends_in_the_same_bits(tmp_path, caches, train_until, run_folder):
    """Interrupted between two rows of the history, twice: as if nothing had happened."""
    often = altered(training={"checkpoint_seconds": 1e-9})
    cache, killed = FeatureCache(caches["train"]), tmp_path / "killed"
    for step in (12, 17):
        train_until(step, cache, often, 0, killed, CPU)
        assert checkpoint.step_of(killed / checkpoint.CHECKPOINT) == step
    train(cache, often, 0, killed, CPU)
    assert same(weights(run_folder), weights(killed))
    columns = [
        [line.split(",")[:3] for line in (folder / "history.csv").read_text().splitlines()]
        for folder in (run_folder, killed)
    ]
    assert columns[0] == columns[1]


KILLED = """
import os, signal, sys
from mmqsa.training import checkpoint, loop
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
def test_a_training_that_is_asked_to_stop_ends_after_the_step(
    tmp_path, caches, run_folder, monkeypatch, number
):
    real, steps = loop.learning_rate_factor, []

    def asked(*arguments):
        steps.append(1)
        if len(steps) == 8:
            os.kill(os.getpid(), number)
        return real(*arguments)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "learning_rate_factor", asked)
        with pytest.raises(Stopped, match=rf"{number.name} at step 8; the same command goes on"):
            train(FeatureCache(caches["train"]), altered(), 0, tmp_path, CPU)
    assert signal.getsignal(number) == before
    assert checkpoint.step_of(tmp_path / checkpoint.CHECKPOINT) == 8
    made = train(FeatureCache(caches["train"]), altered(), 0, tmp_path, CPU)
    assert made["resumed_at_steps"] == [8]
    assert same(weights(run_folder), weights(tmp_path))


@pytest.mark.faults
def test_a_checkpoint_of_another_training_is_refused_and_stays(tmp_path, caches, train_until):
    often = altered(training={"checkpoint_seconds": 1e-9})
    train_until(12, FeatureCache(caches["train"]), often, 0, tmp_path, CPU)
    before = (tmp_path / checkpoint.CHECKPOINT).read_bytes()
    with pytest.raises(InputError, match=r"resume.pt: belongs to a training with other settings"):
        train(FeatureCache(caches["train"]), often, 1, tmp_path, CPU)
    assert (tmp_path / checkpoint.CHECKPOINT).read_bytes() == before


@pytest.mark.faults
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, caches):
    wild = altered(training={"learning_rate": 1e30, "gradient_clip": None, "steps": 40})
    with pytest.raises(
        InputError, match=r"the loss \((nan|inf)\) is not finite at step [23]; "
    ) as e:
        train(FeatureCache(caches["train"]), wild, 0, tmp_path, CPU)
    assert "last finite loss: 1." in str(e.value) and "good checkpoint: none. Lower" in str(e.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.faults
def test_the_last_good_checkpoint_survives_a_loss_that_is_not_finite(tmp_path, caches, monkeypatch):
    real, calls = MaskedSlotModel.loss, []

    def breaks(*arguments):
        calls.append(1)
        return real(*arguments) * (float("nan") if len(calls) == 8 else 1.0)

    monkeypatch.setattr(MaskedSlotModel, "loss", breaks)
    often = altered(training={"checkpoint_seconds": 1e-9})
    expected = r"the loss \(nan\) .* at step 8; .*resume.pt, step 7\. .*delete the checkpoint"
    with pytest.raises(InputError, match=expected):
        train(FeatureCache(caches["train"]), often, 0, tmp_path, CPU)
    assert checkpoint.step_of(tmp_path / checkpoint.CHECKPOINT) == 7


def test_all_heads_learn_in_each_step_when_asked(tmp_path, caches):
    every = altered(training={"heads_per_step": "all", "steps": 5})
    done = train(FeatureCache(caches["train"]), every, 0, tmp_path, CPU)
    assert done["updates_per_head"] == [5, 5, 5]


def test_bf16_learns_as_fp32_does(tmp_path, caches):
    losses = []
    for precision in ("fp32", "bf16"):
        own = altered(training={"precision": precision, "steps": 100, "learning_rate": 3e-3})
        done = train(FeatureCache(caches["train"]), own, 0, tmp_path / precision, CPU)
        assert done["precision"] == precision
        losses.append(done["final_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]


def test_a_run_with_swapped_settings_is_refused(tmp_path, run_folder):
    for name in ("model.safetensors", "config.yaml", "provenance.json"):
        (tmp_path / name).write_bytes((run_folder / name).read_bytes())
    text = (tmp_path / "config.yaml").read_text().replace("heads: 3", "heads: 2")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=r"model.safetensors: does not fit .*config.yaml"):
        Run.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="missing"):
        Run.load(tmp_path)


def test_schedules():
    exponential = ScheduleConfig(warmup_steps=10, half_life_steps=100)
    assert learning_rate_factor(exponential, 0, 1000) == pytest.approx(0.1)
    assert learning_rate_factor(exponential, 9, 1000) == pytest.approx(1.0)
    assert learning_rate_factor(exponential, 110, 1000) == pytest.approx(0.5)
    cosine = ScheduleConfig(kind="cosine", warmup_steps=0)
    assert learning_rate_factor(cosine, 0, 100) == pytest.approx(1.0)
    assert learning_rate_factor(cosine, 50, 100) == pytest.approx(0.5)
    constant = ScheduleConfig(kind="constant", warmup_steps=2)
    assert [learning_rate_factor(constant, step, 9) for step in (0, 1, 8)] == [0.5, 1, 1]
    released = ScheduleConfig(kind="released", warmup_steps=100, half_life_steps=100)
    factors = [learning_rate_factor(released, step, 1000) for step in range(1000)]
    assert max(factors) == pytest.approx(0.5, abs=0.01)  # half the rate that it names
    assert factors[299] == pytest.approx(0.125, abs=0.01)


def test_the_patch_subset_estimates_the_whole_loss():
    torch.manual_seed(0)
    whole, part = (
        MaskedSlotModel(
            altered(decoder={"patches_per_step": n}, masking={"strategy": "none"}), 36, 8
        )
        for n in (None, 9)
    )
    part.load_state_dict(whole.state_dict())
    keys = torch.randn(16, 36, 8)
    with torch.inference_mode():
        whole.noise = part.noise = lambda batch, generator: torch.zeros(batch, 4, 16)
        generator = torch.Generator().manual_seed(0)
        draws = [part.draw(16, generator) for _ in range(400)]
        estimates = torch.stack([part.loss(keys, [0], drawn) for drawn in draws])
        exact = whole.loss(keys, [0], whole.draw(16, generator))
    error = estimates.std() / 400**0.5
    assert abs(estimates.mean() - exact) < 4 * error
