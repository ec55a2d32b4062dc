"""The rules of the house that a linter does not know."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")


def tracked(*patterns: str) -> list[Path]:
    names = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in names.splitlines() if not GENERATED.search(name) and (ROOT / name).is_file()]


SOURCES = tracked("*.py")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_file_is_short_and_well_named(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    assert path.stem.rstrip("s") not in {"util", "helper", "misc", "common"}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_are_short(path: Path) -> None:
    long = [
        f"{node.name}: {length} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := node.end_lineno - node.lineno + 1) > 50
    ]
    assert not long


def test_nothing_left_undone() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|raise NotImplementedError)\b")
    left = [name(path) for path in SOURCES if path != Path(__file__).resolve() and words.search(path.read_text())]
    assert not left


def test_no_data_set_and_no_large_file_is_committed() -> None:
    large = [name(path) for path in tracked() if path.stat().st_size > 2 * 2**20]
    data = [name(path) for path in tracked() if re.search(r"ubyte(\.gz)?$", path.name)]
    assert not large
    assert not data
