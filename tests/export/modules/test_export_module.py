"""The public function: what contradicts itself is refused before anything is built, and nothing is written."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from autoencoder.v1.shapes import pad
from torch import Tensor, nn

from bundle.layout import read_model
from export.errors import GateError, InputError
from export.graphs import build
from export.inspection.verify import verify
from export.modules import Declaration, Scaling, export_module
from export.modules.export_module import unhooked
from export.publication.publish import Place
from tests.export.modules import user_modules as users


def local() -> nn.Module:
    class Inner(users.Denoiser):
        pass

    return Inner().eval()


REFUSED = {
    "training mode": (users.Denoiser().train(), Declaration(), "got Denoiser in training mode: call eval"),
    "not a size": (
        users.Denoiser(),
        Declaration(image_shape=(9, 9, 1)),
        "expected reference images of 9 x 9, got 8 x 8",
    ),
    "multiple of a fixed size": (users.Denoiser(), Declaration(multiple=2), "with --image-shape free alone"),
    "labels": (users.Denoiser(), Declaration(labels=("a",)), "expected no labels for denoise"),
    "noise level": (users.Spatial(), Declaration(noise_level=(0, 1, 0)), "expected no noise level for encode"),
    "channels": (users.Denoiser(), Declaration(scaling=Scaling((0.1, 0.2), (1.0,))), "got 2 and 1"),
    "not picklable": (local(), Declaration(), "a module that another process can be sent, got .*Inner"),
    "NaN": (users.Denoiser(), Declaration(), "expected finite weights, got NaN"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_is_written(why: str, tmp_path: Path) -> None:
    module, declared, sentence = REFUSED[why]
    if why != "training mode":
        module.eval()
    if why == "NaN":
        module.body[0].bias.data.fill_(torch.nan)
    with pytest.raises(InputError, match=sentence):
        export_module(module, users.images(), Place(tmp_path, "mine"), declared)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (
            users.images(8),
            "at least 9 reference images to calibrate detect on, .* got 8: give --reference more",
        ),
        ([users.images(6), users.images(6, side=9)], "of one size to calibrate detect on, got 8 x 8, 9 x 9: resize"),
    ],
)
def test_images_that_detect_cannot_be_calibrated_on_are_refused(
    images: np.ndarray | list[np.ndarray], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        export_module(users.Detector().eval(), images, Place(tmp_path, "mine"), Declaration(image_shape="free"))
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_module_that_detects_is_calibrated_on_its_reference_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    module, images = users.Detector().eval(), users.images(40, side=30)
    declared = Declaration(image_shape="free", multiple=4, minimum=8, detection_score="mean")
    done = export_module(module, images, Place(tmp_path, "mine"), declared)
    assert "thresholds are those of 40 reference images" in capsys.readouterr().out
    model = read_model(done.folder)
    about = model.detection
    assert (list(model.methods), about.score, about.calibrated_on) == (["Detect"], "mean", 40)
    # Whole images, padded to 32 x 32 and cropped: no crops as the gate has them.
    assert (about.calibrated_height, about.calibrated_width) == (30, 30)
    with torch.no_grad():
        pixels = torch.tensor(pad(images, (32, 32))).movedim(-1, 1) / 255
        maps = module.detect(pixels)[:, 0, :30, :30]
    scores = np.sort(maps.mean((1, 2)).numpy())
    np.testing.assert_allclose(about.thresholds, scores[[38, 36]], rtol=1e-5)
    assert [each for each in verify(done.folder) if not each.passed] == []


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_norms_of_the_old_kind_become_weights() -> None:
    torch.manual_seed(0)
    module = users.OldNorms().eval()
    images = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        expected: Tensor = module.denoise(images)
    plain = unhooked(module)
    assert set(plain.state_dict()) == {
        f"{layer}.{kind}" for layer in ("first", "second") for kind in ("weight", "bias")
    }
    assert torch.allclose(plain.denoise(images), expected, atol=1e-6)
    assert "first.weight_g" in module.state_dict()


@pytest.mark.slow
def test_a_module_with_a_noise_level_becomes_a_version(tmp_path: Path) -> None:
    torch.manual_seed(0)
    declared = Declaration(image_shape="free", minimum=8, noise_level=(0.0, 0.3, 0.1), scaling=Scaling.of_range(-1, 1))
    images = np.clip(users.images(4, side=40), 64, 192)
    done = export_module(users.NoiseLevel().eval(), images, Place(tmp_path, "mine"), declared)
    model = read_model(done.folder)
    assert (model.family, list(model.methods), model.height) == ("module", ["Denoise"], 0)
    assert model.noise_level.default == pytest.approx(0.1)
    assert model.provenance["reference_precision"] == "float64"
    assert "tiles" in done.result.passed


@pytest.mark.slow
def test_a_decision_by_the_pixels_is_explained(tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"the module decides by its input's values, by aten\._local_scalar_dense"):
        export_module(users.Branching().eval(), users.images(), Place(tmp_path, "mine"))
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_the_weaker_claim_is_recorded(tmp_path: Path) -> None:
    declared = Declaration(reference_precision="float32")
    done = export_module(users.WithConstant().eval(), users.images(), Place(tmp_path, "mine"), declared)
    assert read_model(done.folder).provenance["reference_precision"] == "float32"


def test_a_module_with_weight_norm_can_be_sent() -> None:
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 1, 3)))
    sent = pickle.loads(pickle.dumps(build.folded(normed.eval())))  # noqa: S301 (our own bytes)
    images = torch.ones(1, 1, 8, 8)
    assert torch.equal(sent(images), normed(images))
