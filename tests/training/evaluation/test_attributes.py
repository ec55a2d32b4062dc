from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import quick
from training import checkpoint
from training.__main__ import main
from training.data import dataset
from training.errors import CheckpointError, DataError
from training.evaluation import attributes, inference
from training.evaluation.factors import directions
from training.train import train


@pytest.fixture(scope="module")
def trained_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE that has learnt enough to be moved about in."""
    folder = tmp_path_factory.mktemp("trained")
    train(quick("vae", "run.epochs=40", "run.batch_size=64"), folder)
    return folder


def brightness_table(path: Path) -> Path:
    """A CSV with the mean of each image, in the order of the source."""
    digits = dataset.digits()
    brightness = np.zeros(digits.source_count)
    for split in (digits.train, digits.validation, digits.test):
        brightness[split.positions] = split.images.mean((1, 2, 3))
    path.write_text("brightness\n" + "\n".join(map(str, brightness)) + "\n")
    return path


@pytest.mark.slow
def test_attributes_are_fitted_scored_and_stored(
    trained_vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = (trained_vae / "best" / checkpoint.WEIGHTS).read_bytes()
    table = brightness_table(tmp_path / "table.csv")
    assert main(["attributes", str(trained_vae), "--csv", str(table)]) == 0
    printed, stored = capsys.readouterr().out, checkpoint.load(trained_vae)
    assert stored.latents is not None
    names = stored.latents.attribute_names.tolist()
    assert names[:3] == ["thickness", "slant", "brightness"]
    assert stored.latents.attribute_directions.shape == (len(names), 20)
    scores = stored.meta["attributes"]
    assert all(name in printed for name in scores)
    assert scores["slant"]["spearman"] >= 0.85
    assert scores["slant"]["class_kept"] >= 0.9
    assert scores["slant"]["gain"] == pytest.approx(1, abs=0.2)
    assert scores["slant"]["leakage"] <= 0.25
    assert np.mean([each["class_reached"] for name, each in scores.items() if "-to-" in name]) >= 0.6
    assert (trained_vae / "best" / checkpoint.WEIGHTS).read_bytes() == weights
    assert (trained_vae / "attribute-slant.png").is_file()
    # The user's own column was taken in the order of the source: along it images become brighter.
    assert stored.latents.attribute_means[2] == pytest.approx(dataset.digits().train.images.mean(), rel=1e-9)
    start, step = np.zeros((1, 20), np.float32), stored.latents.attribute_directions[2].astype(np.float32)
    means = [inference.decode(stored.model, start + amount * step).mean().item() for amount in (-1, 0, 1)]
    assert means == sorted(means)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n1\n2\n", "each of the 1797 images of the source, got 2"),
        ("a\n" + "x\n" * 1797, "a number in every cell"),
        ("a\n" + "nan\n" * 1797, "finite"),
        ("a,b,a\n" + "1,2,3\n" * 1797, "columns of different names, got several of a: rename"),
        ("a" * 51 + "\n" + "1\n" * 1797, "at most 50 characters, got one of 51: shorten"),
    ],
)
def test_an_unfit_table_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        attributes.read_table(tmp_path / "table.csv", dataset.digits())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("large", "message"), [(1e200, "spread are finite"), (1e308, "spread are finite"), (1e-200, "differ")]
)
def test_a_column_without_a_finite_mean_and_spread_leaves_the_run_alone(
    vae_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], large: float, message: str
) -> None:
    kept = {path.name: path.read_bytes() for path in (vae_run / "best").iterdir()}
    # All between the large ones of both signs is ordinary.
    numbers = [(1, -1)[row // 300 % 2] * large if row % 300 == 0 else row * min(large, 1.0) for row in range(1797)]
    table = tmp_path / "table.csv"
    table.write_text("fine,a\n" + "".join(f"{row},{number}\n" for row, number in enumerate(numbers)))
    assert main(["attributes", str(vae_run), "--csv", str(table)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "fine" not in said
    assert {path.name: path.read_bytes() for path in (vae_run / "best").iterdir()} == kept


def test_directions_that_could_not_be_read_again_are_not_stored(vae_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_no_spread(name: str, size: int) -> directions.Direction:
        return directions.Direction(name, np.zeros(size), 0.0, np.inf)

    monkeypatch.setattr(attributes, "calibrate", lambda _, codes, each: of_no_spread(each.name, codes.shape[1]))
    monkeypatch.setattr(attributes, "follow", lambda _, __, each, ___: each)
    with pytest.raises(DataError, match=r"cannot be stored: latents.npz: attribute_spreads: .*; change columns"):
        attributes.fit(checkpoint.load(vae_run), dataset.digits())


def test_the_byte_order_mark_of_a_spreadsheet_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a\n" + "".join(f"{row}\n" for row in range(1797)), encoding="utf-8-sig")
    assert list(attributes.read_table(tmp_path / "table.csv", dataset.digits())) == ["a"]


def test_a_column_that_is_the_same_everywhere_has_no_direction(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("width,flat\n" + "".join(f"{row},7\n" for row in range(1797)))
    with pytest.raises(DataError, match="differ between training images; not so in flat"):
        attributes.read_table(tmp_path / "table.csv", dataset.digits())


@pytest.mark.parametrize("name", ["slant", "3-to-5", "a/b", "", "../x"])
def test_a_column_with_a_name_of_ours_or_of_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "table.csv").write_text(f"width,{name}\n" + "".join(f"{row},{row}\n" for row in range(1797)))
    with pytest.raises(DataError, match="columns named in letters"):
        attributes.read_table(tmp_path / "table.csv", dataset.digits())


def test_classes_may_be_named_as_directions_are() -> None:
    labels, codes = np.array([0, 0, 1, 1]), np.array([[0.0], [0], [9], [9]])
    classes = "day-to-night", "night"
    found = directions.class_pairs(codes, labels, classes)
    assert [attributes.ends(each, classes) for each in found] == [(0, 1), (1, 0)]


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as CSV"):
        attributes.read_table(tmp_path / "none.csv", dataset.digits())


def test_a_model_without_a_code_has_no_attributes(denoiser_run: Path) -> None:
    with pytest.raises(CheckpointError, match="no latent space"):
        attributes.fit(checkpoint.load(denoiser_run), dataset.digits())


def test_other_data_are_refused(vae_run: Path) -> None:
    other = dataset.digits()
    other.train.images[0, 0, 0] ^= 1
    with pytest.raises(CheckpointError, match="vae was trained on other data than digits holds: give the folder"):
        attributes.fit(checkpoint.load(vae_run), other)
