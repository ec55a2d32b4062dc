"""Writes the tables of docs/configuration.md from the server's settings: `make docs`."""  # noqa: INP001 (a script)

import dataclasses
import re
from pathlib import Path

from server import config

PAGE = Path(__file__).with_name("configuration.md")
MARKS = re.compile(r"(<!-- settings -->\n).*(<!-- end of settings -->\n)", re.DOTALL)
FIELDS = {field.name: field for field in dataclasses.fields(config.Config)}
GROUPS = [group for group in config.Config.__mro__[1:] if group.__module__ == config.__name__]


def tables() -> str:
    """One table a group of settings, those of the server as a whole first."""
    grouped = {name for group in GROUPS for name in group.__annotations__}
    own = {name: field for name, field in FIELDS.items() if name not in grouped}
    parts = [_table("The server", own)]
    for group in GROUPS:
        fields = {name: FIELDS[name] for name in group.__annotations__}
        parts.append(_table((group.__doc__ or "").strip().rstrip("."), fields))
    return "\n".join(parts)


def updated(page: str) -> str:
    """The page with the tables as they should be."""
    return MARKS.sub(lambda match: f"{match[1]}\n{tables()}\n{match[2]}", page)


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
    return field.metadata["description"].replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
