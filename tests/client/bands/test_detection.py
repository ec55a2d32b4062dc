"""Anomalies of images too large for one request, by both clients and a real server: as of the whole picture."""

import asyncio
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autoencoder.v1 import regions
from autoencoder.v1.model_pb2 import Detection
from autoencoder.v1.shapes import pad
from hourglass_client import AsyncClient, Client, Detected, InvalidArgumentError, NotFoundError, Region, requests
from PIL import Image

from tests.server import free_models
from tests.server.conftest import Served, serving

RNG = np.random.default_rng(5)
MOST_PIXELS = 20_000


def picture() -> np.ndarray:
    """Dark noise with defects, some of them across the edges of bands."""
    image = RNG.normal(0.2, 0.03, (301, 413, 1)).astype(np.float32)
    for row, column, height, width in ((0, 0, 3, 5), (130, 90, 30, 20), (296, 400, 5, 13), (60, 0, 4, 413)):
        image[row : row + height, column : column + width] += 0.7
    return image.clip(0, 1)


PICTURE = picture()


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    repository = tmp_path_factory.mktemp("models")
    detection = Detection()
    detection.CopyFrom(free_models.DETECTION)
    detection.calibrated_height = detection.calibrated_width = 80
    found = {
        "detector": free_models.write_detector(repository, smooth=True, detection=detection),
        "mean": free_models.write_detector(repository, "mean", smooth=True, score="mean"),
    }
    for name in ("calibrated_on", "calibrated_height", "calibrated_width"):
        detection.ClearField(name)
    free_models.write_detector(repository, "unknown", detection=detection)
    for path in repository.glob("*/1"):
        free_models.limit_pixels(path, MOST_PIXELS)
    return repository, found


def whole(graphs: tuple[Path, dict[str, bytes]], image: np.ndarray, model: str = "detector") -> np.ndarray:
    """What the graph gives for the whole picture, which the server pads to even sizes."""
    height, width = image.shape[:2]
    padded = pad(image[None], (height + height % 2, width + width % 2))
    return free_models.run(graphs[1][model], {"images": padded})[0][:, :height, :width]


def found(maps: np.ndarray, threshold: float) -> tuple[Region, ...]:
    each = regions.find(maps[..., 0], threshold)
    return tuple(Region(r.image, r.top, r.left, r.height, r.width, r.score) for r in each)


def test_score_map_and_regions_of_the_whole(client: Client, graphs: tuple[Path, dict[str, bytes]]) -> None:
    answer = client.detect(PICTURE, model="detector", map_format="float32")

    maps = whole(graphs, PICTURE)
    np.testing.assert_array_equal(answer.maps, maps)
    np.testing.assert_array_equal(answer.scores, [maps.max()])
    assert answer.regions == found(maps, np.float32(0.625))
    assert len(answer.regions) == 4
    assert answer.anomalous.tolist() == [True]
    assert (answer.threshold, answer.map_threshold) == (0.5, 0.625)
    assert answer.info.exact
    assert answer.info.tiles > 0


def test_a_mean(client: Client, graphs: tuple[Path, dict[str, bytes]]) -> None:
    answer = client.detect(PICTURE, model="mean")
    np.testing.assert_allclose(answer.scores, [whole(graphs, PICTURE).mean(dtype=np.float64)], rtol=1e-6)
    assert not answer.maps.size


@pytest.mark.parametrize("form", ["uint8", "uint16", "png", "png16"])
def test_maps_are_drawn_as_the_server_draws_them(client: Client, form: Any) -> None:
    small, large = (
        client.detect(image, model="detector", map_threshold=0.375, map_format=form)
        for image in (PICTURE[100:200, 50:150], PICTURE)
    )
    drawn, split = (
        np.asarray(Image.open(BytesIO(each.map_files[0])))[..., None] if each.map_files else each.maps[0]
        for each in (small, large)
    )
    assert drawn.dtype == np.uint16 if "16" in form else np.uint8
    # But for one pixel at the edge, the graph sees the same.
    np.testing.assert_array_equal(split[101:199, 51:149], drawn[1:-1, 1:-1])
    assert {0, np.iinfo(drawn.dtype).max} <= set(drawn.ravel().tolist())


def test_a_map_far_below_its_threshold_is_black(client: Client) -> None:
    answer = client.detect(PICTURE, model="detector", map_threshold=3.4e38, map_format="uint8")
    assert (answer.maps.shape, answer.maps.any()) == ((1, *PICTURE.shape), False)
    assert not answer.regions


def test_both_clients_agree(server: Served, client: Client) -> None:
    async def inside() -> Detected:
        async with AsyncClient(server.address) as later:
            return await later.detect(PICTURE, model="detector", threshold=1.5, map_threshold=0.25)

    given = client.detect(PICTURE, model="detector", threshold=1.5, map_threshold=0.25)
    assert asyncio.run(inside()).regions == given.regions
    assert given.anomalous.tolist() == [False]
    assert given.threshold == 1.5


def test_on_a_stream(client: Client, graphs: tuple[Path, dict[str, bytes]]) -> None:
    image = PICTURE[100:200, 50:150]
    given = {"in": requests.detect(image, model="detector"), "out": requests.detect(image, model="absent")}
    answers = dict(client.stream(given.items()))
    assert isinstance(answers["out"], NotFoundError)
    answer = answers["in"]
    assert isinstance(answer, Detected)
    maps = whole(graphs, image)
    np.testing.assert_array_equal(answer.scores, [maps.max()])
    assert answer.regions == found(maps, np.float32(0.625))


def test_files_some_of_which_fit(client: Client, graphs: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    bytes_ = np.rint(PICTURE * 255).astype(np.uint8)
    large, small = tmp_path / "large.png", tmp_path / "small.png"
    Image.fromarray(bytes_[..., 0]).save(large)
    Image.fromarray(bytes_[:40, :50, 0]).save(small)
    answer = client.detect([small, large], model="detector", map_format="png")
    scores = [whole(graphs, image.astype(np.float32) / 255).max() for image in (bytes_[:40, :50], bytes_)]
    np.testing.assert_array_equal(answer.scores, scores)
    assert {region.image for region in answer.regions} == {0, 1}
    assert [Image.open(BytesIO(file)).size for file in answer.map_files] == [(50, 40), (413, 301)]
    with pytest.raises(InvalidArgumentError, match="images of one size, got 40 x 50 to 301 x 413: ask for files"):
        client.detect([small, large], model="detector", map_format="uint8")


def test_many_images_of_the_calibrated_size_keep_its_promise(graphs: tuple[Path, dict[str, bytes]]) -> None:
    images, limit = RNG.normal(0.3, 0.03, (5, 80, 80, 1)).astype(np.float32), 100_000
    with (
        serving(graphs[0], poll_seconds=0, max_message_bytes=limit) as served,
        Client(served.address, message_bytes=limit) as client,
    ):
        answer = client.detect(images, model="detector", false_alarm_rate=0.1)
    assert answer.threshold == 0.25
    assert answer.scores.shape == (5,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"false_alarm_rate": 0.1},
            "expected images of 80 x 80 that fit in one request, for which rates",
        ),
        ({"map_threshold": 0.125, "map_format": "png"}, "map_threshold: expected more than 0.125, which"),
        ({"threshold": 1.0, "false_alarm_rate": 0.1}, "expected either threshold or false_alarm_rate, got both"),
        ({"threshold": np.nan}, "threshold: expected a finite number, got nan"),
    ],
)
def test_what_is_refused(client: Client, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        client.detect(PICTURE, model="detector", **options)
    assert words in str(raised.value)


def test_rates_of_unknown_origin(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="expected images of the calibrated size, which is not known, that"):
        client.detect(PICTURE, model="unknown", false_alarm_rate=0.1)
