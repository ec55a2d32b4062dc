import numpy as np
import pytest

from training.data.split import Split
from training.evaluation import inference


@pytest.mark.parametrize(
    ("shape", "rows"), [((28, 28, 1), 1_000), ((32, 32, 3), 1_000), ((128, 128, 3), 62), ((9_000, 9_000, 3), 1)]
)
def test_a_batch_of_large_images_has_fewer_rows(shape: tuple[int, int, int], rows: int) -> None:
    assert inference.rows_at_once(shape) == rows


def test_fifty_samples_of_an_image_are_fifty_images() -> None:
    assert inference.rows_at_once((28, 28, 1), samples=50) == 1_000
    assert inference.rows_at_once((256, 256, 1), samples=50) == 11


def split(count: int, labels: np.ndarray | None) -> Split:
    return Split(np.zeros((count, 4, 4, 1), np.uint8), labels)


def test_the_images_that_show_a_split_are_of_every_class() -> None:
    labels = np.repeat(np.arange(6), [200, 10, 30, 50, 10, 300])
    shown = inference.spread(split(600, labels), 12)
    assert len(set(shown.tolist())) == 12
    assert labels[shown[0]] == 0
    assert labels[shown[-1]] == 5
    even = inference.spread(split(600, np.arange(600) % 6), 12)
    assert sorted((even % 6).tolist()) == sorted([*range(6), *range(6)])


def test_without_classes_they_are_spaced_over_the_order() -> None:
    assert inference.spread(split(100, None), 4).tolist() == [0, 33, 66, 99]
    assert inference.spread(split(3, None), 12).tolist() == [0, 1, 2]
    assert inference.spread(split(1, None), 12).tolist() == [0]
