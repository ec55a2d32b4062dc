import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from training.__main__ import main
from training.config import Architecture
from training.errors import ConfigError
from training.evaluation import photographs
from training.models import autoencoders, initial_weights

SETTINGS = ("model.channels=[8]", "model.blocks=1", "data.crop=16", "device.threads=1")
TINY = ["--minutes", "0.05", *(word for setting in SETTINGS for word in ("--set", setting))]
LINE = r"{} +PSNR (\d+\.\d+) to (\d+\.\d+) dB, SSIM 0\.\d+ to 0\.\d+, \d+\.\d+ s of CPU time a megapixel, (\d+) images"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of a photograph, of odd sizes, below `clean`; with noise below `noisy`."""
    folder, camera, draws = tmp_path_factory.mktemp("photos"), data.camera(), np.random.default_rng(0)
    for name in ("clean", "noisy"):
        (folder / name).mkdir()
    for number in range(6):
        part = camera[60 * number : 60 * number + 51, 100:181]
        Image.fromarray(part).save(folder / "clean" / f"{number}.png")
        noise = draws.normal(0, 25, part.shape)
        Image.fromarray((part + noise).clip(0, 255).round().astype(np.uint8)).save(folder / "noisy" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    words = ["--data-dir", str(photos / "clean"), "--set", "data.grey=true", "--out", str(out)]
    assert main(["photo-denoiser", *words, *TINY]) == 0
    return out


def test_whole_photographs_are_measured_at_each_noise_level(
    run: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--images", str(photos / "clean"), "--noise", "15", "50"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    for level, line in zip((15, 50), lines, strict=True):
        found = re.fullmatch(LINE.format(f"noise {level}"), line)
        assert found, line
        assert float(found[1]) == pytest.approx(-20 * np.log10(level / 255), abs=3)
        assert int(found[3]) == 6
    assert float(found[2]) > float(found[1]) + 1


def test_pairs_train_a_blind_denoiser_and_judge_it(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data-dir", str(photos), "--set", "data.grey=true", "--out", str(tmp_path / "run")]
    assert main(["photo-denoiser", *words, *TINY]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--pairs", str(photos)]) == 0
    found = re.fullmatch(LINE.format("pairs"), capsys.readouterr().out.strip())
    assert found
    assert float(found[2]) > float(found[1]) + 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "clean", "--noise", "70"], "noise 70 is beyond what the model was trained for: expected 0 to 55"),
        (["--images", "nowhere"], "nowhere does not exist"),
        (["--pairs", "clean"], "noisy and clean|noise of their own"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    run: Path, photos: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    folder = str(photos / words[1])
    assert main(["evaluate", str(run), words[0], folder, *words[2:]]) == 2
    assert re.search(f"^error: .*({message})", capsys.readouterr().err.strip())


def test_pairs_are_for_denoisers_without_noise_levels(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data-dir", str(photos), "--out", str(tmp_path / "run"), "--set", "data.crop=16", "--set"]
    for recipe, setting, message in (
        ("photo-denoiser", "model.noise_level_input=true", "pairs has no known level to give"),
        ("photo-denoiser", "loss.noise=0.1", "loss.noise has no effect on pairs"),
        ("photo-ae", "data.grey=true", "pairs are for denoisers"),
        ("photo-denoiser", "data.size=16", "data.size has no effect on --data pairs"),
    ):
        assert main([recipe, *words, setting]) == 2
        assert message in capsys.readouterr().err


def test_a_fixed_size_is_refused() -> None:
    settings = {"family": "denoiser", "body": "conv", "channels": [4]}
    model = autoencoders.build(Architecture.model_validate(settings), (28, 28, 1))
    with pytest.raises(ConfigError, match="need a denoiser of free sizes"):
        photographs.check(model, (0.0, 0.5), [25])


def test_noise_is_that_of_its_seed_and_not_clipped(photos: Path) -> None:
    twice = [list(photographs.with_noise(photos / "clean", 1, 0.5)) for _ in range(2)]
    assert all(np.array_equal(*(each.noisy for each in pair)) for pair in zip(*twice, strict=True))
    assert twice[0][0].noisy.min() < 0
    assert not np.array_equal(twice[0][0].noisy - twice[0][0].clean, twice[0][1].noisy - twice[0][1].clean)


def test_quality_is_that_of_images_of_8_bits() -> None:
    clean = np.full((16, 16, 1), 100 / 255, np.float32)
    assert photographs.quality(clean + np.float32(0.4 / 255), clean).psnr == np.inf
    assert photographs.quality(clean + np.float32(2 / 255), clean).psnr == pytest.approx(
        -20 * np.log10(2 / 255), abs=1e-4
    )


def test_a_photograph_of_odd_size_keeps_it() -> None:
    settings = {"family": "denoiser", "body": "residual", "channels": [4], "noise_level_input": True}
    model = autoencoders.build(Architecture.model_validate(settings), (0, 0, 3)).eval()
    initial_weights.initialise(model, torch.Generator().manual_seed(0))
    assert photographs.denoise(model, np.zeros((7, 9, 3), np.float32), 0.1).shape == (7, 9, 3)
