"""Residual networks for photographs: convolutions without normalisation, so that a part of an image is computed alike.

A norm over positions would make every pixel depend on the whole image, and an image could not be cut into tiles.
"""

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.config import Architecture
from training.errors import ConfigError

ImageShape: TypeAlias = tuple[int, int, int]

# A denoiser works on 2x2 pixels at once (Zhang et al. 2018, FFDNet).
DENOISER_MULTIPLE = 2


class ResidualBlock(nn.Module):
    """(N, C, H, W) to the same: two 3x3 convolutions beside a shortcut (He et al. 2015)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return features + self.second(self.first(features.relu()).relu())


class ResidualEncoder(nn.Module):
    """(N, C, H, W) to features (N, channels[-1], h, w): each width with a strided convolution and blocks."""

    def __init__(self, depth: int, channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip([depth, *channels], channels, strict=False):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), *(ResidualBlock(after) for _ in range(blocks))]
        self.layers = nn.Sequential(*layers, nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W), multiples of `downsampling`, to (N, channels[-1], h, w)."""
        return self.layers(images)


class ResidualDecoder(nn.Module):
    """Features (N, channels[-1], h, w) to (N, C, H, W): the encoder mirrored."""

    def __init__(self, depth: int, channels: Sequence[int], blocks: int, upsampling: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        mirrored = [*reversed(channels), depth]
        for before, after in zip(mirrored, mirrored[1:], strict=False):
            layers += [
                *(ResidualBlock(before) for _ in range(blocks)),
                nn.ReLU(),
                *_doubling(before, after, upsampling),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels[-1], h, w) to logits (N, C, H, W)."""
        return self.layers(features)


class ResidualDenoiser(nn.Module):
    """Noisy pixels to clean ones: the noise is found at half resolution and taken away (after Zhang et al. 2017, 2018).

    Noise levels (N,), where they are given, are one more plane of constants.
    """

    def __init__(self, depth: int, width: int, blocks: int, *, noise_levels: bool) -> None:
        super().__init__()
        folded = depth * DENOISER_MULTIPLE**2
        body = [layer for _ in range(blocks) for layer in (nn.Conv2d(width, width, 3, padding=1), nn.ReLU())]
        first = nn.Conv2d(folded + noise_levels, width, 3, padding=1)
        self.layers = nn.Sequential(first, nn.ReLU(), *body, nn.Conv2d(width, folded, 3, padding=1))

    def forward(self, pixels: Tensor, noise_levels: Tensor | None = None) -> Tensor:
        """(N, C, H, W), H and W even, and (N,) to (N, C, H, W); values of neither are bounded."""
        seen = functional.pixel_unshuffle(pixels, DENOISER_MULTIPLE)
        if noise_levels is not None:
            plane = noise_levels.view(-1, 1, 1, 1).expand(-1, 1, seen.shape[2], seen.shape[3])
            seen = torch.cat([seen, plane], 1)
        return pixels - functional.pixel_shuffle(self.layers(seen), DENOISER_MULTIPLE)


def encoder(architecture: Architecture, image_shape: ImageShape, heads: int) -> nn.Module:
    """An encoder with `heads` outputs per latent value: of a spatial code, or of one vector.

    Raises:
        ConfigError: neither or both of them have a size, or the images have one that cannot be halved so often.
    """
    spatial, vector = architecture.latent_channels, architecture.latent_size
    if bool(spatial) == bool(vector):
        got = f"latent_channels {spatial} and latent_size {vector}"
        raise ConfigError(f"expected model.latent_channels (a spatial code) or model.latent_size (a vector), got {got}")
    check_size(image_shape, downsampling(architecture.channels))
    body = ResidualEncoder(image_shape[2], architecture.channels, architecture.blocks)
    if spatial:
        return nn.Sequential(body, nn.Conv2d(architecture.channels[-1], spatial * heads, 1))
    features = prod(_features(architecture, image_shape))
    return nn.Sequential(body, nn.Flatten(), nn.Linear(features, vector * heads))


def decoder(architecture: Architecture, image_shape: ImageShape) -> nn.Module:
    """The decoder that mirrors the encoder."""
    channels = architecture.channels
    body = ResidualDecoder(image_shape[2], channels, architecture.blocks, architecture.upsampling)
    if architecture.latent_channels:
        return nn.Sequential(nn.Conv2d(architecture.latent_channels, channels[-1], 1), body)
    features = _features(architecture, image_shape)
    return nn.Sequential(nn.Linear(architecture.latent_size, prod(features)), nn.Unflatten(1, features), body)


def _features(architecture: Architecture, image_shape: ImageShape) -> tuple[int, int, int]:
    """(C, h, w) of what the encoder's body makes of an image."""
    height, width, _ = image_shape
    factor = downsampling(architecture.channels)
    return architecture.channels[-1], height // factor, width // factor


def downsampling(channels: Sequence[int]) -> int:
    """How many pixels, along each side, a position of the code stands for.

    Raises:
        ConfigError: there are no widths.
    """
    if not channels:
        raise ConfigError("a residual model needs model.channels, as in [32, 64, 96]")
    return 2 ** len(channels)


def check_size(image_shape: ImageShape, multiple: int) -> None:
    """Refuse images of a fixed size that the network cannot halve; free sizes (0) are padded by the server.

    Raises:
        ConfigError: height or width is no multiple.
    """
    height, width, _ = image_shape
    if height % multiple or width % multiple:
        advice = "set data.size or data.crop to one, or give model.channels fewer widths"
        raise ConfigError(f"expected images of a multiple of {multiple} pixels, got {height}x{width}: {advice}")


def _doubling(before: int, after: int, upsampling: str) -> list[nn.Module]:
    """Layers that double height and width."""
    if upsampling == "transposed":
        return [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
    return [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]
