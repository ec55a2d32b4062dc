"""Small networks of every family, with weights from the project's random numbers, the same on every machine."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bundle.noise import Purpose, normals

ImageShape = tuple[int, int, int]


class Network(nn.Module):
    """Base of all networks."""

    family = ""
    variational = False
    latent_size = 0

    def __init__(self, image_shape: ImageShape) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.pixels = int(np.prod(image_shape))

    def unflattened(self, features: Tensor) -> Tensor:
        height, width, channels = self.image_shape
        return features.unflatten(1, (channels, height, width))


class Autoencoder(Network):
    """Dense, with a ReLU code of which unit 0 never fires."""

    family = "ae"

    def __init__(self, image_shape: ImageShape, latent_size: int = 4) -> None:
        super().__init__(image_shape)
        self.latent_size = latent_size
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(self.pixels, latent_size), nn.ReLU())
        self.decoder = nn.Linear(latent_size, self.pixels)

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        return self.unflattened(self.decoder(latents))


class VariationalAutoencoder(Network):
    """Dense, one hidden layer."""

    family = "vae"
    variational = True

    def __init__(self, image_shape: ImageShape, latent_size: int = 3, hidden: int = 8) -> None:
        super().__init__(image_shape)
        self.latent_size = latent_size
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(self.pixels, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent_size)
        )
        self.decoder = nn.Sequential(nn.Linear(latent_size, hidden), nn.ReLU(), nn.Linear(hidden, self.pixels))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        means, log_variances = self.encoder(images).chunk(2, dim=1)
        return means, log_variances.clamp(-14, 14)

    def decode(self, latents: Tensor) -> Tensor:
        return self.unflattened(self.decoder(latents))


class Multitask(VariationalAutoencoder):
    """With a classifier on the latent mean."""

    family = "multitask"

    def __init__(self, image_shape: ImageShape, labels: Sequence[str] = ("left", "middle", "right")) -> None:
        super().__init__(image_shape)
        self.labels = tuple(labels)
        self.classifier = nn.Linear(self.latent_size, len(self.labels))

    def classify(self, latents: Tensor) -> Tensor:
        return self.classifier(latents)


class Denoiser(Network):
    """Two convolutions, with batch norm and a stride of two between them."""

    family = "denoiser"

    def __init__(self, image_shape: ImageShape, width: int = 4) -> None:
        super().__init__(image_shape)
        channels = image_shape[2]
        self.network = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def denoise(self, images: Tensor) -> Tensor:
        return self.network(images)


class Detector(Network):
    """Squared distance to what two convolutions make of an image, smoothed."""

    family = "detector"
    detection_score = "max"

    def __init__(self, image_shape: ImageShape, width: int = 4) -> None:
        super().__init__(image_shape)
        channels = image_shape[2]
        first, last = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, channels, 3, padding=1)
        self.network = nn.Sequential(first, nn.ReLU(), last, nn.Sigmoid())
        self.register_buffer("smoothing", torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).view(1, 1, 3, 3) / 16)

    def detect(self, images: Tensor) -> Tensor:
        strange = (self.network(images) - images).square().mean(1, keepdim=True)
        padded = functional.pad(strange, (1, 1, 1, 1), mode="replicate")
        return functional.conv2d(padded, self.smoothing)


class Unordered(Denoiser):
    """Scales that cancel out, applied in the order of a set of strings, which differs between processes."""

    def denoise(self, images: Tensor) -> Tensor:
        logits = super().denoise(images)
        for exponent in {str(number) for number in range(-6, 7)}:
            logits = logits * 2.0 ** int(exponent)
        return logits


def weighted(network: Network, seed: int = 0) -> Network:
    """The network in eval mode with weights drawn, biases and statistics too."""
    with torch.no_grad():
        for index, (name, tensor) in enumerate(sorted(network.state_dict().items())):
            if not tensor.is_floating_point() or name == "smoothing":
                continue
            drawn = torch.from_numpy(normals(seed, Purpose.SAMPLE, index, 1, tensor.numel())).reshape(tensor.shape)
            if name.endswith("running_var"):
                drawn = drawn.abs() + 0.5
            elif tensor.ndim > 1:
                drawn = drawn / np.sqrt(tensor[0].numel())
            tensor.copy_(drawn)
    if isinstance(network, Autoencoder):
        # Unit 0 is dead: weights behind it show in no reconstruction.
        network.encoder[1].bias.data[0] = -1e3
    return network.eval()


def blobs(count: int, image_shape: ImageShape) -> np.ndarray:
    """(N, H, W, C) uint8: a bright spot somewhere, a different colour each."""
    height, width, channels = image_shape
    places = normals(1, Purpose.SAMPLE, 0, count, 2 + channels).astype(np.float64)
    rows, columns = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1) - 0.5
    distances = (rows - 0.2 * places[:, 0, None, None]) ** 2 + (columns - 0.2 * places[:, 1, None, None]) ** 2
    colours = np.clip(0.7 + 0.2 * places[:, None, None, 2:], 0, 1)
    return np.round(255 * np.exp(-distances / 0.05)[..., None] * colours).astype(np.uint8)
