"""Recipes: read a configuration from TOML, its table for the data set, and overrides from the command line."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training import unused_settings
from training.config import Config
from training.errors import ConfigError

RECIPES = Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(
    recipe: str, kind: str | None, overrides: Iterable[str] = (), settings: Mapping[str, Any] | None = None
) -> Config:
    """Read a recipe; apply, in order, its `[on.KIND]` table, `settings`, and `section.name=value` overrides.

    Without a kind it is the recipe's own, else digits.

    Raises:
        ConfigError: no such recipe, an unknown setting, or a value out of range.
    """
    values = _read(recipe)
    _merge(values, values.pop("on", {}).get(kind or _own_kind(values), {}))
    _merge(values, settings or {})
    for override in overrides:
        _merge(values, _parse(override))
    config = parse_config(values)
    if useless := list(unused_settings.find_in_data(config.data)):
        raise ConfigError("the configuration sets what has no effect: " + "; ".join(useless))
    return config


def _own_kind(values: Mapping[str, Any]) -> str:
    """The kind of data set that the recipe itself names."""
    data = values.get("data")
    return str(data.get("kind", "digits")) if isinstance(data, Mapping) else "digits"


def parse_config(values: Mapping[str, Any]) -> Config:
    """Validate plain values into a configuration.

    Raises:
        ConfigError: lists every wrong value, or every setting that would have no effect.
    """
    try:
        found = Config.model_validate(values)
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, each['loc']))}: {each['msg']} (got {each['input']!r})" for each in error.errors())
        raise ConfigError("the configuration is invalid: " + "; ".join(lines)) from None
    if useless := list(unused_settings.find(found)):
        raise ConfigError("the configuration sets what has no effect: " + "; ".join(useless))
    return found


def differences(wanted: Config, found: Config) -> list[str]:
    """Settings on which two configurations differ, as `name: a, not b`."""
    ours, theirs = _flat(wanted.model_dump(mode="json")), _flat(found.model_dump(mode="json"))
    names = sorted(ours.keys() | theirs.keys())
    return [
        f"{name}: {theirs.get(name)!r}, not {ours.get(name)!r}" for name in names if ours.get(name) != theirs.get(name)
    ]


def _read(recipe: str) -> dict[str, Any]:
    path = Path(recipe) if recipe.endswith(".toml") else RECIPES / f"{recipe}.toml"
    if not path.is_file():
        raise ConfigError(f"no recipe {recipe!r}: give one of {', '.join(recipe_names())}, or the path of a .toml file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for name, change in changes.items():
        if isinstance(change, Mapping) and isinstance(values.get(name), dict):
            _merge(values[name], change)
        else:
            values[name] = change


def _parse(override: str) -> dict[str, Any]:
    name, equals, text = override.partition("=")
    if not equals or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"an override is section.name=value, as in optimizer.learning_rate=1e-3; got {override!r}")
    value = _value(text)
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def _value(text: str) -> Any:  # noqa: ANN401 (whatever TOML can say)
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word is a string


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat
