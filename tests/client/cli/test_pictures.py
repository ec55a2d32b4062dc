"""Photographs of any size on the command line: 16 bits, noise levels, spatial latents, what --resize did."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1.shapes import pad
from hourglass_client.cli.inputs import noise_level
from hourglass_client.cli.main import main
from PIL import Image, ImageCms

from tests.client.cli.conftest import Command
from tests.server import free_models
from tests.server.conftest import GOLDEN, Served, serving
from tests.server.free_models import limit_pixels

RNG = np.random.default_rng(11)
WORDS = RNG.integers(0, 65_536, (41, 50), dtype=np.uint16)
BYTES = RNG.integers(0, 256, (30, 27), dtype=np.uint8)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    free_models.write_autoencoder(folder)
    free_models.write_denoiser(folder, "levels", levels=True)
    limit_pixels(folder / "levels" / "1", 20_000)
    (folder / "vae").symlink_to(GOLDEN / "vae")
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Served]:
    with serving(repository, poll_seconds=0) as served:
        yield served


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two photographs, of two sizes and depths."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(WORDS).save(folder / "deep.png")
    Image.fromarray(BYTES).save(folder / "plain.tiff")
    return folder


def opened(path: str | Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    return image


def denoised(repository: Path, image: np.ndarray, level: float) -> np.ndarray:
    """What the graph gives for (H, W), rounded to the image's own bits."""
    most = np.float32(np.iinfo(image.dtype).max)
    rows = image[None, ..., None].astype(np.float32) / most
    height, width = image.shape
    padded = pad(rows, (height + height % 2, width + width % 2))
    data = (repository / "levels/1/denoise.onnx").read_bytes()
    found = free_models.run(data, {"images": padded, "noise_levels": np.array([level], np.float32)})[0]
    return np.rint(np.clip(found[0, :height, :width, 0], 0, 1) * most)


def test_photographs_of_several_sizes(hourglass: Command, repository: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean"
    answer = hourglass("denoise", photos, "--model", "levels", "--noise-level", "25/255", "--out", out)
    assert [Path(name).name for name in answer["files"]] == ["deep.png", "plain.png"]
    deep, plain = opened(out / "deep.png"), opened(out / "plain.png")
    assert (deep.mode, plain.mode) == ("I;16", "L")
    np.testing.assert_array_equal(np.asarray(deep), denoised(repository, WORDS, 25 / 255))
    np.testing.assert_array_equal(np.asarray(plain), denoised(repository, BYTES, 25 / 255))


def test_the_format_can_be_chosen(hourglass: Command, photos: Path, tmp_path: Path) -> None:
    for form, mode in (("png", "L"), ("png16", "I;16")):
        hourglass("denoise", photos, "--model", "levels", "--format", form, "--out", tmp_path / form)
        assert {opened(path).mode for path in (tmp_path / form).iterdir()} == {mode}


def test_an_upright_photograph_with_its_colours(
    hourglass: Command, repository: Path, photos: Path, tmp_path: Path
) -> None:
    colours = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Of a grey image, as its colour space says.
    grey = colours[:16] + b"GRAY" + colours[20:]
    image = Image.fromarray(BYTES)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(photos / "turned.tiff", exif=exif, icc_profile=grey)
    hourglass("denoise", photos / "turned.tiff", "--model", "levels", "--sigma", 25, "--out", tmp_path / "out")
    clean = opened(tmp_path / "out" / "turned.png")
    np.testing.assert_array_equal(np.asarray(clean), denoised(repository, np.rot90(BYTES, -1), 25 / 255))
    assert clean.info["icc_profile"] == grey
    # A grey answer has not the colours of a coloured file.
    image.convert("RGB").save(photos / "rgb.jpg", icc_profile=colours)
    hourglass("denoise", photos / "rgb.jpg", "--model", "levels", "--compare", "--out", tmp_path / "out")
    assert "icc_profile" not in opened(tmp_path / "out" / "rgb.png").info
    assert "icc_profile" in opened(tmp_path / "out" / "rgb-compare.png").info


def test_before_and_after_side_by_side(hourglass: Command, photos: Path, tmp_path: Path) -> None:
    np.save(photos / "array.npy", BYTES.astype(np.float32) / 255)
    given = (photos, photos / "array.npy", "--model", "levels", "--compare", "--out", tmp_path / "out")
    assert len(hourglass("denoise", *given)["files"]) == 6
    for name, before in (("plain", BYTES), ("deep", np.rint(WORDS / 257)), ("array-00000", BYTES)):
        after = opened(tmp_path / "out" / f"{name}.png")
        pixels = np.rint(np.asarray(after) / (257 if after.mode == "I;16" else 1))
        both = np.asarray(opened(tmp_path / "out" / f"{name}-compare.png"))
        np.testing.assert_array_equal(both, np.concatenate([before, pixels], axis=1)[..., None].repeat(3, 2))


def test_no_two_files_of_one_name(server: Served, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(BYTES).save(photos / "plain-compare.png")
    before = sorted(photos.iterdir())
    given = ["denoise", str(photos), "--model", "levels", "--compare", "--out", str(photos / "out")]
    assert main([*given, "--address", server.address]) == 2
    words = f"--out: two of the files to write are called {photos}/out/plain-compare.png: rename one of the images"
    assert capsys.readouterr().err == f"hourglass: {words}\n"
    assert sorted(photos.iterdir()) == before


def test_what_is_written_is_the_caller_s_to_share(hourglass: Command, photos: Path, tmp_path: Path) -> None:
    hourglass("denoise", photos / "deep.png", "--model", "levels", "--out", tmp_path / "out")
    (tmp_path / "other").touch()
    assert (tmp_path / "out" / "deep.png").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_codes_there_and_back(hourglass: Command, photos: Path, tmp_path: Path) -> None:
    codes = tmp_path / "codes.npy"
    answer = hourglass("encode", photos / "deep.png", "--model", "free-ae", "--out", codes)
    assert np.load(codes).shape == (1, 21, 25, 2)
    assert np.shape(answer["items"][0]["latents"]) == (21, 25, 2)
    size = ("--height", 41, "--width", 50)
    decoded = hourglass("decode", codes, "--model", "free-ae", *size, "--out", tmp_path / "out")
    assert opened(decoded["files"][0]).size == (50, 41)
    walked = hourglass("interpolate", codes, codes, "--model", "free-ae", "--steps", 2, "--out", tmp_path / "path")
    assert len(walked["files"]) == 2
    drawn = hourglass("sample", "--count", 1, *size, "--model", "free-ae", "--out", tmp_path / "drawn")
    assert opened(drawn["files"][0]).size == (50, 41)


def test_models_say_their_sizes(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--address", server.address]) == 0
    shown = capsys.readouterr().out
    assert "any x any x 1, multiples of 2  any/2 x any/2 x 2" in shown
    assert "8x8x1" in shown


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            ["denoise", "{}/deep.png", "--model", "levels", "--noise-level", "0.9", "--out", "{}/out"],
            "{}/deep.png: noise_levels[0]: expected a level from 0 to 0.5, got 0.9",
        ),
        (
            ["encode", "{}", "--model", "free-ae", "--out", "{}/codes.npy"],
            "--out: expected latents of one shape, got (21, 25, 2) and, of plain, (15, 14, 2): encode each size apart",
        ),
        (
            ["denoise", "{}/notes.png", "--model", "levels", "--out", "{}/out"],
            "{}/notes.png: expected a PNG, JPEG, WebP, BMP, GIF or TIFF file, got something else",
        ),
    ],
)
def test_one_sentence_names_the_file(
    server: Served, photos: Path, command: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "notes.png" in command[1]:
        (photos / "notes.png").write_text("no image")
    before = sorted(photos.iterdir())
    assert main([each.format(photos) for each in command] + ["--address", server.address]) == 2
    assert capsys.readouterr().err == f"hourglass: {words.format(photos)}\n"
    assert sorted(photos.iterdir()) == before


def test_resize_says_what_it_did(server: Served, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["encode", str(photos), str(photos / "plain.tiff"), "--resize", "--address", server.address]
    before = {path: path.read_bytes() for path in photos.iterdir()}
    assert main([*given, "--model", "vae"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"hourglass: note: {photos}/{words} unchanged"
        for words in (
            "deep.png: resized from 41 x 50 to 8 x 8 (height x width); the file itself is",
            "plain.tiff and 1 more: resized from 30 x 27 to 8 x 8 (height x width); the files themselves are",
        )
    ]
    assert main([*given, "--model", "free-ae"]) == 0
    assert capsys.readouterr().err == (
        "hourglass: note: --resize changes nothing: this model takes images of any size\n"
    )
    assert {path: path.read_bytes() for path in photos.iterdir()} == before


@pytest.mark.parametrize("method", ["denoise", "decode", "sample"])
def test_bench_of_any_size(hourglass: Command, method: str) -> None:
    model = "levels" if method == "denoise" else "free-ae"
    answer = hourglass("bench", "--method", method, "--model", model, "--callers", 1, "--seconds", 0.1)
    assert answer["failures"] == {}


@pytest.mark.parametrize(("text", "level"), [("0.1", 0.1), ("25/255", 25 / 255), ("0", 0.0)])
def test_noise_levels(text: str, level: float) -> None:
    assert noise_level(text) == level


@pytest.mark.parametrize("text", ["", "x", "25/", "25/0", "1/2/3", "25"])
def test_what_is_no_noise_level(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["denoise", "a.png", "--noise-level", text, "--out", "x"])
    shown = capsys.readouterr().err
    assert "expected a standard deviation in pixel values of 0 to 1, as 0.1 or 25/255" in shown
    assert (": on the scale of 0 to 255 that is --sigma 25" in shown) == (text == "25")


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        (["--sigma", "x"], "expected a standard deviation on the scale of 0 to 255, such as 25, got 'x'"),
        (["--sigma", "-1"], "got '-1'"),
        (["--sigma", "25", "--noise-level", "0.1"], "not allowed with argument --sigma"),
    ],
)
def test_what_is_no_sigma(levels: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["denoise", "a.png", *levels, "--out", "x"])
    assert words in capsys.readouterr().err


class Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


def test_a_bar_for_many_or_large_images_on_a_terminal(
    server: Served, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    given = ["denoise", "--model", "levels", "--address", server.address]
    assert main([*given, str(photos / "deep.png"), "--out", str(tmp_path / "one")]) == 0
    assert sys.stderr.getvalue() == ""
    assert main([*given, str(photos), "--out", str(tmp_path / "out")]) == 0
    assert "2/2" in sys.stderr.getvalue()
    sys.stderr = Terminal()
    np.save(tmp_path / "large.npy", np.zeros((400, 300), np.uint16))
    assert main([*given, str(tmp_path / "large.npy"), "--out", str(tmp_path / "out")]) == 0
    assert "100%" in sys.stderr.getvalue()
