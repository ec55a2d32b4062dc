"""Scaling to the module's range and back, and which methods it has."""

import pytest
import torch
from torch import Tensor, nn

from export.errors import InputError
from export.modules.adapter import AdaptedModule, Scaling, methods_of
from tests.export.modules import user_modules as users


class Seeing(nn.Module):
    """Keeps what it is given, and gives it back."""

    seen: tuple[Tensor, ...] = ()

    def denoise(self, *given: Tensor) -> Tensor:
        self.seen = given
        return given[0]


@pytest.mark.parametrize(
    ("scaling", "low", "high"),
    [
        (Scaling.of_range(-1, 1), -1, 1),
        (Scaling((0.5,), (0.25,)), -2, 2),
        (Scaling(), 0, 1),
        (Scaling.of_range(0, 255), 0, 255),
    ],
)
def test_pixels_are_scaled_to_the_range_of_the_module_and_back(scaling: Scaling, low: float, high: float) -> None:
    module = Seeing()
    pixels = torch.rand(2, 1, 4, 4)
    pixels[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    answer = AdaptedModule(module, ("denoise",), scaling=scaling).denoise(pixels, torch.tensor([0.1, 0.2]))
    images, levels = module.seen
    assert (float(images.min()), float(images.max())) == pytest.approx((low, high))
    assert torch.allclose(levels, torch.tensor([0.1, 0.2]) * (high - low))
    assert torch.allclose(answer, pixels, atol=1e-6)


def test_maps_are_not_scaled_back() -> None:
    module = users.Detector()
    pixels = torch.rand(2, 1, 4, 4)
    maps = AdaptedModule(module, ("detect",), scaling=Scaling.of_range(-1, 1)).detect(pixels)
    assert torch.allclose(maps, module.detect(2 * pixels - 1), atol=1e-6)


def test_channels_have_a_mean_of_their_own() -> None:
    module = Seeing()
    AdaptedModule(module, ("denoise",), scaling=Scaling((0.1, 0.2, 0.3), (1.0,))).denoise(torch.zeros(1, 3, 2, 2))
    assert torch.allclose(module.seen[0][0, :, 0, 0], torch.tensor([-0.1, -0.2, -0.3]))


def test_methods_are_those_that_it_has_or_that_follow() -> None:
    assert methods_of(users.Denoiser(), None) == ("denoise",)
    assert methods_of(users.Detector(), None) == ("detect",)
    assert set(methods_of(users.Spatial(), None)) == {"encode", "decode", "reconstruct"}
    assert methods_of(users.Callable(), "reconstruct") == ("reconstruct",)
    with pytest.raises(InputError, match=r"got Callable without any: add one, or say .* --as denoise"):
        methods_of(users.Callable(), None)


def test_a_decoder_alone_is_refused() -> None:
    class Decoder(nn.Module):
        def decode(self, latents: Tensor) -> Tensor:
            return latents

    with pytest.raises(InputError, match="expected encode beside decode"):
        methods_of(Decoder(), None)


@pytest.mark.parametrize(
    ("scaling", "why"), [(Scaling((0.5, 0.5), (1.0,)), "2 and 1"), (Scaling((0.0,), (0.0,)), "above 0")]
)
def test_a_scaling_that_fits_no_image_is_refused(scaling: Scaling, why: str) -> None:
    with pytest.raises(InputError, match=why):
        scaling.check(3)
