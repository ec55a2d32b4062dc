import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from training.config import Data
from training.data import dataset
from training.data.defects import textures
from training.data.defects.textures import Stream
from training.errors import DataError


def test_an_image_depends_on_its_number_alone() -> None:
    several = textures.normals("grass", Stream.FRESH, 0, 5)
    np.testing.assert_array_equal(several[3:], textures.normals("grass", Stream.FRESH, 3, 2))
    others = [textures.normals("grass", Stream.FRESH, 0, 5, seed=1), textures.normals("grass", Stream.TEST, 0, 5)]
    assert not any(np.array_equal(several, each) for each in others)


@pytest.mark.parametrize("texture", textures.TEXTURES)
def test_every_defect_can_be_seen_in_its_mask(texture: str) -> None:
    found = [textures.defective(texture, number) for number in range(8)]
    assert [each.kind for each in found] == [*textures.KINDS] * 2
    for each in found:
        assert each.image.shape == (textures.SIDE, textures.SIDE, 1)
        assert 40 < each.mask.sum() < 3_000


def test_a_camera_whose_gain_has_moved_sees_brighter_images() -> None:
    still, moved = (textures.normals("brick", Stream.FRESH, 0, 10, gain=gain) for gain in (1.0, 1.1))
    assert moved.mean() / still.mean() == pytest.approx(1.1, abs=0.005)


def test_principal_components_do_not_find_the_defects() -> None:
    """The generator means something only where this is hard: below 0.9, `docs/results-defects.md` has all textures."""
    train = textures.normals("brick", Stream.TRAIN, 0, 100).reshape(100, -1) / 255
    mean = train.mean(0)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2][:50]
    found = [textures.defective("brick", number) for number in range(24)]
    seen = np.stack([each.image for each in found]).reshape(24, -1) / 255 - mean
    errors = np.square(seen - seen @ axes.T @ axes).reshape(24, textures.SIDE, textures.SIDE)
    smooth = np.stack([gaussian_filter(each, 4) for each in errors])
    assert roc_auc_score(np.stack([each.mask for each in found]).ravel(), smooth.ravel()) < 0.9


def test_the_data_set_holds_whole_images_to_judge_by() -> None:
    found = dataset.load(Data(kind="textures", normal="gravel", crop=64))
    assert (found.name, found.image_shape) == ("textures-gravel", (64, 64, 1))
    judged = found.inspection
    assert judged is not None
    assert judged.test is not None
    assert judged.calibration.shape == (1_000, 128, 128, 1)
    assert (len(judged.test), judged.kinds.count("good")) == (300, 100)


def test_an_unknown_texture_is_refused() -> None:
    with pytest.raises(DataError, match="expected one of brick, grass, gravel for --data textures, got 'cork'"):
        dataset.load(Data(kind="textures", normal="cork"))
