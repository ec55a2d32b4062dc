from pathlib import Path

import pytest
import torch

from tests.training.conftest import quick
from training import checkpoint
from training.data import dataset
from training.evaluation import image_measures
from training.evaluation.notes import Notes
from training.losses import terms


def test_the_bound_is_found_without_comparing_images(vae_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("it takes memory by the square of a batch")

    monkeypatch.setattr(terms, "total_correlation", refused)
    model, test = checkpoint.load(vae_run).model, dataset.digits().test.take(slice(20))
    plain, weighted = (
        image_measures.per_image(model, test, quick("vae", f"loss.total_correlation={weight}"), Notes())
        for weight in (1, 6)
    )
    assert weighted == plain
