from importlib.util import find_spec

import numpy as np
import pytest

from training.config import Data
from training.data import dataset
from training.data.photos import bundled
from training.errors import DataError

with_images = pytest.mark.skipif(find_spec("skimage") is None, reason="scikit-image is not installed")


@with_images
def test_whole_photographs_are_held_out() -> None:
    found = dataset.load(Data(kind="photographs", crop=64))
    assert found.image_shape == (64, 64, 3)
    assert min(len(found.train), len(found.validation), len(found.test)) >= 60
    assert found.pictures is not None
    assert len(found.pictures.images) == 4
    assert not {each.tobytes() for each in found.train.images} & {each.tobytes() for each in found.test.images}


@with_images
def test_they_can_be_scaled_and_grey() -> None:
    found = bundled.read_bundled(Data(kind="photographs", size=32, grey=True))
    assert found.test is not None
    assert np.stack(list(found.test.images)).shape == (2, 32, 32, 1)


def test_without_scikit_image_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "_FOLDERS", (("nothing", "data"),))
    with pytest.raises(DataError, match=r"needs astronaut.png of scikit-image: pip install"):
        dataset.load(Data(kind="photographs", crop=64))


def test_they_differ_in_size() -> None:
    with pytest.raises(DataError, match=r"photographs differ in size: .*data.crop=64"):
        dataset.load(Data(kind="photographs"))
