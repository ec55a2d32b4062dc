"""The stacks of layers that the networks are made of."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from training.errors import ConfigError


class Gated(nn.Module):
    """(N, A) to (N, B): a linear map times a sigmoid gate (Dauphin et al. 2017)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.value = nn.Linear(inputs, outputs)
        self.gate = nn.Linear(inputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(N, A) to (N, B)."""
        return self.value(features) * self.gate(features).sigmoid()


def dense_stack(widths: Sequence[int], activation: str) -> list[nn.Module]:
    """Dense layers through the widths, each followed by its activation."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        if activation == "gated":
            layers.append(Gated(inputs, outputs))
        else:
            layers += [nn.Linear(inputs, outputs), nn.Tanh() if activation == "tanh" else nn.ReLU()]
    return layers


class DenseEncoder(nn.Module):
    """(N, C, H, W) to (N, outputs) through dense layers."""

    def __init__(self, image_shape: tuple[int, int, int], hidden: Sequence[int], outputs: int, activation: str) -> None:
        super().__init__()
        widths = [prod(image_shape), *hidden]
        self.layers = nn.Sequential(nn.Flatten(), *dense_stack(widths, activation), nn.Linear(widths[-1], outputs))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs)."""
        return self.layers(images)


class DenseDecoder(nn.Module):
    """(N, D) to (N, C, H, W) through dense layers, widths in reverse."""

    def __init__(self, image_shape: tuple[int, int, int], hidden: Sequence[int], inputs: int, activation: str) -> None:
        super().__init__()
        height, width, channels = image_shape
        widths = [inputs, *reversed(hidden)]
        last = nn.Linear(widths[-1], prod(image_shape))
        self.layers = nn.Sequential(*dense_stack(widths, activation), last, nn.Unflatten(1, (channels, height, width)))

    def forward(self, latents: Tensor) -> Tensor:
        """(N, D) to (N, C, H, W)."""
        return self.layers(latents)


class ConvEncoder(nn.Module):
    """(N, C, H, W) to (N, outputs): 3x3 convolutions, each halved by max pooling; outputs 0 keeps all features.

    Images that cannot be halved that often are zero-padded first.
    """

    def __init__(self, image_shape: tuple[int, int, int], channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        features = prod(_code_shape(image_shape, channels))
        self.output_size = outputs or features
        layers = _pad_to_multiple(image_shape, channels)
        for before, after in zip([image_shape[2], *channels], channels, strict=False):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        head = [nn.Linear(features, outputs)] if outputs else []
        self.layers = nn.Sequential(*layers, nn.Flatten(), *head)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs)."""
        return self.layers(images)


class ConvDecoder(nn.Module):
    """(N, D) to (N, C, H, W): each stage doubles height and width, a last 3x3 convolution makes the pixels.

    The padding of the encoder is generated too and cropped.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], channels: Sequence[int], inputs: int, upsampling: str
    ) -> None:
        super().__init__()
        code = _code_shape(image_shape, channels)
        layers: list[nn.Module] = [nn.Linear(inputs, prod(code)), nn.ReLU()] if inputs else []
        layers.append(nn.Unflatten(1, code))
        mirrored = list(reversed(channels))
        for before, after in zip([mirrored[0], *mirrored], mirrored, strict=False):
            layers += _upsample_block(before, after, upsampling)
        layers.append(nn.Conv2d(mirrored[-1], image_shape[2], 3, padding=1))
        self.layers = nn.Sequential(*layers, *_crop(image_shape, channels))

    def forward(self, latents: Tensor) -> Tensor:
        """(N, D) to (N, C, H, W)."""
        return self.layers(latents)


class Discriminator(nn.Module):
    """(N, C, H, W) to features (N, F) and logits (N,) of being real: strided 3x3 convolutions, then one dense layer.

    No batch norm: real and made-up images share a batch, whose statistics would give them away.
    """

    def __init__(self, image_shape: tuple[int, int, int], channels: Sequence[int]) -> None:
        super().__init__()
        height, width, depth = image_shape
        layers: list[nn.Module] = []
        for before, after in zip([depth, *channels], channels, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            height, width, depth = -(-height // 2), -(-width // 2), after
        self.features = nn.Sequential(*layers)
        self.verdict = nn.Sequential(nn.Flatten(), nn.Linear(height * width * depth, 1), nn.Flatten(0))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to (N, F) and (N,)."""
        features = self.features(images)
        return features.flatten(1), self.verdict(features)


class DenoisingNetwork(nn.Module):
    """(N, C, H, W) to (N, C, H, W): halved and doubled, features added across (after Ronneberger et al. 2015)."""

    def __init__(self, image_shape: tuple[int, int, int], channels: Sequence[int], upsampling: str) -> None:
        super().__init__()
        self.pad = nn.Sequential(*_pad_to_multiple(image_shape, channels))
        self.crop = nn.Sequential(*_crop(image_shape, channels))
        widths = [image_shape[2], *channels]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, channels, strict=False))
        mirrored = [channels[-1], *reversed(channels)]
        pairs = pairwise(mirrored)
        self.up = nn.ModuleList(nn.Sequential(*_upsample_block(a, b, upsampling)) for a, b in pairs)
        self.pool = nn.MaxPool2d(2)
        self.pixels = nn.Conv2d(channels[0], image_shape[2], 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, C, H, W)."""
        features, skipped = self.pad(images), []
        for layer in self.down:
            skipped.append(layer(features).relu())
            features = self.pool(skipped[-1])
        for layer in self.up:
            features = layer(features) + skipped.pop()
        return self.crop(self.pixels(features))


def _upsample_block(before: int, after: int, upsampling: str) -> list[nn.Module]:
    """Layers that double height and width: convolution then nearest neighbour, or one transposed convolution."""
    if upsampling == "transposed":
        return [nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1), nn.ReLU()]
    return [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2)]


class Crop(nn.Module):
    """(N, C, H', W') to its upper left (N, C, H, W)."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H', W') to (N, C, H, W)."""
        return images[:, :, : self.height, : self.width]


def _pad_to_multiple(image_shape: tuple[int, int, int], channels: Sequence[int]) -> list[nn.Module]:
    """Zero padding on the right and below to a multiple of every halving; nothing for images that need none."""
    (height, width, _), code = image_shape, _code_shape(image_shape, channels)
    factor = 2 ** len(channels)
    right, below = code[2] * factor - width, code[1] * factor - height
    return [nn.ZeroPad2d((0, right, 0, below))] if right or below else []


def _crop(image_shape: tuple[int, int, int], channels: Sequence[int]) -> list[nn.Module]:
    """The layer that removes the padding again; nothing where there is none."""
    return [Crop(*image_shape[:2])] if _pad_to_multiple(image_shape, channels) else []


def _code_shape(image_shape: tuple[int, int, int], channels: Sequence[int]) -> tuple[int, int, int]:
    """(C, H, W) of the features after every halving, sizes rounded up; ConfigError without channels."""
    if not channels:
        raise ConfigError("a convolutional model needs model.channels, as in [32, 32]")
    height, width, _ = image_shape
    factor = 2 ** len(channels)
    return channels[-1], -(-height // factor), -(-width // factor)
