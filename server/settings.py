"""Settings: dataclass fields with a description and limits, parsed from flags and environment variables.

Standard library only, because pydantic-settings took 30 % of the CPU time of the server's start.
"""

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, Self, get_args, get_origin, get_type_hints

PREFIX = "HOURGLASS_"
_TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class SettingsError(Exception):
    """Invalid settings, with a sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))


def setting(
    default: Any,  # noqa: ANN401 (the type of the field)
    description: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
) -> Any:  # noqa: ANN401 (as above)
    """Declare a dataclass field with a default (`...` if required), a description and limits of a number."""
    metadata = {"description": description, "least": least, "above": above, "most": most}
    return dataclasses.field(default=dataclasses.MISSING if default is ... else default, metadata=metadata)


def flag(name: str) -> str:
    """The command-line flag of a setting."""
    return f"--{name.replace('_', '-')}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """A group of settings, validated on construction; text is converted to the type of its field."""

    def __post_init__(self) -> None:
        """Validate each setting, then those that depend on each other.

        Raises:
            SettingsError: some are invalid.
        """
        hints = get_type_hints(type(self))
        problems: list[str] = []
        for field in dataclasses.fields(self):
            got = getattr(self, field.name)
            try:
                object.__setattr__(self, field.name, _value(hints[field.name], got, field.metadata))
            except ValueError as error:
                variable = f"{PREFIX}{field.name.upper()}"
                problems.append(f"{flag(field.name)} ({variable}): expected {error}, got {str(got)!r}")
        problems = problems or self.problems()
        if problems:
            raise SettingsError(problems)

    def problems(self) -> list[str]:
        """Problems of settings that depend on each other."""
        return []

    @classmethod
    def parse(cls, program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Parse settings from flags and, where those are absent, from non-empty environment variables.

        Raises:
            SettingsError: some are invalid or missing.
        """
        fields = dataclasses.fields(cls)
        given = {field.name: environment.get(f"{PREFIX}{field.name.upper()}") for field in fields}
        values: dict[str, Any] = {name: value for name, value in given.items() if value}
        values |= vars(_parser(cls, program).parse_args(arguments))
        missing = [field.name for field in fields if field.default is dataclasses.MISSING and field.name not in values]
        if missing:
            raise SettingsError([f"{flag(name)} ({PREFIX}{name.upper()}) is required" for name in missing])
        return cls(**values)

    @classmethod
    def unknown(cls, environment: Mapping[str, str]) -> list[str]:
        """Environment variables with the prefix of settings that are not settings."""
        known = {f"{PREFIX}{field.name.upper()}" for field in dataclasses.fields(cls)}
        return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError([f"{message}: see --help"])


def _parser(settings: type[Settings], program: str) -> argparse.ArgumentParser:
    parser = _Parser(program, f"{program} --repository FOLDER [--SETTING VALUE …]", allow_abbrev=False)
    hints = get_type_hints(settings)
    # The program's own settings before those of its parts.
    for field in sorted(dataclasses.fields(settings), key=lambda each: each.name not in settings.__annotations__):
        default = "required" if field.default is dataclasses.MISSING else field.default
        text = f"{field.metadata['description']} (default: {default})".replace("%", "%%")
        if hints[field.name] is bool:
            action: Any = argparse.BooleanOptionalAction
            parser.add_argument(flag(field.name), action=action, default=argparse.SUPPRESS, help=text)
        else:
            metavar = field.name.rpartition("_")[2].upper()
            parser.add_argument(flag(field.name), default=argparse.SUPPRESS, help=text, metavar=metavar)
    return parser


def _value(hint: Any, got: Any, rule: Mapping[str, Any]) -> Any:  # noqa: ANN401 (values of any type)
    """The value converted to its type.

    Raises:
        ValueError: says what was expected.
    """
    if got is None and NoneType in get_args(hint):
        return None
    kind = next((part for part in get_args(hint) if NoneType in get_args(hint)), hint)
    if get_origin(kind) is Literal:
        return _choice(get_args(kind), got)
    if kind is bool:
        return got if isinstance(got, bool) else _choice_of(_TRUTHS, got)
    if kind in {int, float}:
        return _number(kind, got, rule)
    return Path(str(got)) if kind is Path else str(got)


def _choice(choices: Sequence[str], got: object) -> object:
    if got not in choices:
        raise ValueError(f"one of {', '.join(map(repr, choices))}")
    return got


def _choice_of(choices: Mapping[str, bool], got: object) -> bool:
    return choices[str(_choice(tuple(choices), str(got).lower()))]


def _number(kind: type[int | float], got: Any, rule: Mapping[str, Any]) -> int | float:  # noqa: ANN401 (as above)
    least, above, most = rule["least"], rule["above"], rule["most"]
    try:
        number = kind(got)
    except (TypeError, ValueError):
        number = math.nan
    # Every comparison with NaN is false.
    fits = (least is None or number >= least) and (above is None or number > above) and (most is None or number <= most)
    if fits and math.isfinite(number) and (kind is float or number == float(got)):
        return number
    bounds = (("from", least), ("above", above), ("to", most))
    limits = "".join(f" {word} {bound:g}" for word, bound in bounds if bound is not None)
    raise ValueError(f"a {'whole ' if kind is int else ''}number{limits}")
