"""Image files of a folder: what cannot be read is named, and what the rules changed is counted."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.images.decoder import RULES_VERSION
from tests.image_kinds import kinds, saved
from tests.reliability.attacks.hostile_images import png_with
from training.config import Data
from training.data import dataset, image_files, inspect
from training.data.dataset import Dataset
from training.errors import DataError
from training.recipe import load_recipe
from training.run import provenance

FILES = kinds(12, 12)


def load(folder: Path, files: dict[str, bytes], **settings: object) -> Dataset:
    folder.mkdir(exist_ok=True)
    for name, file in files.items():
        (folder / name).write_bytes(file)
    return dataset.load(Data(kind="folder", folder=str(folder), **settings))


def text_bomb() -> bytes:
    payload = b"Comment\0\0" + zlib.compress(bytes(2**24))
    chunk = struct.pack(">I", len(payload)) + b"zTXt" + payload
    return png_with(chunk + struct.pack(">I", zlib.crc32(b"zTXt" + payload)))


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("7.png", saved(Image.new("RGB", (12, 12)), "EPS"), "expected a PNG, JPEG, .* file, got something else"),
        ("7.png", FILES["rgb.png"][:100], "expected a readable PNG"),
        ("7.png", b"", "got something else"),
        ("7.png", text_bomb(), "expected a readable PNG, .*too large"),
        ("7.tiff", saved(Image.fromarray(np.zeros((12, 12), np.float32)), "TIFF"), "8 or 16 bits, got 32"),
    ],
    ids=["eps", "half", "empty", "text bomb", "32 bits"],
)
def test_a_file_that_cannot_be_read_is_named(name: str, file: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{name} cannot be read as an image: .*{message}.*; repair or remove it"):
        load(tmp_path / "images", FILES | {name: file})


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x.png is not a regular file: remove it"):
        image_files.read_all([tmp_path / "x.png"], Data())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"12 images of 12x12 take 0.0 GiB, 0.0 GiB are free: scale them with --set data.size=N"),
        ({"size": 8}, r"12 images of 8x8 take 0.0 GiB, 0.0 GiB are free: lower data.size"),
    ],
)
def test_images_beyond_the_memory_are_refused_before_they_are_read(
    settings: dict[str, int], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0.png").write_bytes(FILES["rgb.png"])
    # The others are not even there.
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    monkeypatch.setattr(image_files, "available_memory", lambda: 12 * 8 * 8 * 3 - 1)
    with pytest.raises(DataError, match=message):
        image_files.read_all(paths, Data(kind="folder", **settings))


def test_the_summary_says_what_the_rules_changed(tmp_path: Path) -> None:
    mixed = [name for name in FILES if name.startswith(("exif", "rgba", "16-bit.tiff", "palette.", "rgb."))]
    text = inspect.describe(load(tmp_path / "mixed", {name: FILES[name] for name in mixed}))
    counts = "10 images were rotated by their EXIF orientation, 3 images were transparent .blended onto black."
    assert counts.replace(".", "") in text.replace("(", "").replace(")", "")
    assert "scaled from 16 bits" not in text
    resized = inspect.describe(load(tmp_path / "mixed", {}, size=8))
    assert "1 image was scaled from 16 bits to 8, as data.size does" in resized
    plain = [name for name in FILES if name.startswith(("rgb.", "grey.", "palette.", "animated.g", "cmyk", "pages"))]
    assert "image was" not in inspect.describe(load(tmp_path / "plain", {name: FILES[name] for name in plain}))


def test_tiff_of_any_compression_trains(tmp_path: Path) -> None:
    image = Image.effect_noise((12, 12), 50)
    compressed = {f"{kind}.tif": saved(image, "TIFF", compression=kind) for kind in ("jpeg", "zstd", "lzma")}
    assert len(load(tmp_path, FILES | compressed).train) == len(FILES) + 3 - 2 * ((len(FILES) + 3) // 10)


def test_a_checkpoint_records_the_rules_by_which_its_files_were_read(tmp_path: Path) -> None:
    config = load_recipe("vae", "folder", [])
    described = provenance.describe(config, load(tmp_path / "images", FILES), 0, 0, {})
    assert described["data"]["image_rules"] == RULES_VERSION == 1
    np.savez(tmp_path / "x.npz", images=np.random.default_rng(0).integers(0, 256, (40, 12, 12), dtype=np.uint8))
    arrays = dataset.load(Data(kind="npz", folder=str(tmp_path / "x.npz")))
    assert "image_rules" not in provenance.describe(config, arrays, 0, 0, {})["data"]
