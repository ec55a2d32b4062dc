"""Damaged and hostile files of a run, recipes and settings: one sentence, exit code 2, and no memory for a lie.

`TEST_EXAMPLES=500` tries more of them, as `make fuzz` does.
"""

import json
import logging
import resource
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests.reliability.mutation import FUZZED, damaged
from training import checkpoint
from training.__main__ import main
from training.data import dataset
from training.data.dataset import Dataset
from training.distributed import ProcessGroup
from training.errors import CheckpointError, ConfigError
from training.recipe import load_recipe
from training.run import provenance
from training.run.directory import RunDirectory
from training.state import TrainingState
from training.train import train

LOG = logging.getLogger(__name__)
CPU = torch.device("cpu")
SETTINGS = ("run.epochs=2", "run.batch_size=1000", "model.latent_size=4", "model.code_activation=none")
DEEP = 100_000
GONE = object()
# Integers that Python reads but does not print are written in hexadecimal.
HOSTILE = [
    GONE,
    None,
    True,
    0,
    -1,
    2**31,
    2**70,
    1e308,
    float("nan"),
    "",
    "x" * 10_000,
    "\udcff",
    [],
    [[]],
    {},
    {"a": 1},
]


def paths(value: object, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a nest of dictionaries and lists."""
    yield place
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from paths(each, (*place, name))


def replaced(value: Any, place: tuple[Any, ...], other: object) -> Any:
    """A copy with another value at one place."""
    if not place:
        return None if other is GONE else other
    copy = dict(value) if isinstance(value, Mapping) else list(value)
    if other is GONE and len(place) == 1:
        del copy[place[0]]
    else:
        copy[place[0]] = replaced(value[place[0]], place[1:], other)
    return copy


def outcome(read: Callable[[], object]) -> str:
    """Whether files are read or refused in one sentence; anything else fails."""
    try:
        read()
    except CheckpointError as error:
        said = str(error)
    else:
        return "read"
    assert "\n" not in said
    assert len(said) < 2_000
    return "refused"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(load_recipe("fc-ae", "digits", SETTINGS), folder)
    return folder


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return dataset.digits()


def test_any_other_value_in_checkpoint_json(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run / "best", tmp_path / "best"))
    meta = json.loads((folder / checkpoint.META).read_text())
    outcomes = {"read": 0, "refused": 0}

    @FUZZED
    @given(st.sampled_from(sorted(paths(meta), key=str)), st.sampled_from(HOSTILE))
    def attack(place: tuple[Any, ...], other: object) -> None:
        (folder / checkpoint.META).write_text(json.dumps(replaced(meta, place, other)))
        outcomes[outcome(lambda: provenance.origin(checkpoint.load(folder).meta, folder))] += 1

    attack()
    LOG.info("checkpoint.json with another value: %s", outcomes)


@pytest.mark.parametrize(
    "text",
    [
        "[" * DEEP,
        '{"a":' * DEEP,
        "9" * 5_000,
        '{"format_version": 1}',
        '{"format_version": 1, "data": 3}',
        '{"format_version": 1, "config": [], "data": {}}',
        "[]",
        "",
    ],
    ids=["deep list", "deep object", "5,000 digits", "no config", "data no object", "no run", "a list", "empty"],
)
def test_a_checkpoint_json_of_another_kind_is_one_sentence(
    run: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("latest", "best"):
        shutil.copytree(run / name, tmp_path / name)
        (tmp_path / name / checkpoint.META).write_text(text)
    words = ["fc-ae", "--out", str(tmp_path), "--resume", *(word for each in SETTINGS for word in ("--set", each))]
    for command in (words, ["evaluate", str(tmp_path)], ["attributes", str(tmp_path)]):
        assert main(command) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert [line for line in lines if line.startswith("error:")] == lines[-1:]
        assert str(tmp_path) in lines[-1]


def test_a_finished_run_whose_best_checkpoint_is_damaged_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "best" / checkpoint.META
    path.write_text(json.dumps({**json.loads(path.read_text()), "metrics": 3}))
    words = ["--out", str(tmp_path / "run"), "--resume", *(word for each in SETTINGS for word in ("--set", each))]
    assert main(["fc-ae", *words]) == 2
    assert "does not describe a run: metrics" in capsys.readouterr().err.splitlines()[-1]


def test_a_network_that_its_weights_do_not_fit_gets_no_memory(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run / "best", tmp_path / "best"))
    meta = json.loads((folder / checkpoint.META).read_text())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for changed in ({"latent_size": 700_000}, {"latent_size": 2**31 - 1}, {"hidden": [2**31 - 1] * 64}):
        meta["model"]["architecture"] |= changed
        (folder / checkpoint.META).write_text(json.dumps(meta))
        with pytest.raises(CheckpointError, match=r"damaged: .*(expected shape|too large)"):
            checkpoint.load(folder)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    LOG.info("three networks of up to 10^20 parameters: %.0f MiB", grown)
    assert grown < 500


def restored(folder: Path, digits: Dataset) -> None:
    settings = load_recipe("fc-ae", "digits", SETTINGS)
    saved = RunDirectory(folder, settings, digits).restore(CPU)
    TrainingState(settings, digits, CPU, ProcessGroup()).load_state_dict(saved)


def test_any_other_value_in_state_pt(run: Path, tmp_path: Path, digits: Dataset) -> None:
    shutil.copytree(run / "latest", tmp_path / "latest")
    path = tmp_path / "latest" / checkpoint.STATE
    state = torch.load(path, weights_only=True)
    # The last has ten million numbers in four bytes.
    others = [*HOSTILE, torch.zeros(()), torch.zeros(3), torch.zeros(2, dtype=torch.int8), torch.zeros(1).expand(10**7)]
    outcomes = {"read": 0, "refused": 0}

    @FUZZED
    @example(("progress", "history"), others[-1])
    @given(st.sampled_from(sorted(paths(state), key=str)), st.sampled_from(others))
    def attack(place: tuple[Any, ...], other: object) -> None:
        torch.save(replaced(state, place, other), path)
        outcomes[outcome(lambda: restored(tmp_path, digits))] += 1

    restored(tmp_path, digits)
    attack()
    LOG.info("state.pt with another value: %s", outcomes)


def test_damaged_bytes_of_state_pt(run: Path, tmp_path: Path, digits: Dataset) -> None:
    shutil.copytree(run / "latest", tmp_path / "latest")
    path = tmp_path / "latest" / checkpoint.STATE
    valid = path.read_bytes()

    @FUZZED
    @example(b"")
    @given(damaged(valid))
    def attack(data: bytes) -> None:
        path.write_bytes(data)
        outcome(lambda: restored(tmp_path, digits))

    attack()


@pytest.mark.parametrize("saved", [[], {}, None, 3, "x", {"model": {}}, [torch.zeros(3)]], ids=repr)
def test_a_state_of_another_kind_is_one_sentence(
    run: Path, tmp_path: Path, saved: object, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run / "latest", tmp_path / "latest")
    torch.save(saved, tmp_path / "latest" / checkpoint.STATE)
    words = ["fc-ae", "--out", str(tmp_path), "--resume", *(word for each in SETTINGS for word in ("--set", each))]
    assert main(words) == 2
    assert "state.pt is damaged" in capsys.readouterr().err.splitlines()[-1]


DIGITS = "9" * 5_000
TEXTS = [
    DIGITS,
    f"0x{'f' * 5_000}",
    "[" * DEEP,
    "{a = " * 200,
    "1e999",
    "-inf",
    '"\\ud800"',
    "1979-05-27",
    "[[]]",
    "",
    "1\n[other]\nb = 2",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("name", ["run.epochs", "model.hidden", "model.latent_size", "optimizer.learning_rate", "run"])
def test_a_value_that_no_setting_takes_is_one_sentence(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_recipe("vae", "digits", [f"{name}={text}"])
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 2_000


@pytest.mark.parametrize("override", [f"{'a.' * 5_000}b=1", f"{'a' * 100_000}=1", "=", "a", "run.=1", "ru n.a=1"])
def test_a_name_that_no_setting_has_is_one_sentence(override: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_recipe("vae", "digits", [override])
    assert len(str(refused.value)) < 2_000


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * DEEP, f"a = {DIGITS}", "on = 3", "on.digits = 3", "model = 3", "run = []", "\x00", "[a" * 9],
    ids=range(8),
)
def test_a_recipe_of_another_kind_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hostile.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_recipe(str(path), "digits")
    assert "\n" not in str(refused.value)


def test_a_recipe_of_other_bytes(tmp_path: Path) -> None:
    path = tmp_path / "hostile.toml"

    @FUZZED
    @given(damaged((Path(load_recipe.__globals__["RECIPES"]) / "vae.toml").read_bytes()))
    def attack(data: bytes) -> None:
        path.write_bytes(data)
        try:
            load_recipe(str(path), "digits")
        except ConfigError:
            return

    attack()
