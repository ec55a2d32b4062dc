"""Denoisers after published recipes, as their users write them: NCHW floats in 0 … 1 to the same."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


class UNet(nn.Module):
    """Ronneberger et al. 2015, two levels, nearest upsampling instead of the cropped up-convolution."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down1, self.down2 = _double(1, width), _double(width, 2 * width)
        self.bottom = _double(2 * width, 4 * width)
        self.up2, self.up1 = _double(6 * width, 2 * width), _double(3 * width, width)
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        first = self.down1(images)
        second = self.down2(functional.max_pool2d(first, 2))
        inner = functional.interpolate(self.bottom(functional.max_pool2d(second, 2)), scale_factor=2.0)
        inner = functional.interpolate(self.up2(torch.cat([second, inner], 1)), scale_factor=2.0)
        return self.last(self.up1(torch.cat([first, inner], 1)))


class DnCnn(nn.Module):
    """Zhang et al. 2017: the network predicts the noise; batch normalisation between."""

    def __init__(self, depth: int = 6, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        return images - self.body(images)


class FfdNet(nn.Module):
    """Zhang et al. 2018: at half the resolution, with the noise level as one more plane."""

    def __init__(self, depth: int = 5, width: int = 16) -> None:
        super().__init__()
        sizes = [5, *[width] * (depth - 1), 4]
        layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes)]
        self.body = nn.Sequential(*(each for layer in layers for each in (layer, nn.ReLU())))[:-1]

    def denoise(self, images: Tensor, noise_levels: Tensor) -> Tensor:
        small = functional.pixel_unshuffle(images, 2)
        plane = noise_levels.reshape(-1, 1, 1, 1).expand(-1, 1, small.shape[2], small.shape[3])
        return functional.pixel_shuffle(self.body(torch.cat([small, plane], 1)), 2)


class WeightNormed(nn.Module):
    """Weight normalisation (Salimans and Kingma 2016) on every convolution."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.body = nn.Sequential(
            weight_norm(nn.Conv2d(1, width, 3, padding=1)),
            nn.ELU(),
            weight_norm(nn.Conv2d(width, width, 3, padding=1)),
            nn.ELU(),
            weight_norm(nn.Conv2d(width, 1, 3, padding=1)),
        )

    def forward(self, images: Tensor) -> Tensor:
        return images + self.body(images)


class PixelShuffled(nn.Module):
    """Shi et al. 2016: a strided convolution down, sub-pixel convolution up."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, width, 4, stride=2, padding=1)
        self.up = nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.up(torch.relu(self.down(images))), 2)


class Bilinear(nn.Module):
    """Pooling down, bilinear upsampling and a convolution up."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        small = functional.avg_pool2d(torch.relu(self.first(images)), 2)
        return self.last(functional.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False))


class Dilated(nn.Module):
    """IRCNN (Zhang et al. 2017): dilations 1, 2, 3, 2, 1."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        dilations, sizes = (1, 2, 3, 2, 1), (1, width, width, width, width, 1)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=step, dilation=step)
            for a, b, step in zip(sizes, sizes[1:], dilations, strict=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        hidden = images
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        return images - self.layers[-1](hidden)


class Activations(nn.Module):
    """ConvNeXt-like: depthwise convolution, GELU and SiLU, normalisation over channels alone."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.silu(self.first(images))
        inner = self.norm(self.depthwise(hidden).permute(0, 2, 3, 1))
        inner = self.narrow(functional.gelu(self.wide(inner))).permute(0, 3, 1, 2)
        return images + self.last(hidden + inner)


class PaddingUNet(nn.Module):
    """A U-Net that pads to a multiple of 4 itself and crops again, as image restoration networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = UNet(4)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2], images.shape[3]
        padded = functional.pad(images, (0, (-width) % 4, 0, (-height) % 4), mode="replicate")
        return self.inner(padded)[:, :, :height, :width]


class Float32Constant(nn.Module):
    """A constant that does not follow .double(): its float64 is a float32."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 1, 3, padding=1)
        self.scale = 1 / 3

    def forward(self, images: Tensor) -> Tensor:
        kernel = torch.full((1, 1, 3, 3), self.scale, dtype=torch.float32)
        blurred = functional.conv2d(images.float(), kernel, padding=1).to(images.dtype)
        return self.body(images) + blurred


def _double(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.Conv2d(outside, outside, 3, padding=1), nn.ReLU()
    )
