import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import quick, train_alone
from training import checkpoint
from training.config import Config
from training.errors import CheckpointError, StoppedError, TrainingError
from training.losses import terms
from training.losses.objectives import Inputs, Outcome
from training.models.autoencoders import Autoencoder
from training.run.stop_request import StopRequest
from training.train import train

WEIGHTS = checkpoint.WEIGHTS


def log(folder: Path) -> list[dict[str, Any]]:
    """The log without what a clock decides."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in each.items() if k not in {"seconds", "images_per_second"}} for each in records]


def weights(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "best" / WEIGHTS).read_bytes(), (folder / "latest" / WEIGHTS).read_bytes()


class StopAfter(StopRequest):
    """Set after so many questions: the loop asks once a step."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def is_set(self) -> bool:
        self.left -= 1
        return self.left <= 0


def test_the_same_seed_gives_the_same_bytes_and_log(vae_run: Path, tmp_path: Path) -> None:
    torch.manual_seed(12345)  # what the caller drew before must not matter
    train(quick("vae"), tmp_path)
    assert weights(tmp_path) == weights(vae_run)
    assert log(tmp_path) == log(vae_run)
    assert (tmp_path / "best" / "latents.npz").read_bytes() == (vae_run / "best" / "latents.npz").read_bytes()
    assert (tmp_path / "best" / "checkpoint.json").read_bytes() == (vae_run / "best" / "checkpoint.json").read_bytes()


def test_another_seed_gives_other_weights(vae_run: Path, tmp_path: Path) -> None:
    train_alone(quick("vae", "run.seed=1"), tmp_path)
    assert weights(tmp_path)[0] != weights(vae_run)[0]


def test_the_log_holds_every_epoch_in_nats(vae_run: Path) -> None:
    records = log(vae_run)
    assert [(each["epoch"], each["step"]) for each in records] == [(1, 6), (2, 12)]
    for each in records:
        for split in ("train", "validation"):
            assert each[split]["loss"] == pytest.approx(each[split]["reconstruction"] + each[split]["kl"], rel=1e-5)
        assert each["gradient_norm"] > 0
    assert records[1]["train"]["loss"] < records[0]["train"]["loss"]


def test_validation_compares_as_many_images_as_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, estimate = list[int](), terms.total_correlation

    def counted(latents: torch.Tensor, means: torch.Tensor, log_variances: torch.Tensor) -> torch.Tensor:
        counts.append(len(latents))
        return estimate(latents, means, log_variances)

    monkeypatch.setattr(terms, "total_correlation", counted)
    train_alone(quick("vae", "loss.total_correlation=6", "run.batch_size=64", "run.epochs=1"), tmp_path)
    assert counts[-3:] == [64, 64, 22]
    record = log(tmp_path)[0]
    train, validation = (record[split]["total_correlation"] for split in ("train", "validation"))
    assert validation == pytest.approx(train, abs=1.5)


def test_pictures_are_drawn(vae_run: Path, denoiser_run: Path) -> None:
    for folder in (vae_run, denoiser_run):
        assert (folder / "reconstructions.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / "losses.png").is_file()
    assert (vae_run / "samples.png").is_file()
    assert not (denoiser_run / "samples.png").exists()


@pytest.mark.parametrize("step", [1, 4, 6, 9, 12])
def test_a_stopped_run_resumes_to_the_same_bytes(vae_run: Path, tmp_path: Path, step: int) -> None:
    with pytest.raises(StoppedError, match=f"step {step}, saved"):
        train_alone(quick("vae"), tmp_path, stop=StopAfter(step))
    train_alone(quick("vae"), tmp_path, resume=True)
    assert weights(tmp_path) == weights(vae_run)
    assert log(tmp_path) == log(vae_run)


BUDGET = ("run.epochs=1000", "run.minutes=0.02", "run.batch_size=64", "optimizer.schedule=one-cycle")


def test_a_run_ends_with_its_budget_and_so_does_its_schedule(tmp_path: Path) -> None:
    config = quick("fc-ae", *BUDGET)
    train_alone(config, tmp_path)
    records = log(tmp_path)
    assert 1 < len(records) < 1_000
    saved = torch.load(tmp_path / "latest" / checkpoint.STATE, weights_only=True)["progress"]
    assert saved["spent"] >= 0.02 * 60
    rates = [each["learning_rate"] for each in records]
    assert rates[-1] == 0 < max(rates) <= config.optimizer.learning_rate


def test_a_budget_goes_on_where_a_stopped_run_was(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train_alone(quick("fc-ae", *BUDGET), tmp_path, stop=StopAfter(3))
    spent = torch.load(tmp_path / "latest" / checkpoint.STATE, weights_only=True)["progress"]["spent"]
    train_alone(quick("fc-ae", *BUDGET), tmp_path, resume=True)
    assert 0 < spent < torch.load(tmp_path / "latest" / checkpoint.STATE, weights_only=True)["progress"]["spent"]
    before = weights(tmp_path), log(tmp_path)
    # It ended within an epoch, which resuming takes for a whole one.
    train_alone(quick("fc-ae", *BUDGET), tmp_path, resume=True)
    assert (weights(tmp_path), log(tmp_path)) == before


def test_epochs_that_end_sooner_than_the_budget_decide(tmp_path: Path, vae_run: Path) -> None:
    train_alone(quick("vae", "run.minutes=1000"), tmp_path)
    assert log(tmp_path) == log(vae_run)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    train(quick("fc-ae", "run.epochs=1"), tmp_path)
    before = weights(tmp_path), log(tmp_path)
    # What one expects of a run, or says about it, is no part of what it is.
    others = "expected.at_most={ mse = 0.01 }", "expected.minutes=99", "summary=Another"
    train(quick("fc-ae", "run.epochs=1", *others), tmp_path, resume=True)
    assert (weights(tmp_path), log(tmp_path)) == before


def test_resuming_before_the_first_save_starts_anew(vae_run: Path, tmp_path: Path) -> None:
    train_alone(quick("vae"), tmp_path, resume=True)
    assert weights(tmp_path) == weights(vae_run)


def test_another_configuration_is_refused_with_the_difference(vae_run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"optimizer.learning_rate: 0.002, not 0.5.*run.seed: 0, not 7"):
        train(quick("vae", "optimizer.learning_rate=0.5", "run.seed=7"), vae_run, resume=True)


def test_a_run_is_not_overwritten_unasked(vae_run: Path) -> None:
    before = weights(vae_run)
    with pytest.raises(CheckpointError, match=r"holds a run already: --resume"):
        train(quick("vae"), vae_run)
    assert weights(vae_run) == before


def test_a_run_is_overwritten_when_asked(tmp_path: Path) -> None:
    train(quick("fc-ae", "run.epochs=1"), tmp_path)
    train(quick("denoiser", "run.epochs=1", "model.channels=[2]"), tmp_path, overwrite=True)
    assert checkpoint.load(tmp_path).meta["name"] == "denoiser"
    assert len(log(tmp_path)) == 1
    assert not (tmp_path / "samples.png").exists()
    assert "samples" not in (tmp_path / "report.md").read_text()


def test_infinite_loss_stops_before_the_step_and_names_the_batch(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"loss.* is not finite at step \d+, training images \[\d+, .*learning_rate"
    ):
        train(quick("vae", "optimizer.learning_rate=1e30", "output.save_seconds=0"), tmp_path)
    state = torch.load(tmp_path / "latest" / checkpoint.STATE, weights_only=True)
    assert all(weight.isfinite().all() for weight in state["model"].values())


class Undecided(Autoencoder):
    """Its loss is a number in training and none where models are compared."""

    family = "undecided"

    def objective(self, given: Inputs) -> Outcome:
        found = super().objective(given)
        if torch.is_grad_enabled():
            return found
        return Outcome(found.losses, {name: each * torch.nan for name, each in found.measures.items()})


def test_a_validation_loss_that_is_never_finite_is_said_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"validation loss was finite in no epoch; try a lower .*learning_rate"):
        train(quick("fc-ae", "model.family=undecided"), tmp_path)
    assert (tmp_path / "latest" / checkpoint.STATE).is_file()


def test_an_unwritable_folder_is_an_error_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TrainingError, match="cannot write the run's folder"):
        train(quick("vae"), tmp_path / "file" / "run")


def trained(config: Config, folder: Path) -> checkpoint.Checkpoint:
    train_alone(config, folder)
    return checkpoint.load(folder)


def test_the_moving_average_is_what_is_served(tmp_path: Path) -> None:
    served = trained(quick("fc-ae", "run.ema_decay=0.9"), tmp_path / "ema").model.state_dict()
    raw = torch.load(tmp_path / "ema" / "latest" / checkpoint.STATE, weights_only=True)
    assert all(torch.equal(served[name], raw["average"][f"module.{name}"]) for name in served)
    assert not torch.equal(served["decoder.layers.0.weight"], raw["model"]["decoder.layers.0.weight"])


def test_the_best_epoch_is_kept_not_the_last(tmp_path: Path) -> None:
    # PyTorch-VAE chooses by another loss than it trains; pythae pairs the best weights with the last optimizer.
    worsening = ("run.epochs=3", "optimizer.learning_rate=0.1", "optimizer.schedule=constant")
    best = trained(quick("vae", *worsening), tmp_path)
    losses = [each["validation"]["loss"] for each in log(tmp_path)]
    assert min(losses) != losses[-1], "the test wants a run that gets worse"
    assert best.meta["epoch"] == losses.index(min(losses)) + 1
    assert best.meta["metrics"]["validation_loss"] == min(losses)
    state = torch.load(tmp_path / "latest" / checkpoint.STATE, weights_only=True)
    latest = checkpoint.load(tmp_path / "latest").model.state_dict()
    assert all(torch.equal(latest[name], state["model"][name]) for name in latest)
    assert not torch.equal(best.model.state_dict()["encoder.layers.1.weight"], latest["encoder.layers.1.weight"])


def test_early_stopping_counts_epochs_without_gain(tmp_path: Path) -> None:
    train_alone(quick("fc-ae", "run.epochs=50", "run.patience=2", "run.min_delta=1e6"), tmp_path)
    assert len(log(tmp_path)) == 3


def test_nothing_is_chosen_before_the_warm_up_ends(tmp_path: Path) -> None:
    config = quick("vae", "run.epochs=4", "run.patience=1", "run.min_delta=1e6", "loss.warm_up_epochs=3")
    assert trained(config, tmp_path).meta["epoch"] == 3
    assert len(log(tmp_path)) == 4


def test_the_norm_is_logged_as_it_was_before_clipping(tmp_path: Path) -> None:
    train_alone(quick("fc-ae", "run.epochs=1", "optimizer.clip_norm=1e-9"), tmp_path)
    assert log(tmp_path)[0]["gradient_norm"] > 1


def test_training_beats_the_mean_image_by_far(tmp_path: Path) -> None:
    train(quick("fc-ae", "run.epochs=30", "run.batch_size=64"), tmp_path)
    best = checkpoint.load(tmp_path)
    pixels = torch.tensor(best.reference.images).float() / 255
    assert best.meta["metrics"]["mse"] < 0.25 * pixels.var(0, correction=0).mean().item()


def test_noise_for_the_encoder_is_there_in_training_only(tmp_path: Path) -> None:
    settings = "optimizer.learning_rate=1e-9", "run.epochs=1"
    for noise in ("0.0", "0.5"):
        train(quick("vae", *settings, f"loss.encoder_noise={noise}"), tmp_path / noise)
    plain, noised = (log(tmp_path / noise)[0] for noise in ("0.0", "0.5"))
    assert noised["train"]["kl"] > 1.1 * plain["train"]["kl"]
    assert noised["validation"] == pytest.approx(plain["validation"], rel=1e-4)
    kl, noised_kl = (checkpoint.read_meta(tmp_path / noise / "best")["metrics"]["kl"] for noise in ("0.0", "0.5"))
    assert noised_kl == pytest.approx(kl, rel=1e-4)
