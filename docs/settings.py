"""Writes the tables of docs/configuration.md from the server's settings: `make docs`."""  # noqa: INP001 (a script)

import re
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from server import config

PAGE = Path(__file__).with_name("configuration.md")
MARKS = re.compile(r"(<!-- settings -->\n).*(<!-- end of settings -->\n)", re.DOTALL)
GROUPS = [group for group in config.Config.__mro__[1:] if group.__module__ == config.__name__]


def tables() -> str:
    """One table a group of settings, those of the server as a whole first."""
    grouped = {name for group in GROUPS for name in group.__annotations__}
    own = {name: field for name, field in config.Config.model_fields.items() if name not in grouped}
    parts = [_table("The server", own)]
    for group in GROUPS:
        fields = {name: config.Config.model_fields[name] for name in group.__annotations__}
        parts.append(_table((group.__doc__ or "").strip().rstrip("."), fields))
    return "\n".join(parts)


def updated(page: str) -> str:
    """The page with the tables as they should be."""
    return MARKS.sub(lambda match: f"{match[1]}\n{tables()}\n{match[2]}", page)


def _table(title: str, fields: dict[str, FieldInfo]) -> str:
    rows = [
        f"| `--{name.replace('_', '-')}` | `HOURGLASS_{name.upper()}` | {_default(field)} | {_text(field)} |"
        for name, field in fields.items()
    ]
    return "\n".join(
        [f"### {title}", "", "| flag | environment | default | meaning |", "| --- | --- | --- | --- |", *rows, ""]
    )


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return "none"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


def _text(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
