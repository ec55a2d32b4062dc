"""Regions against SciPy's labelling, at every block size, on maps that are the worst for it, and in bounded memory."""

import tracemalloc

import numpy as np
import pytest
from autoencoder.v1 import regions
from scipy import ndimage

Boxes = list[tuple[int, int, int, int, int, float]]


def found(maps: np.ndarray, threshold: float) -> Boxes:
    return [boxed(region) for region in regions.find(maps, threshold)]


def boxed(region: regions.Region) -> tuple[int, int, int, int, int, float]:
    return (region.image, region.top, region.left, region.height, region.width, region.score)


def expected(maps: np.ndarray, threshold: float) -> Boxes:
    every: Boxes = []
    for image, values in enumerate(maps):
        labels, count = ndimage.label(values > np.float32(threshold), np.ones((3, 3)))
        boxes = [
            (image, rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
            for rows, columns in ndimage.find_objects(labels)
        ]
        scores = ndimage.maximum(values, labels, range(1, count + 1)) if count else []
        own = [(*box, float(score)) for box, score in zip(boxes, scores, strict=True)]
        every += sorted(own, key=lambda each: (-each[5], *each))[: regions.MOST_REGIONS]
    return every


@pytest.mark.parametrize("block_pixels", [1, 50, 300, 2**16])
@pytest.mark.parametrize("widest", [4, 2**15])
def test_regions_are_those_of_scipy(monkeypatch: pytest.MonkeyPatch, block_pixels: int, widest: int) -> None:
    monkeypatch.setattr(regions, "_BLOCK_PIXELS", block_pixels)
    monkeypatch.setattr(regions, "_WIDEST", widest)
    rng = np.random.default_rng(block_pixels)
    for _ in range(15):
        maps = rng.random(rng.integers(1, (4, 40, 40)), np.float32)
        threshold = rng.choice([-1, 0.1, 0.3, 0.5, 0.6, 0.7, 0.9, 0.99, 1.1])
        assert found(maps, threshold) == expected(maps, threshold)


def test_the_threshold_is_compared_as_float32() -> None:
    value = np.float32(0.1)
    assert found(np.full((1, 1, 1), value), 0.1) == []
    assert found(np.full((1, 1, 1), np.nextafter(value, np.float32(1))), 0.1) != []


def worst(size: int) -> dict[str, np.ndarray]:
    rows, columns = np.mgrid[:size, :size]
    serpentine = (rows % 2 == 0) | ((rows % 4 == 1) & (columns == size - 1)) | ((rows % 4 == 3) & (columns == 0))
    ring = np.minimum(np.minimum(rows, columns), np.minimum(size - 1 - rows, size - 1 - columns))
    masks = {
        "checkerboard": (rows + columns) % 2 == 0,
        "dots": (rows % 2 == 0) & (columns % 2 == 0),
        "comb": (columns % 2 == 0) | (rows == size - 1),
        "serpentine": serpentine,
        "turned": serpentine.T,
        "diagonals": (rows + columns) % 4 < 2,
        "rings": ring % 2 == 0,
        "spiral": (ring % 2 == 0) ^ ((rows == columns + 1) & (rows <= size // 2)),
        "all": rows >= 0,
        "none": rows < 0,
    }
    return {name: mask.astype(np.float32) for name, mask in masks.items()}


@pytest.mark.parametrize("kind", sorted(worst(4)))
def test_the_worst_maps(kind: str) -> None:
    maps = worst(300)[kind][None]
    assert found(maps, 0.5) == expected(maps, 0.5)


def test_many_small_images_are_worked_off_together() -> None:
    maps = np.random.default_rng(0).random((500, 28, 28), np.float32)
    assert found(maps, 0.7) == expected(maps, 0.7)


def test_no_image_is_ranked_again_for_those_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "_BLOCK_PIXELS", 32 * 32)
    maps = np.zeros((200, 32, 32), np.float32)
    maps[:, ::2, ::2] = 1
    ranked: list[int] = []
    lexsort = np.lexsort

    def counted(keys: tuple[np.ndarray, ...]) -> np.ndarray:
        ranked.append(len(keys[0]))
        return lexsort(keys)

    monkeypatch.setattr(np, "lexsort", counted)
    assert len(found(maps, 0.5)) == 200 * regions.MOST_REGIONS
    # Each part once or twice: when its block ends, and with the others of its image.
    assert sum(ranked) <= 2 * 200 * 16 * 16


def test_rows_come_in_bands() -> None:
    picture = ndimage.gaussian_filter(np.random.default_rng(0).random((200, 90)), 2).astype(np.float32)
    finder = regions.RegionFinder(200, 90, 0.5)
    for first in range(0, 200, 33):
        finder.add(picture[first : first + 33])
    assert [boxed(region) for region in finder.regions()] == expected(picture[None], 0.5)


@pytest.mark.parametrize("shape", [(1, 2000, 2000), (1, 1, 4_000_000)])
@pytest.mark.parametrize("kind", ["dots", "checkerboard"])
def test_memory_follows_a_block_and_not_the_parts(shape: tuple[int, int, int], kind: str) -> None:
    maps = np.zeros(shape, np.float32)
    maps[:, ::2, ::2] = 1
    if kind == "checkerboard":
        maps[:, 1::2, 1::2] = 1
    turned = maps.nbytes if shape[1] == 1 else 0
    tracemalloc.start()
    try:
        regions.find(maps, 0.5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < turned + 32 * 2**20


def test_a_caller_that_has_left_ends_the_search() -> None:
    class LeftError(Exception):
        pass

    def left() -> None:
        raise LeftError

    with pytest.raises(LeftError):
        regions.find(np.zeros((1, 600, 600), np.float32), 0.5, left)
