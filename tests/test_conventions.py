"""The house rules that a linter does not know: sizes, names, and a test for every module."""

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.coverage_map import COVERED_BY

ROOT = Path(__file__).resolve().parents[1]
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
PROGRAMS = ("server", "training", "export", "bundle", "client/hourglass_client")
MAX_MODULES = 15


def tracked(*patterns: str) -> list[Path]:
    names = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in names.splitlines() if not GENERATED.search(name) and (ROOT / name).is_file()]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


SOURCES = tracked("*.py")
MODULES = [path for path in tracked(*(f"{program}/*.py" for program in PROGRAMS)) if path.stem != "__init__"]


def mirrored(module: Path) -> Path:
    """tests/server/codec/test_images.py for server/codec/images.py."""
    place = module.relative_to(ROOT)
    place = Path("client", *place.parts[2:]) if place.parts[0] == "client" else place
    return ROOT / "tests" / place.parent / f"test_{place.stem.strip('_')}.py"


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


def test_folders_hold_few_modules() -> None:
    folders = Counter(name(path.parent) for path in MODULES)
    assert {folder: count for folder, count in folders.items() if count > MAX_MODULES} == {}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_has_a_test_of_its_name_or_says_which_covers_it(path: Path) -> None:
    covering = COVERED_BY.get(name(path))
    if mirrored(path).exists():
        assert covering is None, "it has a test of its own name: drop its line"
        return
    assert covering is not None, f"expected {name(mirrored(path))}, or a line in tests/coverage_map.py"
    assert (ROOT / covering).is_file()


def test_lines_about_modules_that_are_gone_go_too() -> None:
    assert COVERED_BY.keys() <= {name(path) for path in MODULES}


def test_nothing_left_undone() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|raise NotImplementedError)\b")
    left = [name(path) for path in SOURCES if path != Path(__file__).resolve() and words.search(path.read_text())]
    assert not left


def test_no_data_set_and_no_large_file_is_committed() -> None:
    large = [name(path) for path in tracked() if path.stat().st_size > 2 * 2**20]
    data = [name(path) for path in tracked() if re.search(r"ubyte(\.gz)?$", path.name)]
    assert not large
    assert not data
