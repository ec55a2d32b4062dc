"""The methods of a network as exportable modules: encode, decode, reconstruct, denoise, classify, detect, densities."""

from itertools import chain
from typing import Any

import torch
from autoencoder.v1.model_pb2 import Likelihood
from torch import Tensor, nn

from bundle.detection import SCORES, Score
from bundle.latents import prior
from export.errors import ExportError
from export.graphs.tensor_specs import Facts, Sizes
from training.models.priors import FlowPrior

# Of (N, h, w, c).
_SPATIAL_RANK = 4
_LIMITS = ("multiple", "minimum", "maximum_pixels")


class Method(nn.Module):
    """One method of a network as a module of its own: scaling and layout included, arrays as on the wire.

    Images are (N, H, W, C), computed on in the network's precision, scaled and compared in float32 or better; spatial
    latents are (N, h, w, c). Inside the network both have their channels first.
    """

    name = ""
    needs: tuple[str, ...] = ()
    """Methods of the network that it calls."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 (any network with these methods)
        super().__init__()
        self.model = model

    @property
    def precision(self) -> torch.dtype:
        """Of the network's weights, or, where it has none, of its constants."""
        first: Tensor = next(chain(self.model.parameters(), self.model.buffers()))
        return first.dtype

    def pixels(self, images: Tensor) -> Tensor:
        """(N, H, W, C) uint8, or float in 0 … 1, to (N, C, H, W) in 0 … 1."""
        wide = images.permute(0, 3, 1, 2).to(torch.promote_types(self.precision, torch.float32))
        return wide / 255 if images.dtype == torch.uint8 else wide

    def widened(self, values: Tensor) -> Tensor:
        """Half precision to float32, anything else unchanged."""
        return values.to(torch.promote_types(values.dtype, torch.float32))

    def images(self, answer: Tensor) -> Tensor:
        """(N, C, H, W) logits, or pixels of a network that gives these, to (N, C, H, W) in 0 … 1."""
        wide = self.widened(answer)
        return wide.clamp(0, 1) if getattr(self.model, "output", "logits") == "pixels" else wide.sigmoid()

    def encoded(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) to latents (N, D) or (N, c, h, w), and log-variances of that shape where there are any."""
        answer: Tensor | tuple[Tensor, ...] = self.model.encode(pixels.to(self.precision))
        return answer if isinstance(answer, tuple) else (answer,)


class Encode(Method):
    """Images to latents."""

    name = "encode"
    needs = ("encode",)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, H, W, C) to (N, D) or (N, h, w, c), once or twice."""
        return tuple(_channels_last(self.widened(each)) for each in self.encoded(self.pixels(images)))


class Decode(Method):
    """Latents to images."""

    name = "decode"
    needs = ("decode",)

    def forward(self, latents: Tensor) -> Tensor:
        """(N, D) or (N, h, w, c) to (N, H, W, C)."""
        given = latents.to(self.precision)
        return self.images(self.model.decode(_channels_first(given))).permute(0, 2, 3, 1)


class Reconstruct(Method):
    """Images through the bottleneck and back."""

    name = "reconstruct"
    needs = ("encode", "decode")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, H, W, C) to (N, H, W, C); of a fixed size, also the mean squared error per pixel (N,)."""
        pixels = self.pixels(images)
        reconstructions = self.images(self._reconstructed(pixels))
        if not self.model.image_shape[0]:
            return (reconstructions.permute(0, 2, 3, 1),)
        differences = reconstructions - pixels
        # Of the images, not of logarithms: finite wherever a sigmoid saturates, and the same in every batch.
        return reconstructions.permute(0, 2, 3, 1), (differences * differences).mean(dim=(1, 2, 3))

    def _reconstructed(self, pixels: Tensor) -> Tensor:
        """By the network's own method where it has one."""
        if hasattr(self.model, "reconstruct"):
            answer: Tensor = self.model.reconstruct(pixels.to(self.precision))
            return answer
        return self.model.decode(self.encoded(pixels)[0])


class Denoise(Method):
    """Noisy images to clean ones."""

    name = "denoise"
    needs = ("denoise",)

    def forward(self, images: Tensor, noise_levels: Tensor | None = None) -> Tensor:
        """(N, H, W, C), about 0 … 1, and standard deviations (N,) where the network takes them, to (N, H, W, C)."""
        pixels = self.pixels(images).to(self.precision)
        levels = () if noise_levels is None else (noise_levels.to(self.precision),)
        return self.images(self.model.denoise(pixels, *levels)).permute(0, 2, 3, 1)


class Classify(Method):
    """Images to class probabilities."""

    name = "classify"
    needs = ("encode", "classify")

    def forward(self, images: Tensor) -> Tensor:
        """(N, H, W, C) to (N, K)."""
        pixels = self.pixels(images)
        own = hasattr(self.model, "scores")
        scores = self.model.scores(pixels.to(self.precision)) if own else self.model.classify(self.encoded(pixels)[0])
        return self.widened(scores).softmax(dim=1)


class Detect(Method):
    """Images to maps of how strange each place is."""

    name = "detect"
    needs = ("detect",)

    @property
    def score(self) -> Score:
        """How an image's score comes from its map.

        Raises:
            ExportError: a way that the server does not know.
        """
        found = getattr(self.model, "detection_score", "max")
        if found not in SCORES:
            raise ExportError(f"expected a network whose detection_score is {' or '.join(SCORES)}, got {found!r}")
        return found

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, H, W, C) to maps (N, H, W, 1); of a fixed size, before them the scores (N,)."""
        maps = self.widened(self.model.detect(self.pixels(images).to(self.precision)))
        shown = maps.permute(0, 2, 3, 1)
        if not self.model.image_shape[0]:
            return (shown,)
        return (maps.amax((1, 2, 3)) if self.score == "max" else maps.mean((1, 2, 3))), shown


class LogWeights(Method):
    """Images and noise to importance weights, for the likelihood."""

    name = "log_weights"
    needs = ("log_weights",)

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """(N, H, W, C) and (N, D) to (N,): log p(x | z) + log p(z) - log q(z | x), z the posterior's sample."""
        weights: Tensor = self.model.log_weights(self.pixels(images).to(self.precision), noise.to(self.precision))
        return self.widened(weights)


class Prior(Method):
    """Noise to latents of a learned prior."""

    name = "prior"

    def forward(self, noise: Tensor) -> Tensor:
        """(N, D) to (N, D)."""
        return self.widened(self.model.prior.latents(noise.to(self.precision)))


class LogDensity(Method):
    """Latents to their density under a learned prior."""

    name = "log_density"

    def forward(self, latents: Tensor) -> Tensor:
        """(N, D) to (N,): log p(z)."""
        return self.widened(self.model.prior.log_density(latents.to(self.precision)))


_METHODS: tuple[type[Method], ...] = (
    Classify,
    Decode,
    Denoise,
    Detect,
    Encode,
    LogDensity,
    LogWeights,
    Prior,
    Reconstruct,
)


def facts(model: Any) -> Facts:  # noqa: ANN401 (any network that describes itself)
    """Read them from a network's attributes, see `training.models.families.Network`; absent ones are as in `Facts`.

    Raises:
        ExportError: it samples from another prior than the server would for a family of this name, or says of its
            free sizes what cannot be.
    """
    served = prior(model.family)
    if getattr(model, "sampling", served) != served:
        expected = f"the server draws samples of the family {model.family!r} from the {served} prior"
        raise ExportError(f"{expected}, got a network with the {model.sampling} prior")
    latent_shape = tuple(getattr(model, "latent_shape", ()))
    spatial = latent_shape if len(latent_shape) > 1 else ()
    found = Facts(
        model.family,
        model.variational,
        tuple(model.image_shape),
        0 if spatial else model.latent_size,
        tuple(getattr(model, "labels", ())),
        spatial,
        getattr(model, "downsampling", 0),
        Sizes(**{name: getattr(model, name) for name in _LIMITS if hasattr(model, name)}),
        getattr(model, "float_images", False),
        getattr(model, "noise_level", None),
    )
    shapes = found.shapes
    if shapes.free and shapes.spatial and (shapes.downsampling < 1 or shapes.multiple % shapes.downsampling):
        got = f"multiple {shapes.multiple} and downsampling {shapes.downsampling}"
        raise ExportError(f"expected a network of free sizes whose downsampling divides its multiple, got {got}")
    return found


def methods(model: Any) -> list[Method]:  # noqa: ANN401 (likewise)
    """Modules to export, those that the network has the methods for or lists, in alphabetical order of their names."""
    listed: tuple[str, ...] | None = getattr(model, "methods", None)
    if listed is not None:
        return [kind(model) for kind in _METHODS if kind.name in listed]
    return [kind(model) for kind in _METHODS if _has(model, kind)]


def _has(model: Any, kind: type[Method]) -> bool:  # noqa: ANN401 (likewise)
    if kind in {Prior, LogDensity}:
        return has_learned_prior(model)
    if kind is LogWeights:
        return getattr(model, "can_score", False)
    return all(hasattr(model, each) for each in kind.needs)


def has_learned_prior(model: Any) -> bool:  # noqa: ANN401 (likewise)
    """Whether latents are drawn by a network of their own."""
    return isinstance(getattr(model, "prior", None), FlowPrior)


def likelihood(model: Any) -> Likelihood:  # noqa: ANN401 (a network that can score)
    """What `Score` is of; pixels that the network gives as such have a Gaussian one."""
    about = model.likelihood
    if about.likelihood == "gaussian" or model.output == "pixels":
        return Likelihood(distribution="gaussian", sigma=about.sigma)
    return Likelihood(distribution=about.likelihood, binarised=about.is_binary)


def _channels_last(latents: Tensor) -> Tensor:
    return latents.permute(0, 2, 3, 1) if latents.ndim == _SPATIAL_RANK else latents


def _channels_first(latents: Tensor) -> Tensor:
    return latents.permute(0, 3, 1, 2) if latents.ndim == _SPATIAL_RANK else latents
