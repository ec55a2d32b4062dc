"""The runs of a reproduction on MNIST: every recipe for it, and one with the settings of a published figure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from training.config import Config
from training.recipe import load_recipe, recipe_names

# Hours or days of a core: for a GPU.
_GPU_RECIPES = ("iwae", "resnet-flow")
# Folders of further seeds; that of seed 0 has the run's own name.
_SEEDED = re.compile(r"(?P<name>.+)-seed-(?P<seed>\d+)")


@dataclass(frozen=True)
class RunSpec:
    """A run by name: a recipe, with overrides `section.name=value` and expectations of its own where it has such."""

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()
    expected: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def folder(self) -> str:
        """Of the run, and of its record."""
        return f"{self.name}-seed-{self.seed}" if self.seed else self.name

    @property
    def settings(self) -> tuple[str, ...]:
        """All overrides, that of the seed included."""
        return (*self.overrides, f"run.seed={self.seed}") if self.seed else self.overrides

    @property
    def config(self) -> Config:
        """What `python -m training` makes of it."""
        return load_recipe(self.recipe, "mnist", self.settings, {"expected": self.expected})

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


def with_seeds(specs: Iterable[RunSpec], seeds: int) -> list[RunSpec]:
    """Each run once for every seed from 0 on."""
    return [replace(each, seed=seed) for each in specs for seed in range(seeds)]


def run_name(folder: str) -> str:
    """The name of the run that is in a folder, whatever its seed."""
    found = _SEEDED.fullmatch(folder)
    return found["name"] if found else folder
