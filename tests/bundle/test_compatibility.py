"""Parts of a bundle that do not fit each other; tests/server/test_compatibility.py has a server load them."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT32, Model, NoiseLevel, Signature, SizeRange, TensorSpec, Tiling
from numpy.typing import NDArray

from bundle import layout
from bundle.compatibility import check_golden, check_model, check_statistics
from bundle.detection import HeldOutScores, calibrate
from bundle.errors import BundleError
from bundle.golden import Case, Golden
from bundle.latents import LatentStatistics

FOLDER = Path(__file__).parents[1] / "golden" / "vae" / "1"
Arrays = Mapping[str, NDArray[np.generic]]


def golden() -> Golden:
    return Golden.from_bytes((FOLDER / layout.GOLDEN_FILE).read_bytes())


@pytest.mark.parametrize("name", ["fc-ae", "vae", "denoiser", "multitask"])
def test_committed_bundles_fit(name: str) -> None:
    folder = FOLDER.parents[1] / name / "1"
    model = layout.read_model(folder)
    check_model(model)
    check_golden(model, Golden.from_bytes((folder / layout.GOLDEN_FILE).read_bytes()))


def set_buckets(model: Model) -> None:
    model.signatures[0].batch_buckets.append(2**30)


def set_tolerance(value: float) -> Callable[[Model], None]:
    return lambda model: setattr(model.signatures[0], "golden_tolerance", value)


EDITS: dict[str, tuple[Callable[[Model], object], str]] = {
    "a batch that fills the memory": (set_buckets, "expected batch buckets of 1 to 4096 rows"),
    "a tolerance without end": (set_tolerance(float("inf")), "expected a finite golden tolerance"),
    "no tolerance at all": (set_tolerance(float("nan")), "expected a finite golden tolerance"),
    "a negative tolerance": (set_tolerance(-1.0), "expected a finite golden tolerance"),
    "images of nothing": (lambda model: setattr(model, "height", 0), "at least one pixel"),
    "vectors for images of any size": (
        lambda model: (
            setattr(model, "height", 0),
            setattr(model, "width", 0),
            model.sizes.CopyFrom(SizeRange(multiple=1, minimum=1, maximum_pixels=100)),
        ),
        "expected spatial latents, from which the sizes",
    ),
    "a default among no levels": (
        lambda model: model.noise_level.CopyFrom(NoiseLevel(minimum=0.1, maximum=0.5, default=0.05)),
        "a default among them",
    ),
    "a graph twice": (lambda model: model.signatures.append(model.signatures[0]), "expected one graph a signature"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_descriptions_that_no_server_should_believe(edit: str) -> None:
    change, message = EDITS[edit]
    model = layout.read_model(FOLDER)
    change(model)
    with pytest.raises(BundleError, match=message):
        check_model(model)


def detector() -> Model:
    """Of grey images of 4 x 6 pixels, calibrated on 9 of them."""

    def spec(name: str, *axes: int) -> TensorSpec:
        return TensorSpec(name=name, data_type=DATA_TYPE_FLOAT32, shape=[-1, *axes])

    outputs = [spec("scores"), spec("maps", 4, 6, 1)]
    signature = Signature(name="detect", file="detect.onnx", inputs=[spec("images", 4, 6, 1)], outputs=outputs)
    maps = np.arange(9 * 24, dtype=np.float32).reshape(9, 4, 6)
    detection = calibrate(HeldOutScores.of_maps(maps, "max"), "max")
    return Model(methods=["Detect"], height=4, width=6, channels=1, signatures=[signature], detection=detection)


def detected(scores: float) -> Golden:
    maps = np.arange(24, dtype=np.float32).reshape(1, 4, 6, 1)
    outputs = {"scores": np.full(1, scores, np.float32), "maps": maps}
    return Golden({"detect": (Case({"images": np.zeros_like(maps)}, outputs),)})


def test_a_detector_and_its_calibration_fit() -> None:
    check_model(detector())
    check_golden(detector(), detected(23))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda model: model.ClearField("detection"),
            "its calibration, detection, or neither, got the graph alone",
        ),
        (lambda model: (model.methods.pop(), model.signatures.pop()), "or neither, got its calibration alone"),
        (lambda model: model.signatures.pop(), "method Detect needs the graphs detect"),
        (lambda model: model.signatures[0].outputs.pop(0), "expected images to scores, maps"),
        (lambda model: setattr(model.detection, "default_rate", 0.5), "a default_rate among the rates"),
        (lambda model: setattr(model.detection, "calibrated_height", 5), "of the model's size, got 5 x 6"),
    ],
)
def test_detectors_that_no_server_should_believe(change: Callable[[Model], object], message: str) -> None:
    model = detector()
    change(model)
    with pytest.raises(BundleError, match=message):
        check_model(model)


def test_golden_scores_that_are_not_of_their_maps_are_refused() -> None:
    with pytest.raises(BundleError, match="expected scores that are the max of their maps"):
        check_golden(detector(), detected(11.5))


def free() -> Model:
    """A denoiser of free sizes, with a noise level and tiles."""

    def spec(name: str, *axes: int) -> TensorSpec:
        return TensorSpec(name=name, data_type=DATA_TYPE_FLOAT32, shape=[-1, *axes])

    images = spec("images", -1, -1, 1)
    signature = Signature(
        name="denoise",
        file="denoise.onnx",
        inputs=[images, spec("noise_levels")],
        outputs=[spec("denoised", -1, -1, 1)],
        batch_buckets=[1, 2],
        tiling=Tiling(halo=8, multiple=4, tile=32),
    )
    sizes = SizeRange(multiple=4, minimum=4, maximum_pixels=2**20)
    level = NoiseLevel(maximum=0.25)
    return Model(
        family="denoiser", methods=["Denoise"], channels=1, sizes=sizes, noise_level=level, signatures=[signature]
    )


def denoised(*size: int, rows: int = 4) -> Golden:
    images = np.zeros((rows, *size, 1), np.float32)
    inputs = {"images": images, "noise_levels": np.zeros(rows, np.float32)}
    return Golden({"denoise": (Case(inputs, {"denoised": images}),)})


def test_free_sizes_and_noise_levels_fit() -> None:
    check_model(free())
    check_golden(free(), denoised(16, 20))


def set_tiling(**fields: int) -> Callable[[Model], None]:
    return lambda model: model.signatures[0].tiling.CopyFrom(Tiling(**fields))


FREE_EDITS: dict[str, tuple[Callable[[Model], object], str]] = {
    "no sizes": (lambda model: model.ClearField("sizes"), "expected sizes for a model of free height"),
    "a fixed height": (lambda model: setattr(model, "height", 8), "or of free sizes"),
    "no size at all": (lambda model: setattr(model.sizes, "minimum", 0), "sizes that images can have"),
    "no pixels": (lambda model: setattr(model.sizes, "maximum_pixels", 15), "sizes that images can have"),
    "levels upside down": (lambda model: setattr(model.noise_level, "minimum", 0.5), "noise levels from 0"),
    "levels without an input": (lambda model: model.signatures[0].inputs.pop(), "images, noise_levels to denoised"),
    "a tile that is all halo": (set_tiling(halo=8, multiple=4, tile=16), "room for a multiple"),
    # Rounded up to where tiles may begin, the halo is 8.
    "a tile that is all rounded halo": (set_tiling(halo=5, multiple=4, tile=19), "room for a multiple"),
    "tiles that begin nowhere": (set_tiling(halo=8, tile=32), "room for a multiple"),
}


@pytest.mark.parametrize("edit", FREE_EDITS)
def test_free_sizes_that_no_server_should_believe(edit: str) -> None:
    change, message = FREE_EDITS[edit]
    model = free()
    change(model)
    with pytest.raises(BundleError, match=message):
        check_model(model)


@pytest.mark.parametrize(
    ("golden", "message"),
    [(denoised(16, 18), "multiples of 4"), (denoised(32, 32), "at most 2048 cells"), (denoised(0, 16), "at least")],
)
def test_golden_images_of_impossible_sizes(golden: Golden, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check_golden(free(), golden)


def test_no_samples_of_free_sizes_from_a_mixture_of_channel_vectors() -> None:
    folder = FOLDER.parents[1] / "fc-ae" / "1"
    statistics = LatentStatistics.from_bytes((folder / layout.LATENTS_FILE).read_bytes())
    fixed = layout.read_model(folder)
    check_statistics(fixed, statistics)
    free = Model(family="ae", latent_shape=[0, 0, statistics.latent_size], attributes=fixed.attributes)
    check_statistics(free, statistics)
    free.methods.append("Sample")
    with pytest.raises(BundleError, match="expected a mixture fitted to whole codes"):
        check_statistics(free, statistics)


def with_case(change: Callable[[Case], Case]) -> Golden:
    """The vectors with another first case of the encoder."""
    expected = golden()
    first, *others = expected.cases["encode"]
    return dataclasses.replace(expected, cases={**expected.cases, "encode": (change(first), *others)})


def without(arrays: Arrays, name: str) -> Arrays:
    return {key: array for key, array in arrays.items() if key != name}


CASES: dict[str, tuple[Callable[[Case], Case], str]] = {
    "an output that nothing compares": (
        lambda case: Case(case.inputs, without(case.outputs, "log_variances")),
        "outputs: expected latents float32",
    ),
    "no outputs": (lambda case: Case(case.inputs, {}), "got none"),
    "no inputs": (lambda case: Case({}, case.outputs), "of 1 to"),
    "no rows": (
        lambda case: Case(
            {name: array[:0] for name, array in case.inputs.items()},
            {name: array[:0] for name, array in case.outputs.items()},
        ),
        "of 1 to",
    ),
    "more rows than a load runs": (
        lambda case: Case(
            {name: np.resize(array, (5000, *array.shape[1:])) for name, array in case.inputs.items()}, case.outputs
        ),
        "of 1 to .* rows, got 5000",
    ),
    "an input of another type": (
        lambda case: Case({name: array.astype(np.float64) for name, array in case.inputs.items()}, case.outputs),
        "inputs: expected images uint8",
    ),
    "an output of fewer rows": (
        lambda case: Case(case.inputs, {name: array[:1] for name, array in case.outputs.items()}),
        r"got latents float32 \(1, 3\)",
    ),
    "a strange output": (lambda case: Case(case.inputs, {**case.outputs, "more": np.zeros(4)}), "more float64"),
}


@pytest.mark.parametrize("change", CASES)
def test_vectors_of_another_shape_or_type(change: str) -> None:
    apply, message = CASES[change]
    with pytest.raises(BundleError, match=message) as refusal:
        check_golden(layout.read_model(FOLDER), with_case(apply))
    assert str(refusal.value).startswith("golden.npz: case 0 of 'encode'")


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 2**64},
        {"seed": -1},
        {"count": 10**12},
        {"temperature": float("nan")},
        {"latents": np.zeros((4, 2), np.float32)},
        {"images": np.zeros((3, 8, 8, 1), np.float32)},
        {"latents": np.zeros((0, 3), np.float32), "count": 0},
    ],
)
def test_impossible_samples(fields: dict[str, object]) -> None:
    case = golden().sample_case
    assert case is not None
    # What a file may hold, whatever the types say.
    changed = dataclasses.replace(golden(), sample_case=dataclasses.replace(case, **fields))
    with pytest.raises(BundleError, match="the sample"):
        check_golden(layout.read_model(FOLDER), changed)


def test_a_sample_without_a_decoder() -> None:
    model = layout.read_model(FOLDER)
    kept = [each for each in model.signatures if each.name != "decode"]
    del model.signatures[:]
    model.signatures.extend(kept)
    with pytest.raises(BundleError, match="expected a graph that decodes it"):
        check_golden(model, golden())
