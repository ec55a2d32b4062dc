"""Statistics of latents on reference images, or a reason why there are none."""

import numpy as np
import pytest
import torch

from bundle import latents
from bundle.latents import LatentStatistics
from export.graphs.methods import facts
from export.modules.adapter import AdaptedModule, methods_of
from export.modules.probe import probe
from export.modules.statistics import LEAST_IMAGES, as_pixels, fit
from tests.export.modules import user_modules as users
from training.errors import UnavailableError

UNLABELLED = [""] * LEAST_IMAGES


def spatial(*, free: bool) -> AdaptedModule:
    torch.manual_seed(0)
    module = users.Spatial().eval().requires_grad_(requires_grad=False)
    model = AdaptedModule(module, methods_of(module, None)).eval()
    model.image_shape = (0, 0, 1) if free else (users.SIDE, users.SIDE, 1)
    model.multiple = 2
    probe(model, as_pixels(users.images(3)))
    return model


@pytest.mark.parametrize(("free", "size"), [(False, 4 * 4 * 2), (True, 2)])
def test_spatial_codes_are_flattened_or_taken_position_by_position(free: bool, size: int) -> None:
    images, model = users.images(LEAST_IMAGES), spatial(free=free)
    statistics = fit(model, images, UNLABELLED)
    assert statistics is not None
    assert statistics.latent_size == size
    assert statistics.held_out_rows == LEAST_IMAGES // 2
    codes = model.encode(as_pixels(images[1::2]))[0].movedim(1, -1).contiguous().numpy()
    median = statistics.latent_distance_quantiles[list(statistics.quantile_levels).index(0.5)]
    assert np.median(statistics.distance(codes)) == pytest.approx(median)


def test_a_module_without_latents_has_none() -> None:
    assert fit(AdaptedModule(users.Denoiser(), ("denoise",)), users.images(LEAST_IMAGES), UNLABELLED) is None


def test_too_few_images_are_a_reason() -> None:
    with pytest.raises(UnavailableError, match=f"at least {LEAST_IMAGES} reference images, got 6"):
        fit(spatial(free=False), users.images(6), UNLABELLED)


def test_a_plain_autoencoder_is_sampled_from_its_mixture_and_a_variational_one_is_not() -> None:
    images = users.images(LEAST_IMAGES)
    module = users.Dense().eval().requires_grad_(requires_grad=False)
    plain = AdaptedModule(module, methods_of(module, None)).eval()
    plain.image_shape = (users.SIDE, users.SIDE, 1)
    probe(plain, as_pixels(images[:3]))
    fitted, unfitted = fit(plain, images, UNLABELLED), fit(spatial(free=False), images, UNLABELLED)
    assert fitted is not None
    assert unfitted is not None
    assert (latents.prior("module", fitted), latents.prior("module", unfitted)) == ("mixture", "normal")
    assert facts(plain).has_density(has_statistics=True)
    drawn = latents.draw("module", 5, fitted, 0, 0, 2_000, 1.0)
    assert drawn is not None
    assert np.allclose(drawn.mean(0), fitted.mean, atol=0.2 * np.sqrt(fitted.total_variance))
    assert LatentStatistics.from_bytes(unfitted.to_bytes()).mixture_weights.size == 0


@pytest.mark.parametrize("free", [False, True])
def test_held_out_latents_of_one_size_become_reference_points_by_class(free: bool) -> None:
    images, model = users.images(LEAST_IMAGES), spatial(free=free)
    classes = ["cat" if index < LEAST_IMAGES // 4 else "dog" for index in range(LEAST_IMAGES)]
    statistics = fit(model, images, classes)
    assert statistics is not None
    if free:
        assert statistics.reference_points is None
        return
    held_out = model.encode(as_pixels(images[1::2]))[0].movedim(1, -1).reshape(LEAST_IMAGES // 2, -1).numpy()
    assert statistics.reference_points is not None
    assert statistics.reference_labels is not None
    assert statistics.reference_label_names is not None
    np.testing.assert_allclose(statistics.reference_points.astype(np.float32), held_out, rtol=1e-3, atol=1e-3)
    assert [statistics.reference_label_names[label] for label in statistics.reference_labels] == classes[1::2]
