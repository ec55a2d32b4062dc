import dataclasses
import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from training import checkpoint
from training.config import Data
from training.data.dataset import Dataset, load
from training.data.split import Split
from training.errors import CheckpointError


@pytest.fixture
def copy(vae_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(vae_run, tmp_path / "run"))


def test_a_run_and_its_best_folder_give_the_same(vae_run: Path) -> None:
    run, best = checkpoint.load(vae_run), checkpoint.load(vae_run / "best")
    for name, weight in run.model.state_dict().items():
        assert torch.equal(weight, best.model.state_dict()[name])
    assert run.meta == best.meta


def test_it_carries_all_that_export_needs(vae_run: Path) -> None:
    loaded = checkpoint.load(vae_run)
    assert not loaded.model.training
    assert all(weight.dtype == torch.float32 for weight in loaded.model.parameters())
    assert (loaded.model.family, loaded.model.image_shape, loaded.model.latent_size) == ("vae", (28, 28, 1), 20)
    assert loaded.reference.images.shape == (297, 28, 28, 1)
    assert (loaded.reference.images.dtype, loaded.reference.labels.dtype) == (np.uint8, np.int64)
    assert loaded.latents.mean.shape == (20,)
    assert loaded.meta["data"]["name"] == "digits"
    assert {"elbo_loss", "mse", "validation_loss"} <= loaded.meta["metrics"].keys()


def test_a_denoiser_has_no_latent_statistics(denoiser_run: Path) -> None:
    assert checkpoint.load(denoiser_run).latents is None


def test_no_path_user_or_host_is_kept(vae_run: Path) -> None:
    text = (vae_run / "best" / checkpoint.META).read_text()
    assert "folder" not in text
    assert "/" not in text.replace("nats/", "")


def test_weights_file_has_no_metadata(vae_run: Path) -> None:
    data = (vae_run / "best" / checkpoint.WEIGHTS).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert "__metadata__" not in header


def test_an_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*checkpoint.json"):
        checkpoint.load(tmp_path)


def test_another_format_version_is_refused(copy: Path) -> None:
    path = copy / "best" / checkpoint.META
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(CheckpointError, match="expected checkpoint format 1, got 99"):
        checkpoint.load(copy)


@pytest.mark.parametrize("name", [checkpoint.WEIGHTS, checkpoint.META, checkpoint.REFERENCE, checkpoint.LATENTS])
def test_a_truncated_file_is_refused(copy: Path, name: str) -> None:
    path = copy / "best" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"damaged|cannot be read"):
        checkpoint.load(copy)


@pytest.mark.parametrize("name", [checkpoint.WEIGHTS, checkpoint.REFERENCE])
def test_a_missing_file_is_refused(copy: Path, name: str) -> None:
    (copy / "best" / name).unlink()
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(copy)


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    path = copy / "best" / checkpoint.META
    meta = json.loads(path.read_text())
    meta["model"]["architecture"]["latent_size"] = 3
    path.write_text(json.dumps(meta))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(copy)


def test_a_failed_write_leaves_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    checkpoint.write(folder, {"a": b"old"})
    with pytest.raises(OSError, match="No such file"):
        checkpoint.write(folder, {"a": b"new", "no/such/folder": b""})
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert (folder / "a").read_bytes() == b"old"


def test_a_full_disk_leaves_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    checkpoint.write(folder, {"a": b"old"})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Past the limit the kernel sends SIGXFSZ, which Python ignores, and fails the write: as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.write(folder, {"a": bytes(1 << 17)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert (folder / "a").read_bytes() == b"old"


def test_death_between_the_two_renames_loses_nothing(copy: Path) -> None:
    best = copy / "best"
    best.rename(copy / "best.previous")
    assert checkpoint.load(copy).meta["name"] == "vae"
    checkpoint.recover(best)
    assert checkpoint.load(best).meta["name"] == "vae"
    assert not (copy / "best.previous").exists()


def test_what_a_dead_process_left_is_cleared_away(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    (tmp_path / ".best.new").mkdir()
    (tmp_path / ".best.new" / "half").write_bytes(b"x")
    checkpoint.write(folder, {"a": b"1"})
    checkpoint.write(folder, {"b": b"2"})
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert [path.name for path in folder.iterdir()] == ["b"]


def dataset(labels: np.ndarray | None) -> Dataset:
    split = Split(np.arange(64, dtype=np.uint8).reshape(4, 4, 4, 1), labels)
    return Dataset("own", split, split, split, (), 12)


def test_a_single_class_is_the_same_data_with_and_without_its_label() -> None:
    plain, labelled = dataset(None), dataset(np.zeros(4, np.int64))
    assert checkpoint.is_data_of(plain, labelled.sha256)
    assert checkpoint.is_data_of(plain, plain.sha256)
    assert not checkpoint.is_data_of(labelled, plain.sha256)
    assert not checkpoint.is_data_of(plain, dataset(np.arange(4)).sha256)
    other = dataclasses.replace(plain, test=Split(np.zeros((4, 4, 4, 1), np.uint8), None))
    assert not checkpoint.is_data_of(other, labelled.sha256)


def test_data_that_once_had_8_bits_are_recognised(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65_536, (20, 8, 8), dtype=np.uint16)
    found = []
    for name, images in (("deep", deep), ("bytes", np.rint(deep / 257).astype(np.uint8)), ("other", deep[::-1])):
        np.save(tmp_path / f"{name}.npy", images)
        found.append(load(Data(kind="npz", folder=str(tmp_path / f"{name}.npy"))))
    assert checkpoint.is_data_of(found[0], found[1].sha256)
    assert not checkpoint.is_data_of(found[1], found[0].sha256)
    assert not checkpoint.is_data_of(found[2], found[1].sha256)
