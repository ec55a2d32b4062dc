import dataclasses
from pathlib import Path

import free_networks
import networks
import numpy as np
import pytest

from bundle.detection import HeldOutScores, calibrate
from bundle.layout import describe_files
from export import exporter
from export.errors import ExportError, GateError
from export.exporter import (
    DESCRIPTION,
    Draft,
    assemble,
    build_and_check,
    check_reproducible,
    in_fewer_bits,
    rebuilding,
    write,
)
from export.gate import checks
from export.gate.sandbox import Sandbox
from export.inspection.verify import verify
from export.publication.publish import Place
from training.checkpoint import Checkpoint
from training.data.dataset import Split


@pytest.fixture(scope="module")
def loaded() -> Checkpoint:
    """A VAE without latent statistics, of colour images."""
    network = networks.weighted(networks.VariationalAutoencoder((6, 6, 3)))
    meta = {"name": "tiny", "metrics": {"kl": 1, "nan": np.nan}, "data": {"name": "blobs"}}
    return Checkpoint(network, meta, Split(networks.blobs(32, (6, 6, 3)), None), None)


def denoising(network: networks.Network) -> Checkpoint:
    """A checkpoint of one graph: what takes time is to build them."""
    images = networks.blobs(32, network.image_shape)
    return Checkpoint(networks.weighted(network), {"name": "tiny"}, Split(images, None), None)


@pytest.fixture(scope="module")
def draft(loaded: Checkpoint) -> Draft:
    return assemble(loaded, "ab" * 32)


def test_a_draft_holds_all_that_is_hashed(draft: Draft) -> None:
    assert sorted(draft.contents) == ["decode.onnx", "encode.onnx", "golden.npz", "reconstruct.onnx"]
    assert list(draft.model.files) == describe_files(draft.contents)
    assert list(draft.model.methods) == ["Encode", "Decode", "Reconstruct", "Sample", "Interpolate"]
    assert dict(draft.model.metrics) == {"kl": 1.0}
    assert draft.model.provenance["weights_sha256"] == "ab" * 32
    assert draft.model.provenance["precision"] == "float32"
    assert draft.golden.sample_case is not None


@pytest.mark.parametrize("name", ["encode.onnx", "golden.npz"])
def test_a_second_export_of_other_bytes_is_refused(name: str, draft: Draft) -> None:
    check_reproducible(draft, draft)
    other = dataclasses.replace(draft, contents=draft.contents | {name: draft.contents[name] + b" "})
    with pytest.raises(GateError, match=name) as refusal:
        check_reproducible(draft, other)
    assert refusal.value.check == "reproducibility"


def test_a_second_export_of_another_description_is_refused(draft: Draft) -> None:
    other = exporter.Model()
    other.CopyFrom(draft.model)
    other.provenance["seed"] = "1"
    with pytest.raises(GateError, match=r"model\.json"):
        check_reproducible(draft, dataclasses.replace(draft, model=other))


@pytest.mark.slow
def test_a_bundle_that_depends_on_the_order_of_a_set_is_refused() -> None:
    checkpoint = denoising(networks.Unordered((6, 6, 3)))
    draft = assemble(checkpoint, "ab" * 32)
    check_reproducible(draft, assemble(checkpoint, "ab" * 32))  # built here again: nothing shows
    with (
        pytest.raises(GateError, match=r"denoise\.onnx") as refusal,
        rebuilding(checkpoint, "ab" * 32, "float32") as again,
    ):
        check_reproducible(draft, again())
    assert refusal.value.check == "reproducibility"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_variant_describes_itself(precision: exporter.Precision, sandbox: Sandbox) -> None:
    loaded = denoising(networks.Denoiser((6, 6, 3)))
    draft = assemble(loaded, "ab" * 32)
    variant = in_fewer_bits(draft, precision, loaded.latents, sandbox)
    assert variant.model.provenance["precision"] == precision
    assert list(variant.model.files) == describe_files(variant.contents)
    assert variant.contents["golden.npz"] == draft.contents["golden.npz"]
    assert variant.contents["denoise.onnx"] != draft.contents["denoise.onnx"]
    assert list(variant.model.signatures) == list(draft.model.signatures)
    with rebuilding(loaded, "ab" * 32, precision) as again:
        check_reproducible(variant, again())


def test_a_description_that_the_graphs_do_not_keep_is_refused(draft: Draft) -> None:
    checks.run((DESCRIPTION,), (draft.model, draft.golden))
    other = exporter.Model()
    other.CopyFrom(draft.model)
    other.latent_size = 5
    with pytest.raises(GateError, match="latents") as refusal:
        checks.run((DESCRIPTION,), (other, draft.golden))
    assert refusal.value.check == "structure"


def detecting(held_out: int, score: str = "max") -> Checkpoint:
    network = networks.weighted(networks.Detector((8, 10, 3)))
    network.detection_score = score
    maps = np.random.default_rng(0).random((held_out, 8, 10), np.float32)
    scores = HeldOutScores.of_maps(maps, "max" if score == "max" else "mean")
    return Checkpoint(network, {"name": "tiny"}, Split(networks.blobs(32, (8, 10, 3)), None), None, scores)


def test_a_detector_is_calibrated_on_the_scores_of_its_checkpoint() -> None:
    checkpoint = detecting(99)
    draft = assemble(checkpoint, "ab" * 32)
    assert sorted(draft.contents) == ["detect.onnx", "golden.npz"]
    assert list(draft.model.methods) == ["Detect"]
    assert checkpoint.held_out_scores is not None
    assert draft.model.detection == calibrate(checkpoint.held_out_scores, "max")
    checks.run((DESCRIPTION,), (draft.model, draft.golden))
    draft.model.detection.score = "mean"
    with pytest.raises(GateError, match="scores that are the mean of their maps") as refusal:
        checks.run((DESCRIPTION,), (draft.model, draft.golden))
    assert refusal.value.check == "structure"


@pytest.mark.parametrize(
    ("held_out", "score", "message"),
    [(8, "max", "at least 9 held-out normal images"), (20, "median", "detection_score is max or mean")],
)
def test_a_detector_that_cannot_be_calibrated_is_refused(held_out: int, score: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        assemble(detecting(held_out, score), "ab" * 32)


TILES = {
    free_networks.FreeUNet: {"denoise": (12, 4, 256)},
    free_networks.FreeAutoencoder: {"encode": (4, 4, 256), "decode": (2, 1, 64), "reconstruct": (12, 4, 256)},
    free_networks.Attending: {},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TILES)
def test_networks_of_free_sizes(kind: type[free_networks.FreeNetwork], tmp_path: Path, sandbox: Sandbox) -> None:
    network = networks.weighted(kind())
    images = networks.blobs(24, (48, 45, network.image_shape[2]))
    checkpoint = Checkpoint(network, {"name": "tiny"}, Split(images, None), None)
    draft, result = build_and_check(checkpoint, "ab" * 32, "float32", "cpu", sandbox)
    written = write(draft, result, Place(tmp_path, "tiny", 1), 0.0)
    tilings = {each.name: each.tiling for each in written.model.signatures if each.HasField("tiling")}
    assert {name: (each.halo, each.multiple, each.tile) for name, each in tilings.items()} == TILES[kind]
    assert all(each.exact for each in tilings.values())
    untileable = {name for name in written.model.provenance if name.startswith("untileable_")}
    assert untileable == ({"untileable_denoise"} if not tilings else set())
    assert not untileable or "ReduceMean" in written.model.provenance["untileable_denoise"]
    assert [each for each in verify(written.folder) if not each.passed] == []
