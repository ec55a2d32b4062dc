"""The runs of a reproduction on MNIST: every recipe for it, and one with the settings of a published figure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from training.config import Config
from training.recipe import load_recipe, recipe_names

# 7 hours of a core: for a GPU.
_GPU_RECIPES = ("iwae",)


@dataclass(frozen=True)
class RunSpec:
    """A run by name: a recipe, with overrides `section.name=value` and expectations of its own where it has such."""

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()
    expected: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        """What `python -m training` makes of it."""
        return load_recipe(self.recipe, "mnist", self.overrides, {"expected": self.expected})

    @property
    def on_cpu(self) -> bool:
        """Whether a CPU can train it in minutes."""
        return self.recipe not in _GPU_RECIPES


_TEN_EPOCHS = RunSpec(
    "vae-10-epochs",
    "vae",
    ("run.epochs=10", "run.batch_size=64"),
    {"at_most": {"elbo_loss": 104.5}, "minutes": 2.0, "shortfall": ""},
)
_RECIPES = [name for name in recipe_names() if load_recipe(name, None).expected.on == "mnist"]
RUNS = (*(RunSpec(name, name) for name in _RECIPES), _TEN_EPOCHS)
