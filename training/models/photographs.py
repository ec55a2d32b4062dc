"""Residual networks for photographs: convolutions without normalisation, so that a part of an image is computed alike.

A norm over positions would make every pixel depend on the whole image, and an image could not be cut into tiles.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.config import Architecture
from training.errors import ConfigError
from training.models.families import ImageShape, Network

_GREY = 0.5

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


class Parallel(nn.Module):
    """A linear map and a deep network beside it, added up.

    The linear one soon does what principal components do; the deep one starts from zero and does what they cannot.
    """

    def __init__(self, linear: nn.Module, deep: nn.Sequential) -> None:
        super().__init__()
        self.linear, self.deep = linear, deep

    def start(self) -> None:
        """Set the weights of the deep network's last layer to zero."""
        nn.init.zeros_(cast("Tensor", self.deep[-1].weight))

    def forward(self, values: Tensor) -> Tensor:
        """The sum of both answers."""
        return self.linear(values) + self.deep(values)


class Encoder(nn.Module):
    """(N, C, H, W) in 0 to 1 to codes: grey is zero, as the padding of convolutions is."""

    def __init__(self, layers: Parallel) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs, h, w) or (N, outputs)."""
        return self.layers(images - _GREY)


class Decoder(nn.Module):
    """Codes to pixels (N, C, H, W), not bounded."""

    def __init__(self, layers: Parallel) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, latents: Tensor) -> Tensor:
        """(N, c, h, w) or (N, D) to (N, C, H, W)."""
        return self.layers(latents) + _GREY


class ResidualDenoiser(nn.Module):
    """Noisy pixels to clean ones: the noise is found at half resolution and taken away (after Zhang et al. 2017, 2018).

    Noise levels (N,), where they are given, are one more plane of constants.
    """

    def __init__(self, depth: int, width: int, blocks: int, *, shortcuts: bool, noise_levels: bool) -> None:
        super().__init__()
        folded = depth * DENOISER_MULTIPLE**2
        first = nn.Conv2d(folded + noise_levels, width, 3, padding=1)
        if shortcuts:
            body = [*(ResidualBlock(width) for _ in range(blocks)), nn.ReLU()]
        else:
            plain = [layer for _ in range(blocks) for layer in (nn.Conv2d(width, width, 3, padding=1), nn.ReLU())]
            body = [nn.ReLU(), *plain]
        self.layers = nn.Sequential(first, *body, nn.Conv2d(width, folded, 3, padding=1))

    def start(self) -> None:
        """With shortcuts, set the last weights of each and of the network to zero (Zhang et al. 2019, Fixup)."""
        blocks = [layer for layer in self.layers if isinstance(layer, ResidualBlock)]
        for layer in [*(block.second for block in blocks), self.layers[-1]] if blocks else []:
            nn.init.zeros_(cast("Tensor", layer.weight))

    def forward(self, pixels: Tensor, noise_levels: Tensor | None = None) -> Tensor:
        """(N, C, H, W), H and W even, and (N,) to (N, C, H, W); values of neither are bounded."""
        seen = functional.pixel_unshuffle(pixels, DENOISER_MULTIPLE)
        if noise_levels is not None:
            plane = noise_levels.view(-1, 1, 1, 1).expand(-1, 1, seen.shape[2], seen.shape[3])
            seen = torch.cat([seen, plane], 1)
        return pixels - functional.pixel_shuffle(self.layers(seen), DENOISER_MULTIPLE)


def encoder(architecture: Architecture, image_shape: ImageShape, heads: int) -> Encoder:
    """An encoder with `heads` outputs per latent value: of a spatial code, or of one vector.

    Raises:
        ConfigError: neither or both of them have a size, or the images have one that cannot be halved so often.
    """
    spatial, vector = architecture.latent_channels, architecture.latent_size
    if bool(spatial) == bool(vector):
        got = f"latent_channels {spatial} and latent_size {vector}"
        raise ConfigError(f"expected model.latent_channels (a spatial code) or model.latent_size (a vector), got {got}")
    factor = downsampling(architecture.channels)
    check_size(image_shape, factor)
    body = _halvings(image_shape[2], architecture)
    if spatial:
        # Windows reach beyond the image by half a step; zeros there would be an edge in every bright sky.
        windows = nn.Conv2d(image_shape[2], spatial * heads, 2 * factor, stride=factor)
        overlapping = nn.Sequential(nn.ReplicationPad2d(factor // 2), windows)
        return Encoder(Parallel(overlapping, body.append(nn.Conv2d(architecture.channels[-1], spatial * heads, 1))))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(prod(image_shape), vector * heads))
    head = nn.Linear(prod(_features(architecture, image_shape)), vector * heads)
    return Encoder(Parallel(linear, body.append(nn.Flatten()).append(head)))


def decoder(architecture: Architecture, image_shape: ImageShape) -> Decoder:
    """The decoder that mirrors the encoder."""
    height, width, depth = image_shape
    channels, vector = architecture.channels, architecture.latent_size
    factor = downsampling(channels)
    if architecture.latent_channels:
        spatial = architecture.latent_channels
        # A position more on each side, so that border pixels too are a sum of overlapping windows.
        windows = nn.ConvTranspose2d(spatial, depth, 2 * factor, stride=factor, padding=factor // 2 + factor)
        overlapping = nn.Sequential(nn.ReplicationPad2d(1), windows)
        first = [nn.Conv2d(spatial, channels[-1], 1)]
        return Decoder(Parallel(overlapping, nn.Sequential(*first, *_doublings(depth, architecture))))
    features = _features(architecture, image_shape)
    linear = nn.Sequential(nn.Linear(vector, prod(image_shape)), nn.Unflatten(1, (depth, height, width)))
    first = [nn.Linear(vector, prod(features)), nn.Unflatten(1, features)]
    return Decoder(Parallel(linear, nn.Sequential(*first, *_doublings(depth, architecture))))


def denoiser(architecture: Architecture, image_shape: ImageShape) -> ResidualDenoiser:
    """A denoiser of as many layers, or blocks of two with a shortcut, as `blocks`, all of the first width.

    Raises:
        ConfigError: there is no width, or an image of odd height or width.
    """
    downsampling(architecture.channels)
    check_size(image_shape, DENOISER_MULTIPLE)
    width, blocks = architecture.channels[0], architecture.blocks
    return ResidualDenoiser(
        image_shape[2],
        width,
        blocks,
        shortcuts=architecture.shortcuts,
        noise_levels=architecture.noise_level_input,
    )


def describe(network: Network, architecture: Architecture) -> None:
    """Set what a network of such an architecture says of its code, its answers and the sizes that it takes."""
    network.latent_shape = (network.latent_size,) if network.latent_size else ()
    if architecture.body != "residual":
        return
    network.output, network.float_images = architecture.outputs, True
    if architecture.latent_channels:
        factor = downsampling(architecture.channels)
        height, width, _ = network.image_shape
        network.latent_shape = height // factor, width // factor, architecture.latent_channels
        network.multiple = network.downsampling = factor
    elif not network.latent_size:
        network.multiple = DENOISER_MULTIPLE


def _halvings(depth: int, architecture: Architecture) -> nn.Sequential:
    """(N, C, H, W) to features (N, channels[-1], h, w): each width with a strided convolution and blocks."""
    channels = architecture.channels
    layers: list[nn.Module] = []
    for before, after in zip([depth, *channels], channels, strict=False):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1)]
        layers += [ResidualBlock(after) for _ in range(architecture.blocks)]
    return nn.Sequential(*layers, nn.ReLU())


def _doublings(depth: int, architecture: Architecture) -> list[nn.Module]:
    """Features (N, channels[-1], h, w) to (N, C, H, W): the halvings mirrored."""
    mirrored = [*reversed(architecture.channels), depth]
    layers: list[nn.Module] = []
    for before, after in pairwise(mirrored):
        layers += [ResidualBlock(before) for _ in range(architecture.blocks)]
        layers += [nn.ReLU(), *_doubling(before, after, architecture.upsampling)]
    return layers


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
