import pytest
import torch

from training.losses.planted import plant
from training.random_streams import Draws, Purpose, generator


def draws(count: int, step: int = 0) -> Draws:
    return Draws.whole_batch(generator(0, Purpose.STEP, step), count, torch.device("cpu"))


def textured(count: int, channels: int = 1, side: int = 32) -> torch.Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def test_pixels_change_only_near_the_masks_and_visibly_within() -> None:
    images = textured(40)
    planted = plant(images, draws(40))
    assert set(planted.masks.unique().tolist()) == {0.0, 1.0}
    changed = (planted.images - images).abs()
    near = torch.nn.functional.max_pool2d(planted.masks, 9, stride=1, padding=4)
    assert changed[planted.masks == 1].mean() > 0.1
    assert changed[near == 0].mean() < 0.01


def test_some_images_stay_as_they_are() -> None:
    images = textured(200, side=16)
    same = (plant(images, draws(200)).images == images).flatten(1).all(1)
    assert 0.1 < same.float().mean() < 0.5


def test_an_image_gets_the_same_defect_in_any_share_of_its_batch() -> None:
    images = textured(6, channels=3)
    whole = plant(images, draws(6))
    part = plant(images[2:5], draws(6).part(slice(2, 5)))
    torch.testing.assert_close(part.images, whole.images[2:5])
    torch.testing.assert_close(part.masks, whole.masks[2:5])


@pytest.mark.parametrize("size", [(8, 8), (2, 30), (17, 9)])
def test_images_of_any_size_can_be_spoilt(size: tuple[int, int]) -> None:
    planted = plant(torch.rand(5, 3, *size), draws(5))
    assert planted.images.shape == (5, 3, *size)
    assert planted.masks.shape == (5, 1, *size)
    assert planted.images.isfinite().all()
    assert float(planted.images.min()) >= 0
    assert float(planted.images.max()) <= 1
