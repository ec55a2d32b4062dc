from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.config import Data
from training.data.defects import masks
from training.errors import DataError


def written(path: Path, size: tuple[int, int], inside: slice) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size, np.uint8)
    pixels[inside] = 255
    Image.fromarray(pixels).save(path)
    return path


def test_masks_are_scaled_as_their_images_are(tmp_path: Path) -> None:
    image = written(tmp_path / "test" / "hole" / "a.png", (40, 20), slice(0))
    written(tmp_path / "truth" / "hole" / "a.png", (40, 20), slice(20))
    found = masks.read(tmp_path / "truth", [image, image], ["hole", "good"], Data(normal="good", size=10), (10, 10))
    assert found.tolist() == [[[True] * 10] * 5 + [[False] * 10] * 5, [[False] * 10] * 10]


def test_a_damaged_mask_is_named(tmp_path: Path) -> None:
    image = written(tmp_path / "a.png", (4, 4), slice(0))
    (tmp_path / "truth" / "hole").mkdir(parents=True)
    (tmp_path / "truth" / "hole" / "a_mask.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a_mask.png cannot be read as an image"):
        masks.read(tmp_path / "truth", [image], ["hole"], Data(normal="good"), (4, 4))
