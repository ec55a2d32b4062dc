"""Defects that other training code has had and that no other test here would catch, each with where it was seen."""

import resource
import shutil
import threading
from pathlib import Path

import pytest
import torch

from tests.training.conftest import quick
from tests.training.test_train import StopAfter, log
from training import checkpoint, models, objectives, optimization
from training.config import Loss
from training.data import digits
from training.errors import CheckpointError, StoppedError, TrainingError
from training.feed import order
from training.models import VaeGan
from training.noise import Purpose, generator, whole
from training.team import Team
from training.train import Trainer, train


def test_validation_weighs_the_kl_as_training_does(tmp_path: Path) -> None:
    # PyTorch-VAE: trains with a KL weight of 0.00025 and chooses checkpoints with 1.
    train(quick("vae", "loss.beta=0.25", "run.epochs=1"), tmp_path)
    for split in ("train", "validation"):
        found = log(tmp_path)[0][split]
        assert found["loss"] == pytest.approx(found["reconstruction"] + 0.25 * found["kl"], rel=1e-5)


def test_every_epoch_has_an_order_of_its_own() -> None:
    # pythae: DistributedSampler without set_epoch gives every epoch the same order.
    first, second = (torch.cat(order(0, epoch, 100, 32)) for epoch in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, torch.arange(100))
    assert torch.equal(torch.cat(order(0, 1, 100, 32)), second)


def test_the_distance_of_features_moves_the_decoder() -> None:
    # diffusers PR #10605: the perceptual loss is taken without gradient.
    model = models.build(quick("vae-gan").model, (28, 28, 1))
    models.initialise(model, generator(0, Purpose.WEIGHTS))
    assert isinstance(model, VaeGan)
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    draws = whole(generator(0, Purpose.STEP), 4, torch.device("cpu"))
    outcome = objectives.evaluate(model, images, None, draws, Loss(adversarial=0), kl_weight=0.0)
    for player in ("encoder", "decoder"):
        slopes = torch.autograd.grad(
            outcome.losses[player].sum(), optimization.players(model)[player], retain_graph=True
        )
        assert all(slope.abs().max() > 0 for slope in slopes), player


def test_the_posterior_is_sampled_with_its_own_standard_deviation() -> None:
    # The Keras blog: noise of 0.1 or 0.01 instead of 1, and one tensor used as log-variance and as log-deviation.
    means, log_variances = torch.full((20_000, 1), 3.0), torch.full((20_000, 1), 4.0).log()
    drawn = objectives.sampled(means, log_variances, whole(generator(0, Purpose.STEP), 20_000, torch.device("cpu")))
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


def test_a_damaged_state_is_refused_not_restarted(tmp_path: Path) -> None:
    # ACEsuit/mace #1578: a corrupt checkpoint must not look like none.
    with pytest.raises(StoppedError):
        train(quick("fc-ae"), tmp_path, stop=StopAfter(3))
    path = tmp_path / "latest" / checkpoint.STATE
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match=r"state.pt is damaged"):
        train(quick("fc-ae"), tmp_path, resume=True)


def test_resuming_with_other_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(quick("fc-ae"), tmp_path, stop=StopAfter(3))
    other = digits()
    other.train.images[0] = 255 - other.train.images[0]
    trainer = Trainer(quick("fc-ae"), other, tmp_path, Team(), threading.Event())
    with pytest.raises(CheckpointError, match=r"data: digits \w+, not digits \w+"):
        trainer.run(resume=True)


def test_bfloat16_keeps_losses_in_float32(tmp_path: Path) -> None:
    # pythae turns mixed precision off, because binary cross-entropy of probabilities refuses it.
    train(quick("vae", "device.precision=bfloat16"), tmp_path / "lower")
    train(quick("vae"), tmp_path / "full")
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
