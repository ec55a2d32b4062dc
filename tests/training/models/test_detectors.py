import pytest
import torch
from scipy.ndimage import gaussian_filter

from training.config import Architecture
from training.errors import ConfigError
from training.models import autoencoders, initial_weights
from training.models.detectors import GaussianSmoothing
from training.models.families import Network


def made(shape: tuple[int, int, int] = (0, 0, 1), **settings: object) -> Network:
    values = {"family": "detector", "body": "residual", "channels": [4, 6], **settings}
    model = autoencoders.build(Architecture.model_validate(values), shape)
    initial_weights.initialise(model, torch.Generator().manual_seed(0))
    return model.eval()


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def test_a_detector_maps_images_of_any_size() -> None:
    model = made((0, 0, 3), smoothing=1.5)
    assert (model.multiple, model.latent_shape, model.detection_score) == (4, (), "max")
    for size in ((4, 4), (16, 24), (64, 8)):
        with torch.no_grad():
            found = model.detect(images(2, 3, *size))
        assert found.shape == (2, 1, *size)
        assert float(found.min()) >= 0


def test_smoothing_is_a_gaussian_that_goes_on_at_the_edge() -> None:
    maps = images(1, 1, 20, 30)
    expected = gaussian_filter(maps[0, 0].double().numpy(), 1.5, mode="nearest", radius=5)
    found = GaussianSmoothing(1.5).double()(maps.double())
    torch.testing.assert_close(found[0, 0], torch.from_numpy(expected), atol=1e-6, rtol=0)
    assert torch.equal(GaussianSmoothing(0)(maps), maps)


def test_an_autoencoder_detects_where_a_score_is_set() -> None:
    plain = made((12, 10, 2), family="ae", body="dense", channels=[], latent_size=3)
    assert not hasattr(plain, "detect")
    model = made((12, 10, 2), family="ae", body="dense", channels=[], latent_size=3, score="mean", smoothing=1.0)
    assert (model.detection_score, model.family, model.sampling) == ("mean", "ae", "mixture")
    seen = images(3, 2, 12, 10)
    with torch.no_grad():
        difference = seen - model.images(model.decode(model.encode(seen)))
        smooth = torch.stack([model.smoothing(difference[:, [channel]])[:, 0] for channel in range(2)], 1)
        torch.testing.assert_close(model.detect(seen), smooth.square().mean(1, keepdim=True))


def test_a_part_of_an_image_is_mapped_as_it_is_in_the_whole() -> None:
    model, whole = made(smoothing=1.0), images(1, 1, 160, 16)
    with torch.no_grad():
        part, everything = model.detect(whole[:, :, :96]), model.detect(whole)
    torch.testing.assert_close(part[:, :, :40], everything[:, :, :40])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"body": "dense", "channels": []}, "a detector expects model.body residual, got dense"),
        ({"channels": []}, "model.channels"),
        ({"shape": (10, 12, 1)}, "multiple of 4 pixels, got 10x12"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(**settings)
