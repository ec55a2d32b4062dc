"""Networks that detect anomalies: maps of how strange each pixel is."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.config import Architecture
from training.errors import ConfigError
from training.losses import objectives
from training.losses.objectives import Inputs, Outcome
from training.models import photographs
from training.models.autoencoders import Autoencoder
from training.models.families import ImageShape, Network

# Grey becomes zero, as the padding of convolutions is.
_SHIFT = -0.5
# It works on 2x2 pixels at once, as a photo denoiser does.
_FOLDED = 2
# A Gaussian is cut off where it has fallen to a hundredth.
_REACH = 3.0


class GaussianSmoothing(nn.Module):
    """(N, 1, H, W) to the same, by a fixed Gaussian of so many pixels' standard deviation; 0 changes nothing."""

    kernel: Tensor

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.reach = math.ceil(_REACH * sigma)
        offsets = torch.arange(-self.reach, self.reach + 1)
        weights = torch.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
        weights = weights / weights.sum()
        self.register_buffer("kernel", torch.outer(weights, weights)[None, None])

    def forward(self, maps: Tensor) -> Tensor:
        """The maps, smoothed; beyond an edge goes on what is at it."""
        if not self.reach:
            return maps
        return functional.conv2d(functional.pad(maps, (self.reach,) * 4, mode="replicate"), self.kernel)


class Segmentation(nn.Module):
    """Images to one logit a pixel: a U-Net (Ronneberger et al. 2015) that begins with a fold of 2x2 pixels.

    Normalised over batches, which once it is trained is a constant of each channel: tiles are computed as the whole is.
    """

    def __init__(self, depth: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.first = _block(depth * _FOLDED**2, channels[0])
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 4, stride=2, padding=1), *_block(after, after))
            for before, after in pairwise(channels)
        )
        upwards = list(pairwise(reversed(channels)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1) for before, after in upwards)
        merges = [_block(2 * after, after) for _, after in upwards]
        # Not rectified: where all features of a defect were zero, the bias alone would say how likely it is.
        [self.first, *merges][-1][-1] = nn.Identity()
        self.merge = nn.ModuleList(merges)
        self.last = nn.Conv2d(channels[0], _FOLDED**2, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1, H, W); H and W are multiples of 2 to the number of widths."""
        features = self.first(functional.pixel_unshuffle(images + _SHIFT, _FOLDED))
        skipped: list[Tensor] = []
        for down in self.down:
            skipped.append(features)
            features = down(features)
        for up, merge in zip(self.up, self.merge, strict=True):
            features = merge(torch.cat([up(features), skipped.pop()], 1))
        return functional.pixel_shuffle(self.last(features), _FOLDED)


class Detector(Network):
    """Where an image departs from normal ones: a segmentation that learnt on defects planted into these."""

    family = "detector"
    model_settings = frozenset({"score", "smoothing"})

    def __init__(self, architecture: Architecture, image_shape: ImageShape, labels: Sequence[str] = ()) -> None:
        super().__init__(architecture, image_shape, labels)
        if architecture.body != "residual":
            raise ConfigError(f"a detector expects model.body residual, got {architecture.body}")
        self.multiple = photographs.downsampling(architecture.channels)
        photographs.check_size(image_shape, self.multiple)
        self.segmentation = Segmentation(image_shape[2], architecture.channels)
        self.smoothing = GaussianSmoothing(architecture.smoothing)
        self.detection_score = architecture.score or "max"

    def detect(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to how likely each pixel is part of a defect, (N, 1, H, W), smoothed."""
        return self.smoothing(self.segmentation(images).sigmoid())

    def objective(self, given: Inputs) -> Outcome:
        """Binary cross-entropy of the masks of planted defects."""
        return objectives.segmentation(self.segmentation, given)


class DetectingAutoencoder(Autoencoder):
    """An autoencoder that knows normal images alone and draws others badly (Japkowicz et al. 1995)."""

    def __init__(self, architecture: Architecture, image_shape: ImageShape, labels: Sequence[str] = ()) -> None:
        super().__init__(architecture, image_shape, labels)
        self.smoothing = GaussianSmoothing(architecture.smoothing)
        self.detection_score = architecture.score

    def detect(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to squares of smoothed differences from the reconstruction, (N, 1, H, W), means over channels.

        Edges that a reconstruction draws half a pixel beside cancel out before the square is taken.
        """
        count, channels, height, width = images.shape
        differences = images - self.images(self.decode(self.encode(images)))
        smooth = self.smoothing(differences.reshape(count * channels, 1, height, width))
        return smooth.square().reshape(count, channels, height, width).mean(1, keepdim=True)


def _block(before: int, after: int) -> nn.Sequential:
    """(N, before, h, w) to (N, after, h, w): two 3x3 convolutions."""
    return nn.Sequential(
        *(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()),
        *(nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()),
    )
