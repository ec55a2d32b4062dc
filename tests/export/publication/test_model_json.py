import dataclasses
import math

import pytest
from autoencoder.v1.model_pb2 import Signature, Tiling
from autoencoder.v1.shapes import Shapes

from bundle.compatibility import check_model
from export.gate.parity import Measured, Worst
from export.graphs.tensor_specs import Facts, Sizes, signature
from export.publication.model_json import describe, finite_metrics, provenance, with_measurements

FACTS = Facts("vae", variational=True, image_shape=(8, 6, 1), latent_size=2, labels=())


def test_a_description_says_what_is_served() -> None:
    signatures = [signature(name, FACTS) for name in ("decode", "encode")]
    model = describe(FACTS, signatures, {"decode.onnx": b"graph"}, {"recipe": "x"}, metrics={"mse": 0.5}, imported=True)
    assert (model.family, model.height, model.width, model.channels, model.latent_size) == ("vae", 8, 6, 1, 2)
    assert list(model.methods) == ["Encode", "Decode", "Sample", "Interpolate"]
    assert [(file.path, file.size_bytes) for file in model.files] == [("decode.onnx", 5)]
    assert dict(model.provenance) == {"recipe": "x"}
    assert dict(model.metrics) == {"mse": 0.5}
    assert model.imported
    assert (model.name, model.version) == ("", "")


def test_a_description_says_which_sizes_codes_and_noise_levels_are_taken() -> None:
    about = dataclasses.replace(
        FACTS,
        image_shape=(0, 0, 1),
        latent_size=0,
        latent_shape=(0, 0, 6),
        downsampling=8,
        sizes=Sizes(8, 16, 10_000),
        noise_level=(0.0, 0.25, 0.0),
    )
    model = describe(about, [signature("decode", about)], {}, {})
    check_model(model)
    assert (model.height, model.width, model.latent_size) == (0, 0, 0)
    assert Shapes.of(model) == about.shapes
    assert list(model.methods) == ["Decode", "Sample"]
    assert (model.noise_level.minimum, model.noise_level.maximum, model.noise_level.default) == (0.0, 0.25, 0.0)
    # What stood before these facts were known is written as it was.
    old = describe(FACTS, [], {}, {})
    assert {"sizes", "noise_level", "latent_shape", "downsampling"}.isdisjoint(
        each.name for each, _ in old.ListFields()
    )


@pytest.mark.parametrize(("difference", "invariant"), [(0.0, True), (1e-9, False)])
def test_measurements_are_added_to_a_signature(difference: float, invariant: bool) -> None:
    measured = Measured((Worst("zeros", 1, "images", 1.234e-7, 0.1),), difference, 0.0, (1, 2))
    known = with_measurements(
        Signature(name="decode"), measured, [1, 2, 4], tolerance=0.25, tiling=Tiling(halo=4, tile=256)
    )
    assert (known.name, known.golden_tolerance, known.batch_invariant) == ("decode", 0.25, invariant)
    assert known.parity_max_abs_error == pytest.approx(1.3e-7)
    assert list(known.batch_buckets) == [1, 2, 4]
    assert (known.tiling.halo, known.tiling.tile) == (4, 256)


def test_only_finite_numbers_are_metrics() -> None:
    assert finite_metrics({"a": 1, "b": 0.5, "c": math.nan, "d": True, "e": "text"}) == {"a": 1.0, "b": 0.5}


def test_provenance_leaves_out_what_is_not_known() -> None:
    known = provenance({"name": "tiny", "config": {"run": {"seed": 5}}}, "ab")
    assert (known["recipe"], known["seed"], known["weights_sha256"]) == ("tiny", "5", "ab")
    assert "epoch" not in known
    assert {"python", "onnxruntime", "torch", "onnx"} <= known.keys()
