"""The networks. Images are float32 (N, C, H, W) in 0 to 1, latents (N, D); decoders answer logits of pixels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.config import Architecture
from training.errors import ConfigError
from training.models.layers import (
    ConvDecoder,
    ConvEncoder,
    DenoisingNetwork,
    DenseDecoder,
    DenseEncoder,
    Discriminator,
    dense_stack,
)

ImageShape = tuple[int, int, int]

# Beyond these bounds a posterior is a point or the prior many times over; the exponential must stay finite.
LOG_VARIANCE_BOUNDS = (-14.0, 14.0)


class Autoencoder(nn.Module):
    """Images to a code and back (Hinton & Salakhutdinov 2006)."""

    family = "ae"

    def __init__(self, architecture: Architecture, image_shape: ImageShape) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.encoder, self.latent_size = make_encoder(architecture, image_shape, heads=1)
        self.decoder = make_decoder(architecture, image_shape)

    def encode(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to latents (N, D)."""
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        """(N, D) to logits (N, C, H, W)."""
        return self.decoder(latents)


class VariationalAutoencoder(nn.Module):
    """A diagonal Gaussian posterior in front of a decoder (Kingma & Welling 2013)."""

    family = "vae"

    def __init__(self, architecture: Architecture, image_shape: ImageShape) -> None:
        super().__init__()
        if not architecture.latent_size:
            raise ConfigError("a variational model needs model.latent_size of at least 1, got 0")
        self.image_shape = image_shape
        self.encoder, self.latent_size = make_encoder(architecture, image_shape, heads=2)
        self.decoder = make_decoder(architecture, image_shape)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to means (N, D) and log-variances (N, D) of the posterior."""
        means, log_variances = self.encoder(images).chunk(2, dim=1)
        return means, log_variances.clamp(*LOG_VARIANCE_BOUNDS)

    def decode(self, latents: Tensor) -> Tensor:
        """(N, D) to logits (N, C, H, W)."""
        return self.decoder(latents)


class VaeGan(VariationalAutoencoder):
    """A VAE whose decoder also plays against a discriminator, which judges reconstructions too (Larsen et al. 2016)."""

    family = "vae-gan"

    def __init__(self, architecture: Architecture, image_shape: ImageShape) -> None:
        super().__init__(architecture, image_shape)
        self.discriminator = Discriminator(image_shape, architecture.discriminator_channels)


class MultitaskVae(VariationalAutoencoder):
    """A VAE with a classifier on the posterior mean (Le, Patterson & White 2018)."""

    family = "multitask"

    def __init__(self, architecture: Architecture, image_shape: ImageShape, labels: Sequence[str]) -> None:
        super().__init__(architecture, image_shape)
        if not labels:
            raise ConfigError("a multitask model wants labelled images, these have no labels")
        self.labels = tuple(labels)
        widths = [architecture.latent_size, *architecture.classifier_hidden]
        hidden = dense_stack(widths, architecture.activation)
        self.classifier = nn.Sequential(*hidden, nn.Linear(widths[-1], len(labels)))

    def classify(self, latents: Tensor) -> Tensor:
        """(N, D) to class logits (N, K)."""
        return self.classifier(latents)


class Denoiser(nn.Module):
    """Noisy images to clean ones (Vincent et al. 2008); it has no code of its own to serve."""

    family = "denoiser"
    latent_size = 0

    def __init__(self, architecture: Architecture, image_shape: ImageShape) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.network = DenoisingNetwork(image_shape, architecture.channels, architecture.upsampling)

    def denoise(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, C, H, W)."""
        return self.network(images)


Network = Autoencoder | VariationalAutoencoder | Denoiser


def build(architecture: Architecture, image_shape: ImageShape, labels: Sequence[str] = ()) -> Network:
    """The network that an architecture describes, with weights not yet drawn; see `initialise`.

    Raises:
        ConfigError: the architecture does not fit the images.
    """
    if architecture.family == "multitask":
        return MultitaskVae(architecture, image_shape, labels)
    families = {"ae": Autoencoder, "vae": VariationalAutoencoder, "vae-gan": VaeGan, "denoiser": Denoiser}
    return families[architecture.family](architecture, image_shape)


def initialise(network: nn.Module, generator: torch.Generator, code_spread: float = 0.0) -> None:
    """Draws Glorot uniform weights (Glorot & Bengio 2010) and sets biases to 0.

    PyTorch's own default loses units of `fc-ae`: 0.101 instead of 0.091 nats per pixel on MNIST.
    With a `code_spread` the first dense layer of the decoder is drawn by `spread_out`.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if code_spread:
        decoder = network.get_submodule("decoder")
        spread_out(next(layer for layer in decoder.modules() if isinstance(layer, nn.Linear)), code_spread, generator)


def spread_out(layer: nn.Linear, spread: float, generator: torch.Generator) -> None:
    """Draws a layer that computes numbers of this standard deviation from N(0, I), with biases as far apart.

    Glorot's weights for 512 units on 2 values are so small that every unit sees the plane as flat, and biases of 0 let
    them all bend in its middle. Here each bends somewhere else, which a small code needs.
    """
    reach = spread * math.sqrt(3 / layer.in_features)
    nn.init.uniform_(layer.weight, -reach, reach, generator=generator)
    nn.init.uniform_(layer.bias, -spread, spread, generator=generator)


def make_encoder(architecture: Architecture, image_shape: ImageShape, heads: int) -> tuple[nn.Module, int]:
    """An encoder with `heads` outputs per latent value, and the size of the code."""
    if architecture.body == "conv":
        encoder = ConvEncoder(image_shape, architecture.channels, architecture.latent_size * heads)
        return encoder, architecture.latent_size or encoder.output_size
    if not architecture.latent_size:
        raise ConfigError("a dense model needs model.latent_size of at least 1, got 0")
    outputs = architecture.latent_size * heads
    encoder = DenseEncoder(image_shape, architecture.hidden, outputs, architecture.activation)
    return (
        nn.Sequential(encoder, nn.ReLU()) if architecture.code_activation == "relu" else encoder
    ), architecture.latent_size


def make_decoder(architecture: Architecture, image_shape: ImageShape) -> nn.Module:
    """The decoder that mirrors the encoder."""
    if architecture.body == "conv":
        return ConvDecoder(image_shape, architecture.channels, architecture.latent_size, architecture.upsampling)
    return DenseDecoder(image_shape, architecture.hidden, architecture.latent_size, architecture.activation)
