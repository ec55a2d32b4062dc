"""Planted defects: self-supervised training of a segmentation on images that are all normal.

After CutPaste (Li et al. 2021), DRAEM (Zavrtanik et al. 2021) and natural synthetic anomalies (Schlüter et al. 2022).
A defect replaces what an image has inside a random shape by a part of the image itself (turned over, perhaps enlarged),
by noise, by its blurred or re-toned self, or by a stroke.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.random_streams import Draws

_KINDS = 5
_LEFT_CLEAN = 0.2
# Pixels between the values of noise that is smooth in between.
_SHAPE_CELLS, _NOISE_CELLS = (4, 8, 16), (1, 2, 4, 8)
_RADII = (5.0, 22.0)
_INSIDE = 0.3
# Mean change of pixel values, 0 to 1, within a window of so many pixels.
_VISIBLE, _WINDOW = 0.02, 7
_EDGE = 2.0


@dataclass(frozen=True)
class Planted:
    """Images (N, C, H, W) with defects in them, and where these are, (N, 1, H, W): 0 or 1."""

    images: Tensor
    masks: Tensor


def plant(images: Tensor, draws: Draws) -> Planted:
    """Images (N, C, H, W) in 0 to 1 with a defect each, one image in five as it is."""
    numbers = draws.uniform((6,))
    kind, clean = (numbers[:, 0] * _KINDS).long(), numbers[:, 1] < _LEFT_CLEAN
    weights = torch.where(_where(kind == _KINDS - 1), _stroke(images, draws), _blob(images, draws))
    weights = weights.masked_fill(_where(clean), 0)
    contents = torch.stack(_contents(images, weights, numbers[:, 2:], draws))
    chosen = contents[kind, torch.arange(len(images), device=images.device)]
    seen = torch.lerp(images, chosen, weights).clamp(0, 1)
    # A blurred flat place is no defect that anything could find.
    visible = _window_mean((seen - images).abs().mean(1, keepdim=True), _WINDOW) > _VISIBLE
    return Planted(seen, ((weights > _INSIDE) & visible).float())


def _contents(images: Tensor, weights: Tensor, numbers: Tensor, draws: Draws) -> list[Tensor]:
    """What each kind of defect would put in place of the images (N, C, H, W); numbers (N, 4) in 0 to 1."""
    a, b, c, d = (_where(each) for each in numbers.unbind(1))
    sign = torch.where(c < 0.5, -1.0, 1.0)  # noqa: PLR2004 (one of two)
    return [
        _moved(images, numbers, draws),
        _noise(images, weights, a, draws),
        _blurred(images, a),
        torch.where(d < 0.7, images * (0.6 + 0.8 * a) + sign * (0.05 + 0.2 * b), _faded(images, a)),  # noqa: PLR2004 (7 of 10)
        images + sign * (0.08 + 0.27 * b),
    ]


def _moved(images: Tensor, numbers: Tensor, draws: Draws) -> Tensor:
    """A part of the image from elsewhere, mirrored or turned over; one in two enlarged."""
    height, width = images.shape[2:]
    shift = draws.uniform((2,)) * 2 - 1
    zoom = torch.where(numbers[:, 0] < 0.5, 1.0, 0.3 + 0.3 * numbers[:, 1])  # noqa: PLR2004 (one of two)
    turned = torch.where(numbers[:, 2] < 0.5, -zoom, zoom)  # noqa: PLR2004 (likewise)
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    # A transposition where `numbers[:, 3]` says so: it turns bricks and other lattices by a right angle.
    upright = numbers[:, 3] < 0.5  # noqa: PLR2004 (likewise)
    theta[:, 0, 0], theta[:, 1, 1] = torch.where(upright, turned, 0), torch.where(upright, zoom, 0)
    theta[:, 0, 1], theta[:, 1, 0] = torch.where(upright, 0, turned), torch.where(upright, 0, zoom)
    theta[:, :, 2] = shift
    grid = functional.affine_grid(theta, [len(images), 1, height, width], align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _noise(images: Tensor, weights: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Grey noise, coarse or fine, around the mean of the place."""
    shares = weights / weights.sum((2, 3), keepdim=True).clamp(min=1e-6)
    mean = (shares * images).sum((2, 3), keepdim=True)
    spread = images.std((2, 3), keepdim=True) if images[0, 0].numel() > 1 else 0
    return mean + _smooth(images, _NOISE_CELLS, draws) * spread * (0.3 + 0.9 * strength)


def _blurred(images: Tensor, strength: Tensor) -> Tensor:
    """Means over windows, from 3x3 applied once to 7x7 applied twice."""
    weak = _window_mean(images, 3)
    strong = _window_mean(_window_mean(images, 7), 7)
    return torch.lerp(weak, strong, strength)


def _faded(images: Tensor, strength: Tensor) -> Tensor:
    """Less contrast around the image's mean, or inverted."""
    mean = images.mean((2, 3), keepdim=True)
    return mean + (images - mean) * (1.5 * strength - 1)


def _blob(images: Tensor, draws: Draws) -> Tensor:
    """Weights (N, 1, H, W) in 0 to 1: the higher parts of smooth noise inside a disc."""
    noise, level = _smooth(images, _SHAPE_CELLS, draws), _where(draws.uniform(()))
    return ((noise - 1.6 * level + 1) * 3).clamp(0, 1) * _disc(images, *_RADII, draws)


def _stroke(images: Tensor, draws: Draws) -> Tensor:
    """Weights (N, 1, H, W) in 0 to 1: the zero line of smooth noise inside a disc."""
    noise, width = _smooth(images, _SHAPE_CELLS[1:], draws), _where(draws.uniform(()))
    return ((0.08 + 0.16 * width - noise.abs()) / 0.08 + 0.5).clamp(0, 1) * _disc(images, 8, 26, draws)


def _disc(images: Tensor, smallest: float, largest: float, draws: Draws) -> Tensor:
    """Weights (N, 1, H, W) of a disc anywhere in the image, soft by two pixels; no wider than half of it."""
    height, width = images.shape[2:]
    numbers = draws.uniform((3,))
    most = min(1.0, min(height, width) / 2 / largest)
    radius = _where(smallest + (largest - smallest) * numbers[:, 0]) * most
    down = torch.arange(height, device=images.device).view(1, 1, -1, 1) - _where(numbers[:, 1]) * height
    across = torch.arange(width, device=images.device).view(1, 1, 1, -1) - _where(numbers[:, 2]) * width
    return ((radius - torch.hypot(down, across)) / _EDGE).clamp(0, 1)


def _smooth(images: Tensor, cells: tuple[int, ...], draws: Draws) -> Tensor:
    """Noise (N, 1, H, W) of about unit spread, interpolated between values that are 1 to 16 pixels apart."""
    height, width = images.shape[2:]
    fields = [
        functional.interpolate(
            draws.normal((1, -(-height // cell) + 1, -(-width // cell) + 1)), size=(height, width), mode="bilinear"
        )
        for cell in cells
    ]
    chosen = (draws.uniform(()) * len(cells)).long()
    noise = torch.stack(fields)[chosen, torch.arange(len(images), device=images.device)]
    return noise / noise.square().mean((2, 3), keepdim=True).sqrt().clamp(min=1e-6)


def _window_mean(images: Tensor, side: int) -> Tensor:
    padded = functional.pad(images, (side // 2,) * 4, mode="replicate")
    return functional.avg_pool2d(padded, side, stride=1)


def _where(values: Tensor) -> Tensor:
    """(N,) to (N, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)
