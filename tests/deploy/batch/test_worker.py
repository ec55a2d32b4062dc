"""A worker without Ray: the rows that it writes, against the answers of a server."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb

from deploy.batch import plan
from deploy.batch.errors import JobError
from deploy.batch.model import Model
from deploy.batch.options import Options
from deploy.batch.storage import Store
from deploy.batch.worker import Work, Worker
from server.config import Config
from tests.deploy.batch.conftest import noise, rows, write
from tests.deploy.conftest import GOLDEN
from tests.server.conftest import Served, array, serving
from tests.server.free_models import write_autoencoder, write_denoiser, write_detector

SIZES = [(16, 16), (33, 47), (16, 16), (64, 20)]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_autoencoder(folder)
    write_detector(folder)
    write_denoiser(folder, levels=True)
    for name in ("vae", "denoiser"):
        (folder / name).symlink_to(GOLDEN / name)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Served]:
    with serving(repository) as served:
        yield served


def images(count: int = 40) -> dict[str, bytes]:
    return {f"{index:03}.png": data for index, data in enumerate(noise(count))}


def sized() -> dict[str, bytes]:
    return {f"{index}.png": noise(1, *size, seed=index)[0] for index, size in enumerate(SIZES)}


def work(tmp_path: Path, bundle: Path, task: str, settings: Config | None = None, **options: object) -> Worker:
    """A worker on tmp_path/images, with the plan written."""
    output = tmp_path / "out"
    chosen = Options(task=task, bundle=str(bundle), images=str(tmp_path / "images"), output=str(output), **options)
    store = Store(str(output))
    items = plan.missing(store, Store(chosen.images), chosen.part_images, lambda *_: None)
    plan.append(store, items, chosen.part_images, 1)
    return Worker(Work(chosen, Model.read(chosen.bundle, 2**31), settings or Config(repository=Path())))


def do_all(worker: Worker, tmp_path: Path) -> dict[str, dict]:
    try:
        for part in plan.read(Store(str(tmp_path / "out")))[0]:
            worker.do(part)
    finally:
        worker.engine.close()
    return rows(tmp_path / "out")


def encoded(data: bytes) -> pb.Images:
    return pb.Images(encoded=pb.EncodedImages(files=[data]))


@pytest.mark.parametrize("batch_images", [1, 7, 256])
def test_latents_have_the_bits_of_the_server(
    tmp_path: Path, repository: Path, server: Served, batch_images: int
) -> None:
    files = images()
    write(tmp_path / "images", files)
    worker = work(tmp_path, repository / "vae" / "1", "encode", batch_images=batch_images, part_images=16)
    for name, row in do_all(worker, tmp_path).items():
        answer = server.stub.Encode(pb.EncodeRequest(model_name="vae", images=encoded(files[name])))
        assert np.array(row["latents"], np.float32).tobytes() == answer.latents.data
        assert (row["error"], row["model"], row["version"]) == (None, "vae", "1")


def test_latents_of_images_of_many_sizes(tmp_path: Path, repository: Path, server: Served) -> None:
    files = sized()
    write(tmp_path / "images", files)
    for name, row in do_all(work(tmp_path, repository / "free-ae" / "1", "encode"), tmp_path).items():
        answer = server.stub.Encode(pb.EncodeRequest(model_name="free-ae", images=encoded(files[name])))
        assert np.array(row["latents"], np.float32).tobytes() == answer.latents.data
        assert row["latent_shape"] == list(answer.latents.shape[1:])


@pytest.mark.parametrize(("model", "level"), [("denoiser", None), ("free", 0.3)])
def test_denoised_files_are_those_of_the_server(
    tmp_path: Path, repository: Path, server: Served, model: str, level: float | None
) -> None:
    files = images() if level is None else sized()
    write(tmp_path / "images", files)
    levels = [] if level is None else [level]
    done = do_all(work(tmp_path, repository / model / "1", "denoise", noise_level=level), tmp_path)
    for name, row in done.items():
        answer = server.stub.Denoise(
            pb.DenoiseRequest(
                model_name=model, images=encoded(files[name]), noise_levels=levels, image_format=pb.IMAGE_FORMAT_PNG
            )
        )
        assert [row["image"]] == list(answer.images.encoded.files)


def test_reconstructions_and_their_errors_are_those_of_the_server(
    tmp_path: Path, repository: Path, server: Served
) -> None:
    files = images()
    write(tmp_path / "images", files)
    for name, row in do_all(work(tmp_path, repository / "vae" / "1", "reconstruct"), tmp_path).items():
        request = pb.ReconstructRequest(model_name="vae", images=encoded(files[name]), image_format=pb.IMAGE_FORMAT_PNG)
        answer = server.stub.Reconstruct(request)
        assert [row["image"]] == list(answer.images.encoded.files)
        assert np.float32(row["squared_error"]) == array(answer.squared_errors)[0]


@pytest.mark.parametrize("chosen", [{}, {"threshold": 0.5, "map_threshold": 0.9}])
def test_detections_are_those_of_the_server(
    tmp_path: Path, repository: Path, server: Served, chosen: dict[str, float]
) -> None:
    files = sized()
    write(tmp_path / "images", files)
    for name, row in do_all(work(tmp_path, repository / "detector" / "1", "detect", **chosen), tmp_path).items():
        answer = server.stub.Detect(pb.DetectRequest(model_name="detector", images=encoded(files[name]), **chosen))
        assert np.float32(row["score"]) == array(answer.scores)[0]
        assert (row["anomalous"], np.float32(row["threshold"])) == (answer.anomalous[0], np.float32(answer.threshold))
        ours = [tuple(region.values()) for region in row["regions"]]
        assert ours == [(each.top, each.left, each.height, each.width, each.score) for each in answer.regions]
        assert ours


def test_an_image_that_cannot_be_used_has_an_error_and_spoils_no_other(
    tmp_path: Path, repository: Path, server: Served
) -> None:
    good = images()
    bad = {"005a.png": b"no image", "011a.png": noise(1, 9, 9)[0], "020a.png": good["000.png"][:60], "030a.png": b""}
    write(tmp_path / "images", good | bad)
    (tmp_path / "images" / "040.png").symlink_to("gone")
    done = do_all(work(tmp_path, repository / "vae" / "1", "encode"), tmp_path)
    assert {name for name, row in done.items() if row["error"]} == {*bad, "040.png"}
    assert all((row["latents"] is None) == bool(row["error"]) for row in done.values())
    assert done["011a.png"]["error"].startswith("expected images of 8 x 8 pixels")
    for name in bad:
        with pytest.raises(grpc.RpcError) as refused:
            server.stub.Encode(pb.EncodeRequest(model_name="vae", images=encoded((good | bad)[name])))
        assert refused.value.details().endswith(done[name]["error"])


def test_limits_are_those_of_the_servers_settings(tmp_path: Path, repository: Path) -> None:
    small, large = noise(1)[0], noise(1, 100, 100)[0]
    write(tmp_path / "images", {"a.png": small, "b.png": large})
    settings = Config(repository=Path(), max_message_bytes=len(large) - 1)
    done = do_all(work(tmp_path, repository / "vae" / "1", "encode", settings, resize=True), tmp_path)
    assert done["a.png"]["error"] is None
    assert done["b.png"]["error"] == (
        f"expected a file of at most {len(large) - 1} bytes, got {len(large)}: raise HOURGLASS_MAX_MESSAGE_BYTES"
    )


def test_a_part_that_is_there_is_not_done_again(tmp_path: Path, repository: Path) -> None:
    write(tmp_path / "images", images())
    worker = work(tmp_path, repository / "vae" / "1", "encode", part_images=16)
    first, *_ = plan.read(Store(str(tmp_path / "out")))[0]
    write(tmp_path / "out", {first.name: b"as it is"})
    assert worker.do(first)["images"] == first.rows
    assert (tmp_path / "out" / first.name).read_bytes() == b"as it is"
    worker.engine.close()


def test_a_part_that_ends_its_worker_again_and_again_is_given_up(tmp_path: Path, repository: Path) -> None:
    write(tmp_path / "images", images())
    worker = work(tmp_path, repository / "vae" / "1", "encode", part_images=16)
    first, *_ = plan.read(Store(str(tmp_path / "out")))[0]
    write(tmp_path / "out", {first.tries: b"4"})
    with pytest.raises(RuntimeError, match="part 0 has ended its worker 4 times"):
        worker.do(first)
    worker.engine.close()


def test_a_part_that_cannot_be_written_says_why(tmp_path: Path, repository: Path) -> None:
    write(tmp_path / "images", images())
    worker = work(tmp_path, repository / "vae" / "1", "encode")
    write(tmp_path / "out", {"parts": b"no folder"})
    first, *_ = plan.read(Store(str(tmp_path / "out")))[0]
    batch = {name: np.array([value]) for name, value in first._asdict().items()}
    with pytest.raises(JobError, match=r"parts/part-.*: expected a file that can be written: File exists"):
        worker(batch)
    worker.engine.close()
