"""Network architectures, a class for each family.

Images are float32 (N, C, H, W) in 0 to 1, latents (N, D) or spatial (N, c, h, w). Decoders return logits of pixels, and
those of residual bodies pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.config import Architecture
from training.errors import ConfigError, one_line
from training.losses import objectives, terms, vae_gan
from training.losses.objectives import Inputs, Outcome
from training.models import photographs
from training.models.families import ImageShape, Network, families
from training.models.layers import (
    ConvDecoder,
    ConvEncoder,
    DenoisingNetwork,
    DenseDecoder,
    DenseEncoder,
    Discriminator,
    dense_stack,
)
from training.models.posterior import Posterior
from training.models.priors import FlowPrior, Prior, StandardNormalPrior

# Beyond these bounds a posterior is a point or the prior many times over; the exponential must stay finite.
LOG_VARIANCE_BOUNDS = Architecture().log_variances

_PIXELS = frozenset({"likelihood", "sigma", "binarise"})
_BOUND = frozenset({"beta", "warm_up_epochs"})
_PRIOR = frozenset({"prior", "couplings", "coupling_hidden"})


class Autoencoder(Network):
    """Images to a code and back (Hinton & Salakhutdinov 2006)."""

    family = "ae"
    sampling = "mixture"
    model_settings = frozenset({"latent_size", "latent_channels", "code_activation", "score", "smoothing"})
    loss_settings = _PIXELS | {"encoder_noise"}

    def __init__(self, architecture: Architecture, image_shape: ImageShape, labels: Sequence[str] = ()) -> None:
        super().__init__(architecture, image_shape, labels)
        self.encoder, self.latent_size = _make_encoder(architecture, image_shape, heads=1)
        self.decoder = _make_decoder(architecture, image_shape)
        photographs.describe(self, architecture)

    def encode(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to latents (N, D) or (N, c, h, w)."""
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to logits (N, C, H, W)."""
        return self.decoder(latents)

    @classmethod
    def detecting(cls) -> type[Network]:
        """The class of those that detect too."""
        from training.models.detectors import DetectingAutoencoder  # noqa: PLC0415 (it builds on this class)

        return DetectingAutoencoder

    def objective(self, given: Inputs) -> Outcome:
        """Reconstruction loss, of images that the encoder may see with noise on them."""
        seen = objectives.with_input_noise(given.images, given.draws, given.settings.encoder_noise)
        return objectives.reconstruction(self.decode(self.encode(seen)), given, self.output)


class VariationalAutoencoder(Network):
    """A diagonal Gaussian posterior in front of a decoder (Kingma & Welling 2013)."""

    family = "vae"
    variational = True
    model_settings = frozenset({"latent_size", "latent_channels", "log_variances", "outputs"}) | _PRIOR
    loss_settings = (
        _PIXELS
        | _BOUND
        | {"total_correlation", "free_bits", "importance_samples", "doubly_reparameterised", "encoder_noise"}
    )

    def __init__(self, architecture: Architecture, image_shape: ImageShape, labels: Sequence[str] = ()) -> None:
        super().__init__(architecture, image_shape, labels)
        if not (architecture.latent_size or architecture.latent_channels):
            raise ConfigError("a variational model needs model.latent_size of at least 1, got 0")
        low, high = architecture.log_variances
        if low >= high:
            raise ConfigError(f"expected model.log_variances of two rising bounds, got {low:g} and {high:g}")
        self.encoder, self.latent_size = _make_encoder(architecture, image_shape, heads=2)
        self.decoder = _make_decoder(architecture, image_shape)
        self.prior = _make_prior(architecture)
        self.log_variance_bounds = architecture.log_variances
        photographs.describe(self, architecture)

    def encode(self, images: Tensor) -> Posterior:
        """(N, C, H, W) to the posterior: means and log-variances, (N, D) or (N, c, h, w) each."""
        means, log_variances = self.encoder(images).chunk(2, dim=1)
        return Posterior(means, log_variances.clamp(*self.log_variance_bounds))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to logits (N, C, H, W)."""
        return self.decoder(latents)

    def log_weights(self, images: Tensor, noise: Tensor) -> Tensor:
        """Images (N, C, H, W) and noise (N, D) from N(0, I) to (N,): log p(x | z) + log p(z) - log q(z | x), in nats.

        z is the posterior's sample for that noise. Images are 0 or 1 where `likelihood.is_binary`, else grey. The mean
        of the exponentials over samples estimates p(x) (Burda et al. 2016, equation 8). For `can_score` alone.
        """
        posterior = self.encode(images)
        latents = posterior.sample(noise)
        likelihood = terms.log_likelihood(self.likelihood, self.decode(latents), images, self.output)
        return likelihood + self.prior.log_density(latents) - posterior.log_prob(latents)

    def objective(self, given: Inputs) -> Outcome:
        """The evidence lower bound, or the tighter one of several importance samples."""
        bound = objectives.importance_weighted if given.settings.importance_samples > 1 else objectives.variational
        return bound(self, given)


class VaeGan(VariationalAutoencoder):
    """A VAE with a discriminator whose features measure the reconstruction (Larsen et al. 2016)."""

    family = "vae-gan"
    model_settings = frozenset({"latent_size", "log_variances", "discriminator_channels"})
    loss_settings = _BOUND | {"binarise", "adversarial", "gradient_penalty"}

    def __init__(self, architecture: Architecture, image_shape: ImageShape, labels: Sequence[str] = ()) -> None:
        if architecture.body == "residual":
            raise ConfigError("a VAE/GAN expects model.body dense or conv, got residual, whose outputs are no logits")
        super().__init__(architecture, image_shape, labels)
        self.discriminator = Discriminator(image_shape, architecture.discriminator_channels)

    def objective(self, given: Inputs) -> Outcome:
        """A loss for each of the three parts."""
        return Outcome(*vae_gan.losses(self, given.images, given.draws, given.settings, given.kl_weight))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Those of the three parts, each updated by its own loss."""
        return {name: list(getattr(self, name).parameters()) for name in ("encoder", "decoder", "discriminator")}


class MultitaskVae(VariationalAutoencoder):
    """A VAE with a classifier on the posterior mean (Le, Patterson & White 2018)."""

    family = "multitask"
    model_settings = frozenset({"latent_size", "log_variances", "classifier_hidden"}) | _PRIOR
    loss_settings = _PIXELS | _BOUND | {"free_bits", "classification", "classifier_noise"}

    def __init__(self, architecture: Architecture, image_shape: ImageShape, labels: Sequence[str] = ()) -> None:
        super().__init__(architecture, image_shape, labels)
        if not labels:
            raise ConfigError("a multitask model needs labelled images, these have no labels")
        self.labels = tuple(labels)
        widths = [architecture.latent_size, *architecture.classifier_hidden]
        hidden = dense_stack(widths, architecture.activation)
        self.classifier = nn.Sequential(*hidden, nn.Linear(widths[-1], len(labels)))

    def classify(self, latents: Tensor) -> Tensor:
        """(N, D) to class logits (N, K)."""
        return self.classifier(latents)

    def objective(self, given: Inputs) -> Outcome:
        """The bound and the cross-entropy of the classes; the bound alone for images without labels."""
        if given.labels is None:
            return super().objective(given)
        return objectives.multitask(self, given, given.labels)


class Denoiser(Network):
    """Noisy images to clean ones (Vincent et al. 2008); it has no code of its own to serve."""

    family = "denoiser"
    model_settings = frozenset({"shortcuts", "noise_level_input"})
    loss_settings = _PIXELS | {"noise", "noise_low"}

    def __init__(self, architecture: Architecture, image_shape: ImageShape, labels: Sequence[str] = ()) -> None:
        super().__init__(architecture, image_shape, labels)
        if architecture.body == "residual":
            self.network = photographs.denoiser(architecture, image_shape)
            self.takes_noise_levels = architecture.noise_level_input
            photographs.describe(self, architecture)
        else:
            self.clips_noise = True
            self.network = DenoisingNetwork(image_shape, architecture.channels, architecture.upsampling)

    def denoise(self, images: Tensor, noise_levels: Tensor | None = None) -> Tensor:
        """(N, C, H, W), and (N,) where it takes noise levels, to logits or, of a residual body, pixels (N, C, H, W)."""
        return self.network(images) if noise_levels is None else self.network(images, noise_levels)

    def objective(self, given: Inputs) -> Outcome:
        """Reconstruction loss of the clean images."""
        return objectives.denoising(self, given)


def find(name: str) -> type[Network]:
    """The class of a family.

    Raises:
        ConfigError: there is no such family.
    """
    from training.models.detectors import Detector  # noqa: PLC0415 (it builds on this module)

    known = {**families(), Detector.family: Detector}
    if name not in known:
        raise ConfigError(f"model.family: expected one of {', '.join(sorted(known))}; got {name!r}")
    return known[name]


def build(architecture: Architecture, image_shape: ImageShape, labels: Sequence[str] = ()) -> Network:
    """The network that an architecture describes, with weights not yet drawn; see `training.models.initial_weights`.

    Raises:
        ConfigError: there is no such family, or the architecture does not fit the images.
    """
    if architecture.network:
        from training.models import own  # noqa: PLC0415 (it builds on this module)

        return own.build(architecture, image_shape)
    kind = find(architecture.family)
    return (kind.detecting() if architecture.score else kind)(architecture, image_shape, labels)


def image_shape(architecture: Architecture, shape: ImageShape, *, cropped: bool) -> ImageShape:
    """The image shape of a network for images of this shape: free where they are crops and the network takes any size.

    Raises:
        ConfigError: as `build`.
    """
    if not cropped:
        return shape
    if architecture.network:
        spatial = build(architecture, shape).takes_any_size
    else:
        spatial = architecture.body == "residual" and not architecture.latent_size
        if spatial:
            # Crops that the network cannot halve are refused here.
            outline(architecture, shape)
    return (0, 0, shape[2]) if spatial else shape


def outline(architecture: Architecture, image_shape: ImageShape, labels: Sequence[str] = ()) -> Network:
    """The network of `build` with shapes and no weights, however large: on PyTorch's meta device.

    Raises:
        ConfigError: as `build`, or a tensor would have more numbers than a computer can count.
    """
    if architecture.network:
        # It may compute with tensors of its own as it is built and tried.
        return build(architecture, image_shape, labels)
    try:
        with torch.device("meta"):
            return build(architecture, image_shape, labels)
    except (RuntimeError, OverflowError) as error:
        raise ConfigError(f"the network would be too large: {one_line(error)}") from None


def _make_encoder(architecture: Architecture, image_shape: ImageShape, heads: int) -> tuple[nn.Module, int]:
    """An encoder with `heads` outputs per latent value, and the size of the code."""
    if architecture.body == "residual":
        return photographs.encoder(architecture, image_shape, heads), architecture.latent_size
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


def _make_prior(architecture: Architecture) -> Prior:
    """The density of the codes."""
    if architecture.prior == "normal":
        return StandardNormalPrior()
    return FlowPrior(architecture.latent_size, architecture.couplings, architecture.coupling_hidden)


def _make_decoder(architecture: Architecture, image_shape: ImageShape) -> nn.Module:
    """The decoder that mirrors the encoder."""
    if architecture.body == "residual":
        return photographs.decoder(architecture, image_shape)
    if architecture.body == "conv":
        return ConvDecoder(image_shape, architecture.channels, architecture.latent_size, architecture.upsampling)
    return DenseDecoder(image_shape, architecture.hidden, architecture.latent_size, architecture.activation)
