"""The command line: what it declares, and exit code 2 with a sentence for what it does not understand."""

from pathlib import Path

import numpy as np
import pytest

from export.__main__ import main
from tests.export.modules import user_modules as users

BUILD = "tests.export.modules.user_modules"


def command(folder: Path, build: str, *more: str) -> list[str]:
    users.save(users.Denoiser(), folder / "w.pt")
    np.save(folder / "images.npy", users.images())
    files = ["--weights", str(folder / "w.pt"), "--reference", str(folder / "images.npy")]
    return ["module", f"{BUILD}:{build}", *files, "--repository", str(folder / "models"), "--name", "mine", *more]


@pytest.mark.parametrize(
    ("build", "more", "sentence"),
    [
        (
            "Callable",
            (),
            "expected a module with some of the methods encode, .* denoise, classify, detect",
        ),
        (
            "Callable",
            ("--as", "denoise", "--arguments", '{"channels": 3}'),
            "expected the tensors of Callable, got of another shape",
        ),
        ("Denoiser", ("--arguments", '{"depth": 3}'), "failed: TypeError: .* unexpected keyword argument 'depth'"),
        ("Denoiser", ("--detection-score", "mean"), "expected no detection score for denoise: only detect has one"),
        ("Denoiser", ("--image-shape", "9x9x1"), "expected reference images of 9 x 9, got 8 x 8 (images.npy)"),
        ("Denoiser", ("--range", "-1:1", "--mean", "0.5"), "expected --range, or --mean and --std, got both"),
        (
            "Denoiser",
            ("--mean", "0.5,0.5"),
            "expected one mean and one std, or one for each of 1 channels, got 2 and 1",
        ),
        (
            "Random",
            (),
            "expected a module that draws no random numbers, got aten.randn_like.default in the module itself",
        ),
        ("Counting", (), "expected the tensors of Counting, got missing: calls"),
    ],
)
def test_unusable_input_is_one_sentence(
    build: str, more: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path, build, *more)) == 2
    said = capsys.readouterr().err
    assert said.startswith("export: ")
    assert said.count("\n") == 1
    assert all(part in said for part in sentence.split(" .* "))
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--arguments", "[1]"), "expected a JSON object"),
        (("--arguments", "{"), "expected a JSON object"),
        (("--image-shape", "8x8"), "expected HxWxC with 1 or 3 channels as in 28x28x1"),
        (("--multiple", "0"), "expected a number of pixels from 1"),
        (("--range", "1:-1"), "expected LOW:HIGH as in -1:1"),
        (("--std", "inf"), "expected numbers as in 0.5"),
        (("--noise-level", "0.3"), "expected MIN:MAX or MIN:MAX:DEFAULT"),
        (("--noise-level", "0:0.3:0.4"), "expected MIN:MAX or MIN:MAX:DEFAULT"),
        (("--as", "sample"), "invalid choice"),
        (("--detection-score", "median"), "invalid choice"),
    ],
)
def test_options_say_what_was_expected(
    more: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(command(tmp_path, "Denoiser", *more))
    assert sentence in capsys.readouterr().err
