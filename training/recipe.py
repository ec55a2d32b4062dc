"""Recipes: read a configuration from TOML, its table for the data set, and overrides from the command line."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from training.config import Config
from training.errors import ConfigError, one_line, short_repr

RECIPES = Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def summaries() -> dict[str, str]:
    """What each of these recipes is for."""
    return {
        name: tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))["summary"]
        for name in recipe_names()
    }


def load_recipe(
    recipe: str, kind: str | None, overrides: Iterable[str] = (), settings: Mapping[str, Any] | None = None
) -> Config:
    """Read a recipe; apply, in order, its `[on.KIND]` table, `settings`, and `section.name=value` overrides.

    Without a kind it is the recipe's own, else digits.

    Raises:
        ConfigError: no such recipe, an unknown setting, or a value out of range.
    """
    try:
        values = _read(recipe)
        _merge(values, _table(values.pop("on", {}), kind or _own_kind(values)))
        _merge(values, settings or {})
        for override in overrides:
            _merge(values, _parse(override))
    except RecursionError:
        raise ConfigError(f"{recipe}: its settings are nested too deeply: expected section.name=value") from None
    from training import unused_settings  # noqa: PLC0415 (loads PyTorch, for which --help need not wait)

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
    from training import unused_settings  # noqa: PLC0415 (loads PyTorch, for which --help need not wait)

    try:
        found = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("the configuration is invalid: " + "; ".join(map(_complaint, error.errors()))) from None
    if useless := list(unused_settings.find(found)):
        raise ConfigError("the configuration sets what has no effect: " + "; ".join(useless))
    return found


def _complaint(error: Mapping[str, Any]) -> str:
    """What is wrong with one setting."""
    place = tuple(one_line(str(part)) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{'.'.join(place)}: there is no such setting; {_suggestion(place)}"
    return f"{'.'.join(place)}: {error['msg']} (got {short_repr(error['input'])})"


def _suggestion(place: Sequence[str]) -> str:
    """The setting that was probably meant by an unknown one, or all that it could have been."""
    section = Config.model_fields[place[0]].annotation if len(place) > 1 else Config
    known = list(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []
    if meant := closest(place[-1], known):
        return f"did you mean {'.'.join([*place[:-1], meant])}?"
    elsewhere = [
        f"{name}.{place[-1]}" for name, field in Config.model_fields.items() if _has(field.annotation, place[-1])
    ]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    return f"{'.'.join(place[:-1]) or 'a recipe'} has {', '.join(known)}"


def _has(section: object, name: str) -> bool:
    return isinstance(section, type) and issubclass(section, BaseModel) and name in section.model_fields


def closest(name: str, known: Sequence[str]) -> str | None:
    """The known name that another one resembles, abbreviates (`lr`) or begins or ends (`size`), if there is one."""
    for each in known:
        if name in {"".join(word[0] for word in each.split("_")), *each.split("_")}:
            return each
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


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
        known = recipe_names()
        meant = closest(recipe, known)
        hint = f"did you mean {meant}? " if meant else ""
        raise ConfigError(f"no recipe {recipe!r}: {hint}give one of {', '.join(known)}, or the path of a .toml file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    # A ValueError that is not a TOMLDecodeError: an integer of more digits than Python reads.
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {one_line(error)}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {one_line(error)}") from None


def _table(on: object, kind: str) -> Mapping[str, Any]:
    """The settings of a recipe for one data set."""
    found = cast("Mapping[str, object]", on).get(kind, {}) if isinstance(on, Mapping) else on
    if not isinstance(found, Mapping):
        raise ConfigError(f"on.{kind}: expected a table of settings for this data set, got {short_repr(found)}")
    return cast("Mapping[str, Any]", found)


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for name, change in changes.items():
        if isinstance(change, Mapping) and isinstance(values.get(name), dict):
            _merge(values[name], change)
        else:
            values[name] = change


def _parse(override: str) -> dict[str, Any]:
    name, equals, text = override.partition("=")
    if not equals or not all(part.isidentifier() for part in name.split(".")):
        expected = "an override is section.name=value, as in optimizer.learning_rate=1e-3"
        raise ConfigError(f"{expected}; got {short_repr(override)}")
    value = _value(name, text)
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def _value(name: str, text: str) -> Any:  # noqa: ANN401 (whatever TOML can say)
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text  # a bare word is a string
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: not a value ({one_line(error)}); got {short_repr(text)}") from None
    return found["value"] if len(found) == 1 else text


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat
