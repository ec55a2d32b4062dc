"""The tests that docs/faults.md names exist."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEST = re.compile(r"`(tests/[\w/.]+)::(\w+)`")
PAGE = (ROOT / "docs" / "faults.md").read_text()


@cache
def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_exists() -> None:
    missing = [f"{path}::{name}" for path, name in TEST.findall(PAGE) if name not in functions(path)]
    assert missing == []


def test_every_fault_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| what"))]
    assert len(rows) > 60
    assert [row for row in rows if not TEST.search(row)] == []
