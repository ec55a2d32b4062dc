"""Writes the tables of settings in docs/configuration.md and docs/training.md: `make docs`."""  # noqa: INP001 (a script)

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from server import config
from server.settings import Settings
from training.config import Config, Section

FOLDER = Path(__file__).parent
MARKS = re.compile(r"(<!-- settings -->\n).*(<!-- end of settings -->\n)", re.DOTALL)
FIELDS = {field.name: field for field in dataclasses.fields(config.Config)}
GROUPS = [group for group in config.Config.__mro__[1:] if issubclass(group, Settings) and group is not Settings]


def tables() -> str:
    """One table a group of settings, those of the server as a whole first."""
    grouped = {name for group in GROUPS for name in group.__annotations__}
    own = {name: field for name, field in FIELDS.items() if name not in grouped}
    parts = [_table("The server", own)]
    for group in GROUPS:
        fields = {name: FIELDS[name] for name in group.__annotations__}
        parts.append(_table((group.__doc__ or "").strip().rstrip("."), fields))
    return "\n".join(parts)


def recipe_tables() -> str:
    """One table a section of a recipe."""
    sections = {name: field.annotation for name, field in Config.model_fields.items()}
    return "\n".join(
        _section(name, kind)
        for name, kind in sections.items()
        if isinstance(kind, type) and issubclass(kind, Section) and name != "expected"
    )


PAGES: dict[str, Callable[[], str]] = {"configuration.md": tables, "training.md": recipe_tables}


def updated(page: str, text: str) -> str:
    """The text of a page with the tables as they should be."""
    return MARKS.sub(lambda match: f"{match[1]}\n{PAGES[page]()}\n{match[2]}", text)


def _section(name: str, kind: type[Section]) -> str:
    rows = [
        f"| `{name}.{field}` | {_plain(found)} | {_escaped(found.description or '')}{_choices(found)} |"
        for field, found in kind.model_fields.items()
    ]
    about = (kind.__doc__ or "").strip()
    return "\n".join(
        [f"### `[{name}]`", "", about, "", "| setting | default | meaning |", "| --- | --- | --- |", *rows, ""]
    )


def _plain(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return "none" if value is None else f"`{json.dumps(value)}`"


def _choices(field: FieldInfo) -> str:
    if get_origin(field.annotation) is not Literal:
        return ""
    return f" One of {', '.join(f'`{each}`' for each in get_args(field.annotation))}."


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(title: str, fields: dict[str, dataclasses.Field]) -> str:
    rows = [
        f"| `--{name.replace('_', '-')}` | `HOURGLASS_{name.upper()}` | {_default(field)} | {_text(field)} |"
        for name, field in fields.items()
    ]
    return "\n".join(
        [f"### {title}", "", "| flag | environment | default | meaning |", "| --- | --- | --- | --- |", *rows, ""]
    )


def _default(field: dataclasses.Field) -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None:
        return "none"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


def _text(field: dataclasses.Field) -> str:
    return _escaped(field.metadata["description"])


if __name__ == "__main__":
    for name in PAGES:
        (FOLDER / name).write_text(updated(name, (FOLDER / name).read_text()))
