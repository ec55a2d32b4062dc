"""`hourglass score`: nats of files and folders, the same in one request and in many, and wrong usage."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import hourglass_client.cli.calls
import numpy as np
import pytest
from hourglass_client import AsyncClient, Client, requests
from hourglass_client.cli.main import main
from PIL import Image

from tests.server import score_models
from tests.server.conftest import Served, pixels, serving

SHAPE = (score_models.SIDE, score_models.SIDE, 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    repository = tmp_path_factory.mktemp("models")
    score_models.write_scorer(repository)
    with serving(repository, poll_seconds=0) as served:
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "digits"
    (made / "sub").mkdir(parents=True)
    for name, image in zip(("a.png", "b.png", "sub/c.png"), pixels(3, SHAPE), strict=True):
        Image.fromarray(image[..., 0]).save(made / name)
    return made


def test_a_folder_and_its_mean(
    server: Served, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(server.address) as client:
        wanted = client.score(pixels(3, SHAPE), samples=9, seed=4).log_likelihoods.tolist()
        first, *_ = client.stream([("x", requests.score(pixels(3, SHAPE), samples=9, seed=4))])
    assert first[1].log_likelihoods.tolist() == wanted
    given = ["score", str(folder), "--samples", "9", "--seed", "4", "--address", server.address]
    assert main([*given, "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert [(row["image"], row["nats"]) for row in whole["items"]] == list(
        zip(("a", "b", "sub/c"), wanted, strict=True)
    )
    assert (whole["seed"], whole["images"]) == (4, 3)
    assert whole["mean_nats"] == pytest.approx(np.mean(wanted))
    monkeypatch.setattr(hourglass_client.cli.calls, "_SAMPLES_AT_ONCE", 9)
    assert main([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == whole
    assert main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "nats"]
    assert lines[-1].startswith("mean_nats: ")


def test_without_a_seed_all_requests_have_that_of_the_first(
    server: Served, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hourglass_client.cli.calls, "_SAMPLES_AT_ONCE", 1)
    assert main(["score", str(folder), "--address", server.address, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    with Client(server.address) as client:
        wanted = client.score(pixels(3, SHAPE), seed=found["seed"]).log_likelihoods.tolist()
    assert [row["nats"] for row in found["items"]] == wanted


@pytest.mark.parametrize("wrong", ["--samples=0", "--samples=many", "--seed=-1", "--samples=300000"])
def test_wrong_usage_ends_with_2(server: Served, folder: Path, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    given = ["score", str(folder), "--address", server.address, wrong]
    try:
        code = main(given)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert "expected" in capsys.readouterr().err


def test_asynchronously(server: Served) -> None:
    async def inside() -> list[float]:
        async with AsyncClient(server.address) as client:
            answer = await client.score(pixels(2, SHAPE), seed=1, first_index=1)
            return answer.log_likelihoods.tolist()

    with Client(server.address) as client:
        wanted = client.score(pixels(2, SHAPE), seed=1, first_index=1).log_likelihoods.tolist()
    assert asyncio.run(inside()) == wanted
