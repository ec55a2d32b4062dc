"""One file, one image: training and server read files of every kind to the same pixels, bit for bit."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hourglass_client import Client
from onnx import helper
from PIL import Image

from tests.image_kinds import exif, kinds, saved
from tests.server.conftest import TRANSPORTS, serving, write_graph
from training.config import Data
from training.data import dataset

SIDE = 32


@pytest.fixture(scope="module", params=TRANSPORTS)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a server whose model answers with the images that it was given."""
    repository = tmp_path_factory.mktemp("models")
    write_graph(repository, "echo", 1, [helper.make_node("Identity", ["images"], ["denoised"])], [])
    with serving(repository, transport=request.param) as served, Client(served.address) as connected:
        yield connected


def trained_on(folder: Path, size: int) -> np.ndarray:
    """(N, H, W, 1) as training sees them, in the order of the files' names."""
    found = dataset.load(Data(kind="folder", folder=str(folder), grey=True, size=size))
    splits = (found.train, found.validation, found.test)
    order = np.argsort(np.concatenate([split.positions for split in splits]))
    return np.concatenate([split.images for split in splits])[order]


def write(folder: Path, files: dict[str, bytes]) -> list[Path]:
    for name, file in files.items():
        (folder / name).write_bytes(file)
    return sorted(folder.iterdir())


def test_files_as_they_are(client: Client, tmp_path: Path) -> None:
    paths = write(tmp_path, kinds(SIDE, SIDE))
    assert len(paths) > 40
    seen = trained_on(tmp_path, 0)
    assert seen.dtype == np.uint16
    np.testing.assert_array_equal(client.denoise(paths, image_format="uint16").images, seen)


def test_files_that_are_resized(client: Client, tmp_path: Path) -> None:
    paths = write(tmp_path, kinds(40, 56))
    np.testing.assert_array_equal(client.denoise(paths, resize=True).images, trained_on(tmp_path, SIDE))


def test_a_photograph_of_a_phone(client: Client, tmp_path: Path) -> None:
    rows, columns = np.ogrid[0:1512, 0:2016]
    small = ((rows * 3 + columns * 5) // 16 % 256).astype(np.uint8)
    photo = saved(Image.fromarray(small).resize((4032, 3024)), "JPEG", exif=exif(6))
    paths = write(tmp_path, {f"{number}.jpg": photo for number in range(10)})
    np.testing.assert_array_equal(client.denoise(paths[0], resize=True).images[0], trained_on(tmp_path, SIDE)[0])
