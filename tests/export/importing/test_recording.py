"""Reference images of an import: statistics of latents, golden vectors, and what is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.golden import Golden
from bundle.latents import LatentStatistics
from tests.export.importing.test_importer import RNG, answer, decoder, encoder, imported, run_import

SHAPE = (4, 6, 3)
WITHOUT_TORCH = """
import sys
from export.__main__ import main
sys.exit(main(sys.argv[1:]) or "torch" in sys.modules)
"""


def photographs(folder: Path, count: int = 100) -> np.ndarray:
    images = RNG.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    np.savez(folder / "photos.npz", images=images)
    return images


def test_a_plain_autoencoder_gets_drift_and_sample_without_torch(tmp_path: Path) -> None:
    images = photographs(tmp_path)
    files = encoder(tmp_path), decoder(tmp_path)
    arguments = ["import", *files, "--reference", tmp_path / "photos.npz", "--repository", tmp_path / "models"]
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments), "--name", "foreign"]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[3])

    folder, model = imported(tmp_path)
    assert list(model.methods) == ["Encode", "Decode", "Reconstruct", "Sample", "Interpolate"]
    codes = answer(folder, "encode", {"images": images})["latents"]
    statistics = LatentStatistics.from_bytes((folder / "latents.npz").read_bytes())
    np.testing.assert_allclose(statistics.mean, codes[::2].mean(0), rtol=1e-5, atol=1e-6)
    errors = answer(folder, "reconstruct", {"images": images})["squared_errors"]
    np.testing.assert_allclose(statistics.reconstruction_error_quantile(0.5), np.median(errors[1::2]), rtol=1e-4)
    golden = Golden.from_bytes((folder / "golden.npz").read_bytes())
    assert golden.sample_case is not None
    np.testing.assert_array_equal(golden.of("encode")[2].inputs["images"], images[:4])


def test_held_out_codes_are_reference_points_by_folder(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (100, *SHAPE), dtype=np.uint8)
    for index, each in enumerate(images):
        folder = tmp_path / "photos" / ("cat" if index < 30 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(each).save(folder / f"{index:03}.png")
    assert run_import(tmp_path, encoder(tmp_path), decoder(tmp_path), "--reference", tmp_path / "photos") == 0
    folder, _ = imported(tmp_path)
    statistics = LatentStatistics.from_bytes((folder / "latents.npz").read_bytes())
    assert statistics.reference_points is not None
    assert statistics.reference_labels is not None
    assert statistics.reference_label_names is not None
    codes = answer(folder, "encode", {"images": images})["latents"][1::2]
    # Sorted by class, in the order of files within one, as they were given.
    np.testing.assert_allclose(statistics.reference_points.astype(np.float32), codes, rtol=1e-3, atol=1e-2)
    assert statistics.reference_label_names.tolist() == ["cat", "dog"]
    assert np.bincount(statistics.reference_labels).tolist() == [15, 35]


def test_few_images_give_golden_vectors_and_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs(tmp_path, 3)
    assert run_import(tmp_path, encoder(tmp_path), "--reference", tmp_path / "photos.npz") == 0
    assert "they take 100 images, got 3" in capsys.readouterr().out
    folder, _ = imported(tmp_path)
    assert len(Golden.from_bytes((folder / "golden.npz").read_bytes()).of("encode")) == 3


def test_images_that_do_not_fit_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "photos.npz", images=np.zeros((2, 5, 6, 3), np.uint8))
    assert run_import(tmp_path, encoder(tmp_path), "--reference", tmp_path / "photos.npz") == 2
    assert "expected reference images of 4 x 6, got 5 x 6 (photos.npz): resize them" in capsys.readouterr().err
