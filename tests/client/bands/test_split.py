"""Images too large for one request, by both clients and a real server: the bits of the whole picture."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT32, Model, SizeRange, Tiling
from autoencoder.v1.shapes import pad
from hourglass_client import AsyncClient, Client, InvalidArgumentError, requests
from hourglass_client.bands.split import job_of
from PIL import Image

from bundle import layout
from tests.server import free_models
from tests.server.conftest import Served, serving
from tests.server.models.test_manager import eventually

RNG = np.random.default_rng(5)
# Far beyond what the models take of one image.
PICTURE = RNG.integers(0, 65_536, (301, 413, 1), dtype=np.uint16)
MOST_PIXELS = 20_000


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A repository of models that take few pixels, and its graphs."""
    repository = tmp_path_factory.mktemp("models")
    found = free_models.write_autoencoder(repository)
    found["denoise"] = free_models.write_denoiser(repository)
    found["levels"] = free_models.write_denoiser(repository, "levels", levels=True)
    found["whole"] = free_models.write_denoiser(repository, "whole", whole=True)
    for path in repository.glob("*/1"):
        free_models.limit_pixels(path, MOST_PIXELS)
    return repository, found


def floats(image: np.ndarray) -> np.ndarray:
    return image[None].astype(np.float32) / np.float32(np.iinfo(image.dtype).max)


def whole(graph: bytes, rows: np.ndarray, **more: np.ndarray) -> np.ndarray:
    """What the graph gives for padded images, cropped."""
    height, width = rows.shape[1:3]
    padded = pad(rows, (height + height % 2, width + width % 2))
    return free_models.run(graph, {"images": padded, **more})[0][:, :height, :width]


def words(images: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(images, 0, 1) * np.float32(65_535)).astype(np.uint16)


def test_a_picture_of_sixteen_bits(client: Client, graphs: tuple[Path, dict[str, bytes]]) -> None:
    answer = client.denoise(PICTURE, model="free")

    np.testing.assert_array_equal(answer.images, words(whole(graphs[1]["denoise"], floats(PICTURE))))
    assert answer.info.exact
    assert answer.info.tiles > 0


def test_both_clients_agree(server: Served, client: Client) -> None:
    async def inside() -> Any:
        async with AsyncClient(server.address) as later:
            return await later.denoise(PICTURE, model="free", image_format="float32")

    given = client.denoise(PICTURE, model="free", image_format="float32")
    np.testing.assert_array_equal(asyncio.run(inside()).images, given.images)


@pytest.mark.parametrize("shape", [(3, 20_001), (20_011, 5), (142, 141), (200, 101)])
def test_long_and_narrow_ones(client: Client, graphs: tuple[Path, dict[str, bytes]], shape: tuple[int, int]) -> None:
    image = RNG.random((*shape, 1), np.float32)
    answer = client.denoise(image, model="free", image_format="float32")
    np.testing.assert_array_equal(answer.images, whole(graphs[1]["denoise"], image[None]))


def test_some_of_a_batch_fit(client: Client, graphs: tuple[Path, dict[str, bytes]]) -> None:
    noisy = RNG.normal(0.5, 0.4, (3, 150, 140, 1)).astype(np.float32)
    levels = [0.1, 0.2, 0.3]
    answer = client.denoise(noisy, model="levels", noise_level=levels, image_format="float32")
    expected = whole(graphs[1]["levels"], noisy, noise_levels=np.array(levels, np.float32))
    np.testing.assert_array_equal(answer.images, expected)


def test_files_are_split_by_the_rules_of_the_server(
    client: Client, graphs: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    large, small = tmp_path / "large.png", tmp_path / "small.png"
    Image.fromarray(PICTURE[..., 0]).save(large)
    Image.fromarray(PICTURE[:40, :50, 0]).save(small)

    answer = client.denoise([small, large], model="free", image_format="png16")

    for file, image in zip(answer.files, (PICTURE[:40, :50], PICTURE), strict=True):
        pixels = np.asarray(Image.open(BytesIO(file)))
        np.testing.assert_array_equal(pixels, words(whole(graphs[1]["denoise"], floats(image)))[0, ..., 0])
    with pytest.raises(InvalidArgumentError, match="images of one size, got 40 x 50 to 301 x 413: ask for files"):
        client.denoise([small, large], model="free")


def test_a_turned_photograph(client: Client, graphs: tuple[Path, dict[str, bytes]]) -> None:
    grey = (PICTURE[..., 0] >> 8).astype(np.uint8)
    image = Image.fromarray(grey)
    exif = image.getexif()
    exif[0x0112] = 6
    file = BytesIO()
    image.save(file, "TIFF", exif=exif)

    answer = client.denoise(file.getvalue(), model="free", image_format="float32")

    upright = np.ascontiguousarray(np.rot90(grey, -1))[..., None]
    np.testing.assert_array_equal(answer.images, whole(graphs[1]["denoise"], floats(upright)))


@pytest.mark.parametrize("form", ["float32", "uint8", "none"])
def test_reconstruction_with_its_error(client: Client, graphs: tuple[Path, dict[str, bytes]], form: Any) -> None:
    answer = client.reconstruct(PICTURE, model="free-ae", image_format=form)

    expected = whole(graphs[1]["reconstruct"], floats(PICTURE))
    error = np.mean((expected.astype(np.float64) - PICTURE / 65_535) ** 2)
    np.testing.assert_allclose(answer.squared_errors, [error], rtol=1e-6)
    if form == "float32":
        np.testing.assert_array_equal(answer.images, expected)
    elif form == "uint8":
        np.testing.assert_array_equal(answer.images, np.rint(np.clip(expected, 0, 1) * np.float32(255)))
    else:
        assert not answer.images.size


def test_reconstruction_of_an_array_too_large_to_copy(client: Client, graphs: tuple[Path, dict[str, bytes]]) -> None:
    image = RNG.random((40, 13_200, 1))
    assert image.nbytes > 2**22
    answer = client.reconstruct(image, model="free-ae", image_format="float32")
    np.testing.assert_array_equal(answer.images, whole(graphs[1]["reconstruct"], image[None].astype(np.float32)))


def test_spatial_codes_there_and_back(client: Client, graphs: tuple[Path, dict[str, bytes]]) -> None:
    encoded = client.encode(PICTURE, model="free-ae")
    padded = pad(floats(PICTURE), (302, 414))
    np.testing.assert_array_equal(encoded.latents, free_models.run(graphs[1]["encode"], {"images": padded})[0])

    decoded = client.decode(encoded.latents, model="free-ae", height=301, width=413, image_format="float32")
    expected = free_models.run(graphs[1]["decode"], {"latents": encoded.latents})[0][:, :301, :413]
    np.testing.assert_array_equal(decoded.images, expected)

    half = client.encode(PICTURE, model="free-ae", latent_format="float16").latents
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, encoded.latents.astype(np.float16))


def test_messages_beyond_the_limit_of_a_server(graphs: tuple[Path, dict[str, bytes]]) -> None:
    pictures = np.repeat(PICTURE[None, :120, :120], 9, axis=0)
    limit = 100_000
    with (
        serving(graphs[0], poll_seconds=0, max_message_bytes=limit) as served,
        Client(served.address, message_bytes=limit) as client,
    ):
        answer = client.denoise(pictures, model="free")
    expected = words(whole(graphs[1]["denoise"], floats(pictures[0])))
    np.testing.assert_array_equal(answer.images, np.repeat(expected, 9, axis=0))
    assert answer.info.batch_size >= 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda client: client.denoise(PICTURE, model="whole"),
            "expected at most 20000 pixels in an image, got 301 x 413: the model looks at the whole image",
        ),
        (
            lambda client: client.encode(PICTURE, model="free-ae", posterior="sample"),
            "a draw needs the whole image: take the mean and log_variances instead",
        ),
        (
            lambda client: client.denoise(PICTURE[None].repeat(3, 3), model="free"),
            "images: expected (N, H, W), (N, H, W, 1) or one image (H, W, 1), got (1, 301, 413, 3)",
        ),
        (
            lambda client: client.decode(np.zeros((200, 200, 2), np.float32), model="free-ae", height=401),
            "height: expected 1 to 400, which the latents decode to, got 401",
        ),
        (
            lambda client: client.denoise(PICTURE, model="levels", noise_level=0.7),
            "noise_levels[0]: expected a level from 0 to 0.5, got 0.7",
        ),
        (
            lambda client: client.denoise(np.full((200, 200, 1), np.nan), model="free"),
            "NaN",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(client: Client, call: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        call(client)
    assert words in refused.value.message


def test_a_graph_that_sees_far() -> None:
    """No server: it would take a minute to prove such tiles."""
    model = Model(name="far", version="1", channels=1, sizes=SizeRange(multiple=2, minimum=1, maximum_pixels=700_000))
    graph = model.signatures.add(name="denoise")
    graph.inputs.add(name="images", data_type=DATA_TYPE_FLOAT32)
    graph.tiling.CopyFrom(Tiling(halo=370, multiple=2, tile=1000, exact=True))

    job = job_of(requests.denoise(np.tile(PICTURE, (3, 2, 1))), model, 2**26)

    assert job is not None
    assert job.prepare() == 2
    assert [list(each.images.tensor.shape) for each in job.requests()] == [[1, 846, 826, 1], [1, 797, 826, 1]]


def test_a_model_that_is_replaced_by_one_of_other_sizes(tmp_path: Path) -> None:
    free_models.write_denoiser(tmp_path / "models", size=70)
    free_models.write_denoiser(tmp_path / "next")
    version = tmp_path / "next" / "free" / "1"
    model = layout.read_model(version)
    model.version, model.sizes.maximum_pixels = "2", MOST_PIXELS
    (version / layout.MODEL_FILE).write_bytes(layout.encode_model(model))
    with serving(tmp_path / "models", poll_seconds=0) as served, Client(served.address) as client:
        assert client.denoise(PICTURE[:70, :70], model="free").info.model_version == "1"
        version.rename(tmp_path / "models" / "free" / "2")
        served.app.manager.rescan()
        eventually(lambda: client.get_model("free").version == "2")
        with pytest.raises(InvalidArgumentError, match="at most 20000 pixels"):
            client.denoise(PICTURE, model="free")
        assert client.denoise(PICTURE, model="free").images.shape == (1, *PICTURE.shape)


def test_a_version_that_goes_while_bands_are_on_their_way(tmp_path: Path) -> None:
    large = np.tile(PICTURE, (2, 2, 1))
    for version in ("1", "2"):
        free_models.write_denoiser(tmp_path / version)
        free_models.limit_pixels(tmp_path / version / "free" / "1", MOST_PIXELS)
    repository = tmp_path / "1"
    renamed = tmp_path / "2" / "free" / "1"
    model = layout.read_model(renamed)
    model.version = "2"
    (renamed / layout.MODEL_FILE).write_bytes(layout.encode_model(model))
    with serving(repository, poll_seconds=0) as served, Client(served.address) as client:
        first = client.denoise(large, model="free")
        assert first.info.model_version == "1"
        with ThreadPoolExecutor() as pool:
            later = pool.submit(client.denoise, large, model="free")
            renamed.rename(repository / "free" / "2")
            (repository / "free" / "1").rename(tmp_path / "gone")
            served.app.manager.rescan()
            eventually(lambda: [each.version for each in client.list_models()] == ["2"])
            # Its bands are all of one version, whichever that is.
            np.testing.assert_array_equal(later.result().images, first.images)
        again = client.denoise(large, model="free")
    assert again.info.model_version == "2"
    np.testing.assert_array_equal(again.images, first.images)
