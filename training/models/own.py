"""A network of the user's own, named in a recipe as `package.module:Class`: trained as the family its methods make it.

Importing it runs its code: a recipe or a checkpoint that names a network is a program, and is to be trusted like one.
"""

import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from training.config import Architecture
from training.errors import NetworkError, one_line
from training.models.autoencoders import LOG_VARIANCE_BOUNDS, Autoencoder, Denoiser, VariationalAutoencoder
from training.models.families import ImageShape, Network
from training.models.posterior import Posterior
from training.models.priors import StandardNormalPrior

# Free sizes are tried at one that most multiples divide.
_TRIED_SIDE, _TRIED_ROWS = 64, 2
_EXPECTED = "expected model.network as package.module:Class, a torch.nn.Module with encode and decode, or denoise"
_T = TypeVar("_T")


class OwnAutoencoder(Autoencoder):
    """A module with `encode` to a code and `decode`."""

    def __init__(self, module: Any, image_shape: ImageShape) -> None:  # noqa: ANN401 (whatever the user wrote)
        Network.__init__(self, Architecture(), image_shape)
        self.module = module
        _adopt(self, module)

    def encode(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to latents (N, D) or (N, c, h, w)."""
        return self.module.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to pixels or logits (N, C, H, W)."""
        return self.module.decode(latents)


class OwnVariationalAutoencoder(VariationalAutoencoder):
    """A module with `encode` to means and log-variances, and `decode`."""

    def __init__(self, module: Any, image_shape: ImageShape) -> None:  # noqa: ANN401 (whatever the user wrote)
        Network.__init__(self, Architecture(), image_shape)
        self.module, self.prior = module, StandardNormalPrior()
        _adopt(self, module)

    def encode(self, images: Tensor) -> Posterior:
        """(N, C, H, W) to the posterior."""
        means, log_variances = self.module.encode(images)
        return Posterior(means, log_variances.clamp(*LOG_VARIANCE_BOUNDS))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to pixels or logits (N, C, H, W)."""
        return self.module.decode(latents)


class OwnDenoiser(Denoiser):
    """A module with `denoise`, of images or of images and noise levels."""

    def __init__(self, module: Any, image_shape: ImageShape) -> None:  # noqa: ANN401 (whatever the user wrote)
        Network.__init__(self, Architecture(), image_shape)
        self.module, self.float_images = module, True
        _adopt(self, module)
        self.takes_noise_levels = len(inspect.signature(module.denoise).parameters) > 1

    def denoise(self, images: Tensor, noise_levels: Tensor | None = None) -> Tensor:
        """(N, C, H, W), and (N,) where it takes noise levels, to pixels or logits (N, C, H, W)."""
        return self.module.denoise(images) if noise_levels is None else self.module.denoise(images, noise_levels)


def build(architecture: Architecture, image_shape: ImageShape) -> Network:
    """The user's network as a network of the family that its methods make it, tried on two images.

    Raises:
        NetworkError: it cannot be imported or constructed, or an answer has a wrong shape.
    """
    name = architecture.network
    kind = _find(name)
    module = _attempt(lambda: kind(**architecture.arguments), f"{name} cannot be constructed with model.arguments")
    tried = torch.zeros(_TRIED_ROWS, image_shape[2], *(side or _TRIED_SIDE for side in image_shape[:2]))
    training = module.training
    with torch.no_grad():
        network = _wrapped(module.eval(), name, image_shape, tried)
    module.train(training)
    return network


def source_sha256(name: str) -> str:
    """SHA-256 of the file that a network's class is in, found without running it or the packages that it is in.

    Neither these packages nor what the file imports are part of it.

    Raises:
        NetworkError: there is no such file.
    """
    module, _, _ = name.partition(":")
    spec = _attempt(lambda: _spec(module), f"{name} cannot be imported")
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise NetworkError(f"{name} cannot be imported (no module named {module!r}): put its folder on PYTHONPATH")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


def _spec(module: str) -> ModuleSpec | None:
    """Where a module is: `find_spec` alone would import the packages that it is in, and so run them."""
    package, *parts = module.split(".")
    # Installed for editing, a package may have a finder of its own.
    spec = importlib.util.find_spec(package)
    for part in parts:
        # Of the whole name, the path of a namespace package would be asked of the packages that were not imported.
        spec = spec and PathFinder.find_spec(part, spec.submodule_search_locations or ())
    return spec


def _find(name: str) -> Callable[..., nn.Module]:
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise NetworkError(f"{_EXPECTED}; got {name!r}")
    source_sha256(name)
    found: object = getattr(
        _attempt(lambda: importlib.import_module(module), f"{name} cannot be imported"), attribute, None
    )
    # A checkpoint must not call just any function.
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise NetworkError(
            f"{_EXPECTED}; {module} has {'no such class' if found is None else 'something else'} {attribute!r}"
        )
    return found


def _wrapped(module: nn.Module, name: str, image_shape: ImageShape, tried: Tensor) -> Network:
    """One of the three, after a try."""
    theirs = cast("Any", module)
    if hasattr(module, "denoise"):
        network: Network = OwnDenoiser(module, image_shape)
        levels = (torch.zeros(len(tried)),) if network.takes_noise_levels else ()
        answered = _attempt(lambda: network.denoise(tried, *levels), f"{name}.denoise fails on {tuple(tried.shape)}")
        _check_shape(f"{name}.denoise", answered, tried.shape)
        return network
    if not (hasattr(module, "encode") and hasattr(module, "decode")):
        raise NetworkError(f"{_EXPECTED}; {name} has neither")
    code = _attempt(lambda: theirs.encode(tried), f"{name}.encode fails on {tuple(tried.shape)}")
    pair = isinstance(code, tuple | list)
    means = code[0] if pair else code
    if not isinstance(means, Tensor) or means.ndim not in (2, 4) or len(means) != len(tried):
        got = tuple(means.shape) if isinstance(means, Tensor) else type(means).__name__
        raise NetworkError(f"{name}.encode: expected (N, D) or (N, c, h, w) for N = {len(tried)}, got {got}")
    if pair and (len(code) != 2 or code[1].shape != means.shape):  # noqa: PLR2004 (mean and log-variance)
        raise NetworkError(f"{name}.encode: expected means and log-variances of one shape, got {len(code)} values")
    decoded = _attempt(lambda: theirs.decode(means), f"{name}.decode fails on {tuple(means.shape)}")
    _check_shape(f"{name}.decode", decoded, tried.shape)
    network = (OwnVariationalAutoencoder if pair else OwnAutoencoder)(module, image_shape)
    _describe_code(network, means, tried)
    return network


def _describe_code(network: Network, means: Tensor, tried: Tensor) -> None:
    """Set the shape of the code, and of a spatial one by how much it is smaller, unless the module says so itself."""
    if means.ndim == 2:  # noqa: PLR2004 ((N, D))
        network.latent_size, network.latent_shape = means.shape[1], (means.shape[1],)
        return
    network.downsampling = network.downsampling or tried.shape[2] // means.shape[2]
    network.multiple = max(network.multiple, network.downsampling)
    size = (0, 0) if network.is_free else tuple(means.shape[2:])
    network.latent_shape = (*size, means.shape[1])


def _adopt(network: Network, module: nn.Module) -> None:
    """Take over what the module says of itself, where it is of the expected kind (a layer may have the same name)."""
    for name, kind in (("multiple", int), ("minimum", int), ("downsampling", int), ("float_images", bool)):
        if type(value := getattr(module, name, None)) is kind:
            setattr(network, name, value)
    output = getattr(module, "output", None)
    network.output = "logits" if isinstance(output, str) and output == "logits" else "pixels"


def _check_shape(where: str, answered: object, expected: Sequence[int]) -> None:
    got = tuple(answered.shape) if isinstance(answered, Tensor) else type(answered).__name__
    if got != tuple(expected):
        raise NetworkError(f"{where}: expected images of shape {tuple(expected)}, got {got}")


def _attempt(run: Callable[[], _T], what: str) -> _T:
    """What the user's code returns; whatever it raises as one sentence."""
    try:
        return run()
    except Exception as error:
        raise NetworkError(f"{what}: {type(error).__name__}: {one_line(error)}") from error
