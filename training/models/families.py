"""Model families that describe themselves: the base of every network, and the registry filled by its subclasses.

To add a family, write a subclass with a `family` name of its own, in `autoencoders` or in a module that `find` there
imports, and a recipe that names it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from bundle.latents import Prior as Sampling
from training.config import Architecture
from training.losses.objectives import Inputs, Outcome
from training.losses.terms import Likelihood

ImageShape = tuple[int, int, int]

_FAMILIES: dict[str, type["Network"]] = {}


class Network(nn.Module, ABC):
    """A network of one family, which states what the rest of training and export must know of it.

    Its methods become the graphs of its bundle: those of `encode` and `decode`, `classify`, `denoise`, `detect` it has.
    """

    family: ClassVar[str]
    variational: ClassVar[bool] = False
    """Whether `encode` returns a `Posterior` and not a plain code."""
    sampling: ClassVar[Sampling] = "normal"
    """What samples are drawn from: noise of N(0, I), or the Gaussian mixture fitted to the training codes."""
    model_settings: ClassVar[frozenset[str]] = frozenset()
    """Settings of `[model]` that have an effect, apart from those of the body."""
    loss_settings: ClassVar[frozenset[str]] = frozenset()
    """Settings of `[loss]` that have an effect."""

    output: Literal["logits", "pixels"] = "logits"
    """What `decode` and `denoise` return."""
    image_shape: ImageShape
    """(H, W, C); H and W are 0 where they are free."""
    latent_shape: tuple[int, ...] = ()
    """(D,) of a vector, (h, w, c) of a spatial code, h and w 0 where they are free; empty without a code."""
    latent_size: int = 0
    """D of a vector, else 0."""
    multiple: int = 1
    """Of free sizes: images are padded to a multiple of it."""
    minimum: int = 1
    """Of free sizes: the smallest side."""
    downsampling: int = 0
    """Pixels, along each side, of a position of a spatial code; 0 where there is none."""
    float_images: bool = False
    """Whether its graphs take float32 images, not rounded to 8 bits."""
    clips_noise: bool = False
    """Whether a denoiser was made for noisy images that are clipped to 0 to 1."""
    takes_noise_levels: bool = False
    noise_level: tuple[float, float, float] | None = None
    """Lowest, highest and default standard deviation (0: none) for a `denoise` that is given noise levels (N,)."""
    labels: tuple[str, ...] = ()
    likelihood: Likelihood = Likelihood()
    """Of a pixel, as it was trained."""
    prior: Any
    """Of a variational network: a module of `training.models.priors`."""
    encode: Any
    decode: Any
    classify: Any
    denoise: Any
    detect: Any
    """(N, C, H, W) to maps (N, 1, H, W) of how strange each pixel is, from 0 on."""
    detection_score: str = ""
    """How an image's score comes from its map: `max` or `mean`."""

    def __init_subclass__(cls) -> None:
        if "family" in cls.__dict__:
            _FAMILIES[cls.family] = cls

    def __init__(self, architecture: Architecture, image_shape: ImageShape, labels: Sequence[str] = ()) -> None:  # noqa: ARG002 (subclasses build from them)
        super().__init__()
        self.image_shape = image_shape

    @classmethod
    def detecting(cls) -> type["Network"]:
        """The class of the family's networks for which an anomaly score is set."""
        return cls

    @abstractmethod
    def objective(self, given: Inputs) -> Outcome:
        """What is minimised and logged, in nats per image."""

    def images(self, outputs: Tensor) -> Tensor:
        """What `decode` or `denoise` returned, (N, C, H, W), as pixels in 0 to 1."""
        return outputs.sigmoid() if self.output == "logits" else outputs.clamp(0, 1)

    @property
    def takes_any_size(self) -> bool:
        """Whether it is convolutional throughout: images of any size, and no code or one that grows with them."""
        return len(self.latent_shape) != 1

    @property
    def can_score(self) -> bool:
        """Whether `log_weights` tells the likelihood of an image: a VAE of fixed size and a vector code.

        It needs a likelihood of pixels, which a VAE/GAN has not, and not a sigma that is fitted to the image itself.
        """
        fitted = not self.likelihood.sigma and not (self.likelihood.is_binary and self.output == "logits")
        has_likelihood = self.variational and "likelihood" in self.loss_settings and not fitted
        return has_likelihood and len(self.latent_shape) == 1 and not self.is_free

    @property
    def is_free(self) -> bool:
        """Whether height and width of the images are free."""
        return not self.image_shape[0]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that each loss of the objective updates, by the loss's name; an optimizer for each."""
        return {"model": list(self.parameters())}


def families() -> dict[str, type[Network]]:
    """Every family by name."""
    return dict(_FAMILIES)
