"""Model families that describe themselves: the base of every network, and the registry filled by its subclasses.

To add a family, write a subclass with a `family` name of its own, and a recipe that names it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from bundle.latents import Prior
from training.config import Architecture
from training.losses.objectives import Inputs, Outcome

ImageShape = tuple[int, int, int]

_FAMILIES: dict[str, type["Network"]] = {}


class Network(nn.Module, ABC):
    """A network of one family, which states what the rest of training and export must know of it.

    Its methods become the graphs of its bundle: `encode` and `decode`, `classify`, `denoise`, those that it has.
    """

    family: ClassVar[str]
    variational: ClassVar[bool] = False
    """Whether `encode` returns a `Posterior` and not a plain code."""
    prior: ClassVar[Prior] = "normal"
    """What samples are decoded from: N(0, I), or the Gaussian mixture fitted to the training codes."""
    model_settings: ClassVar[frozenset[str]] = frozenset()
    """Settings of `[model]` that have an effect, apart from those of the body."""
    loss_settings: ClassVar[frozenset[str]] = frozenset()
    """Settings of `[loss]` that have an effect."""

    latent_size: int = 0
    labels: tuple[str, ...] = ()
    encode: Any
    decode: Any
    classify: Any
    denoise: Any

    def __init_subclass__(cls) -> None:
        if "family" in cls.__dict__:
            _FAMILIES[cls.family] = cls

    def __init__(self, architecture: Architecture, image_shape: ImageShape, labels: Sequence[str] = ()) -> None:  # noqa: ARG002 (subclasses build from them)
        super().__init__()
        self.image_shape = image_shape

    @abstractmethod
    def objective(self, given: Inputs) -> Outcome:
        """What is minimised and logged, in nats per image."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that each loss of the objective updates, by the loss's name; an optimizer for each."""
        return {"model": list(self.parameters())}


def families() -> dict[str, type[Network]]:
    """Every family by name."""
    return dict(_FAMILIES)
