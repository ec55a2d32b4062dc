"""Defects that other training code has had and that no other test here would catch, each with where it was seen."""

import dataclasses
import os
import resource
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from tests.training.conftest import quick, train_alone
from tests.training.test_train import StopAfter, log, weights
from training import checkpoint
from training.config import Loss
from training.data import dataset
from training.data.batches import shuffled_batches
from training.distributed import ProcessGroup
from training.errors import CheckpointError, StoppedError, TrainingError
from training.figures import latents
from training.losses import objectives
from training.losses.importance_sampling import negative_log_likelihood
from training.models import autoencoders, initial_weights
from training.models.autoencoders import VaeGan
from training.models.posterior import Posterior
from training.random_streams import Draws, Purpose, generator
from training.train import Trainer, train


def draws(count: int) -> Draws:
    return Draws.whole_batch(generator(0, Purpose.STEP), count, torch.device("cpu"))


def test_validation_weighs_the_kl_as_training_does(tmp_path: Path) -> None:
    # PyTorch-VAE: trains with a KL weight of 0.00025 and chooses checkpoints with 1.
    train(quick("vae", "loss.beta=0.25", "run.epochs=1"), tmp_path)
    for split in ("train", "validation"):
        found = log(tmp_path)[0][split]
        assert found["loss"] == pytest.approx(found["reconstruction"] + 0.25 * found["kl"], rel=1e-5)


@pytest.mark.parametrize("recipe", ["vae", "iwae", "multitask-vae", "vae-gan"])
def test_the_weight_of_the_kl_counts_in_every_family(recipe: str) -> None:
    # lightning-bolts #328: it is read and then ignored.
    settings, labels = quick(recipe), torch.arange(8) % 10
    model = autoencoders.build(settings.model, (28, 28, 1), tuple("0123456789"))
    initial_weights.initialise(model, generator(0, Purpose.WEIGHTS))
    images = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    parts = [
        next(iter(objectives.evaluate(model, images, labels, draws(8), settings.loss, weight).losses.values()))
        for weight in (0.0, 1.0)
    ]
    assert (parts[0] - parts[1]).abs().min() > 1e-3


def test_the_test_split_decides_nothing() -> None:
    # Every example of the Keras blog validates on its test images.
    digits, losses = dataset.digits(), []
    for test in (digits.test, digits.test.take(slice(9))):
        seen = dataclasses.replace(digits, test=test)
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(quick("fc-ae"), seen, Path(folder), ProcessGroup(), threading.Event())
            trainer.run()
        losses.append([each["validation"] for each in trainer.state.progress.history])
    assert losses[0] == losses[1]


def test_what_is_saved_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Lightning's atomic save moves a file that the power may still take.
    happened: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        happened.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        happened.append(f"{path.name} becomes {target.name}")
        return rename(path, target)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    checkpoint.write(tmp_path / "best", {"a": b"1", "b": b"2"})
    assert happened == ["a", "b", ".best.new", ".best.new becomes best", tmp_path.name]


def test_the_likelihood_encodes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # pythae encodes an image again for every sample.
    model = autoencoders.build(quick("vae").model, (28, 28, 1))
    assert isinstance(model, autoencoders.VariationalAutoencoder)
    calls: list[int] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda images: calls.append(len(images)) or encode(images))
    negative_log_likelihood(model, torch.zeros(4, 1, 28, 28), draws(4), 3_000)
    assert calls == [4]


def test_the_plane_is_cut_where_the_prior_has_its_mass() -> None:
    # The Keras blog draws it over -15 to 15, where no code ever was.
    points = latents._grid(None, latents.TAILS[0]).reshape(latents.GRID, latents.GRID, 2)
    across, up = points[0, :, 0], points[::-1, 0, 1]
    assert (across[0], across[-1]) == pytest.approx((-1.645, 1.645), abs=1e-3)
    np.testing.assert_allclose(np.diff(norm.cdf(across)), 0.9 / (latents.GRID - 1), rtol=1e-5)
    np.testing.assert_array_equal(up, across)


def test_the_plane_reaches_as_far_as_every_class_that_has_a_region() -> None:
    # Ours once showed no zero: 5 % to 95 % of each axis cut off the corner in which they lie.
    places = {0: (-2.2, -2.2), 1: (0.0, 0.0), 2: (1.5, 0.0), 3: (9.0, 9.0)}

    def seen(tail: float) -> set[int]:
        reach = norm.ppf(1 - tail)
        return {name for name, place in places.items() if max(map(abs, place)) <= reach}

    assert latents.widest_tail(seen, {1, 2}) == latents.TAILS[0]
    assert latents.widest_tail(seen, {0, 1, 2}) == 0.01
    # What lies nowhere does not widen the plane.
    assert latents.widest_tail(seen, {0, 1, 2, 3}) == 0.01


def test_every_epoch_has_an_order_of_its_own() -> None:
    # pythae: DistributedSampler without set_epoch gives every epoch the same order.
    first, second = (torch.cat(shuffled_batches(0, epoch, 100, 32)) for epoch in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, torch.arange(100))
    assert torch.equal(torch.cat(shuffled_batches(0, 1, 100, 32)), second)


def test_the_distance_of_features_moves_the_decoder() -> None:
    # diffusers PR #10605: the perceptual loss is taken without gradient.
    model = autoencoders.build(quick("vae-gan").model, (28, 28, 1))
    initial_weights.initialise(model, generator(0, Purpose.WEIGHTS))
    assert isinstance(model, VaeGan)
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    outcome = objectives.evaluate(model, images, None, draws(4), Loss(adversarial=0), kl_weight=0.0)
    for player in ("encoder", "decoder"):
        slopes = torch.autograd.grad(outcome.losses[player].sum(), model.parameter_groups()[player], retain_graph=True)
        assert all(slope.abs().max() > 0 for slope in slopes), player


def test_the_posterior_is_sampled_with_its_own_standard_deviation() -> None:
    # The Keras blog: noise of 0.1 or 0.01 instead of 1, and one tensor used as log-variance and as log-deviation.
    means, log_variances = torch.full((20_000, 1), 3.0), torch.full((20_000, 1), 4.0).log()
    drawn = Posterior(means, log_variances).sample(draws(20_000).normal((1,)))
    assert drawn.mean().item() == pytest.approx(3, abs=0.05)
    assert drawn.std().item() == pytest.approx(2, abs=0.05)


def test_a_save_that_fails_is_an_error_and_leaves_the_one_before(tmp_path: Path) -> None:
    # Lightning #21800: saving does nothing, and says nothing, when it may not write.
    with pytest.raises(StoppedError):
        train(quick("vae"), tmp_path, stop=StopAfter(3))
    before = (tmp_path / "latest" / checkpoint.STATE).read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
    try:
        with pytest.raises(TrainingError, match=r"cannot write .*the one before it is kept"):
            train(quick("vae", "output.save_seconds=0"), tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (tmp_path / "latest" / checkpoint.STATE).read_bytes() == before


def test_a_full_disk_is_known_before_anything_is_trained(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, limit[1]))
    stop = StopAfter(1000)
    try:
        with pytest.raises(TrainingError, match=r"cannot write .*latest"):
            train(quick("vae"), tmp_path, stop=stop)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert stop.left == 1000


def test_a_damaged_state_is_refused_not_restarted(tmp_path: Path) -> None:
    # ACEsuit/mace #1578: a corrupt checkpoint must not look like none.
    with pytest.raises(StoppedError):
        train(quick("fc-ae"), tmp_path, stop=StopAfter(3))
    path = tmp_path / "latest" / checkpoint.STATE
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match=r"state.pt is damaged"):
        train(quick("fc-ae"), tmp_path, resume=True)


def test_every_optimizer_and_the_average_resume(tmp_path: Path) -> None:
    # diffusers PR #10605: the resume hook of a model with a discriminator cannot load; pythae PR #92: best weights lie
    # beside the optimizer of the last step.
    train_alone(quick("vae-gan", "run.epochs=1"), tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_alone(quick("vae-gan", "run.epochs=1"), tmp_path / "stopped", stop=StopAfter(3))
    train_alone(quick("vae-gan", "run.epochs=1"), tmp_path / "stopped", resume=True)
    assert log(tmp_path / "stopped") == log(tmp_path / "whole")
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


def test_resuming_with_other_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(quick("fc-ae"), tmp_path, stop=StopAfter(3))
    other = dataset.digits()
    other.train.images[0] = 255 - other.train.images[0]
    trainer = Trainer(quick("fc-ae"), other, tmp_path, ProcessGroup(), threading.Event())
    with pytest.raises(CheckpointError, match=r"data: digits \w+, not digits \w+"):
        trainer.run(resume=True)


def test_bfloat16_keeps_losses_in_float32(tmp_path: Path) -> None:
    # pythae turns mixed precision off, because binary cross-entropy of probabilities refuses it.
    train_alone(quick("vae", "device.precision=bfloat16"), tmp_path / "lower")
    train_alone(quick("vae"), tmp_path / "full")
    lower, full = log(tmp_path / "lower")[-1]["train"], log(tmp_path / "full")[-1]["train"]
    assert lower["loss"] == pytest.approx(full["loss"], rel=0.01)
    assert lower["loss"] != full["loss"]
    assert all(weight.dtype == torch.float32 for weight in checkpoint.load(tmp_path / "lower").model.parameters())


@pytest.mark.slow
# PyTorch's own compiler uses what PyTorch has deprecated, and looks at what PyTorch warns of.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
def test_compiled_weights_carry_no_prefix_and_are_those_of_eager(tmp_path: Path) -> None:
    for name in ("eager", "compiled"):
        train(quick("vae", "run.epochs=1", f"device.compile={str(name == 'compiled').lower()}"), tmp_path / name)
    eager, compiled = (checkpoint.load(tmp_path / name).model.state_dict() for name in ("eager", "compiled"))
    assert eager.keys() == compiled.keys()
    for name, weight in eager.items():
        torch.testing.assert_close(compiled[name], weight, rtol=1e-3, atol=1e-4)
