"""Models of other toolchains: graphs written by hand as ONNX text, with other names, layouts, types and opsets."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8, Model
from onnx import ModelProto, numpy_helper

from bundle import layout
from bundle.golden import Golden
from export.__main__ import main
from export.gate import session
from export.inspection.verify import verify

RNG = np.random.default_rng(0)


def write(path: Path, text: str, opset: int = 17, **weights: np.ndarray) -> Path:
    """A model from ONNX text, with weights as initialisers."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    for name, array in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, path)
    return path


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def encoder(folder: Path, name: str = "encoder.onnx", element: str = "float", opset: int = 17) -> Path:
    """Channels first, 3 colours, 4 x 6 pixels, a code of 5."""
    text = f"g ({element}[n, 3, 4, 6] x) => ({element}[n, 5] latents) {{ f = Flatten(x) latents = MatMul(f, w) }}"
    weights = floats(72, 5)
    return write(
        folder / name, text, opset, w=weights.astype({"float": "f4", "double": "f8", "float16": "f2"}[element])
    )


def decoder(folder: Path, last: str = "Sigmoid", size: str = "N") -> Path:
    text = (
        f"g (float[{size}, 5] images) => (float[{size}, 3, 4, 6] y)"
        f"<int64[4] shape = {{-1, 3, 4, 6}}> {{ f = MatMul(images, w) r = Reshape(f, shape) y = {last}(r) }}"
    )
    return write(folder / "decoder.onnx", text, w=floats(5, 72))


def run_import(folder: Path, *arguments: object, name: str = "foreign") -> int:
    return main(["import", *map(str, arguments), "--repository", str(folder / "models"), "--name", name])


def answer(folder: Path, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return session.open_session((folder / f"{signature}.onnx").read_bytes()).run(inputs)


def imported(folder: Path, name: str = "foreign") -> tuple[Path, Model]:
    version = folder / "models" / name / "1"
    model = layout.read_model(version)
    assert [each for each in verify(version) if not each.passed] == []
    return version, model


@pytest.mark.parametrize(("element", "opset"), [("float", 13), ("float", 18), ("double", 20), ("float16", 17)])
def test_an_encoder_and_a_decoder_become_an_autoencoder(element: str, opset: int, tmp_path: Path) -> None:
    assert run_import(tmp_path, encoder(tmp_path, element=element, opset=opset), decoder(tmp_path)) == 0
    folder, model = imported(tmp_path)
    assert (model.family, model.height, model.width, model.channels, model.latent_size) == ("ae", 4, 6, 3, 5)
    assert model.imported
    served = ["Encode", "Decode", "Reconstruct", "Interpolate"] if opset == 17 else ["Encode", "Decode", "Interpolate"]
    assert list(model.methods) == served
    images = RNG.integers(0, 256, (7, 4, 6, 3), dtype=np.uint8)
    weights = numpy_helper.to_array(onnx.load(tmp_path / "encoder.onnx").graph.initializer[0]).astype(np.float64)
    expected = (images / 255).transpose(0, 3, 1, 2).reshape(7, -1) @ weights
    got = answer(folder, "encode", {"images": images})["latents"]
    np.testing.assert_allclose(got, expected, atol=0.02 if element == "float16" else 1e-5)
    pictures = answer(folder, "decode", {"latents": got})["images"]
    assert pictures.shape == (7, 4, 6, 3)
    original = onnx.load(tmp_path / "decoder.onnx").SerializeToString()
    expected = session.open_session(original).run({"images": got})["y"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(pictures, expected, atol=1e-6)


def test_the_reconstruction_is_made_of_both(tmp_path: Path) -> None:
    assert run_import(tmp_path, encoder(tmp_path), decoder(tmp_path)) == 0
    folder, _ = imported(tmp_path)
    images = RNG.integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    both = answer(folder, "reconstruct", {"images": images})
    pictures = answer(folder, "decode", answer(folder, "encode", {"images": images}))["images"]
    np.testing.assert_allclose(both["reconstructions"], pictures, atol=1e-6)
    errors = ((pictures - images / 255.0) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(both["squared_errors"], errors, rtol=1e-5)


def test_two_outputs_make_a_vae_that_samples(tmp_path: Path) -> None:
    text = "g (float[b, 64] x) => (float[b, 2] mu, float[b, 2] lv) { mu = MatMul(x, w) lv = MatMul(x, v) }"
    write(tmp_path / "encoder.onnx", text, w=floats(64, 2), v=floats(64, 2))
    write(
        tmp_path / "d.onnx",
        "g (float[b, 2] z) => (float[b, 64] y) { l = MatMul(z, w) y = Sigmoid(l) }",
        w=floats(2, 64),
    )
    arguments = (tmp_path / "encoder.onnx", f"decode={tmp_path / 'd.onnx'}", "--image-shape", "8x8x1")
    assert run_import(tmp_path, *arguments) == 0
    folder, model = imported(tmp_path)
    assert model.family == "vae"
    assert list(model.methods) == ["Encode", "Decode", "Reconstruct", "Sample", "Interpolate"]
    case = Golden.from_bytes((folder / "golden.npz").read_bytes()).sample_case
    assert case is not None
    np.testing.assert_allclose(answer(folder, "decode", {"latents": case.latents})["images"], case.images, atol=1e-6)


def test_a_classifier_alone(tmp_path: Path) -> None:
    text = "g (uint8[b, 8, 8, 1] x) => (float[b, 2] p) <int64[2] s = {-1, 64}> "
    body = "{ c = Cast<to = 1>(x) f = Reshape(c, s) l = MatMul(f, w) p = Softmax(l) }"
    write(tmp_path / "classifier.onnx", text + body, w=floats(64, 2) / 255)
    assert run_import(tmp_path, tmp_path / "classifier.onnx", "--labels", "cat,dog") == 0
    folder, model = imported(tmp_path)
    assert list(model.methods) == ["Classify"]
    assert list(model.labels) == ["cat", "dog"]
    assert model.signatures[0].inputs[0].data_type == DATA_TYPE_UINT8
    images = RNG.integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    assert answer(folder, "classify", {"images": images})["probabilities"].shape == (3, 2)


def test_a_denoiser_keeps_float_images(tmp_path: Path) -> None:
    write(tmp_path / "denoiser.onnx", "g (float[b, 1, 8, 8] x) => (float[b, 1, 8, 8] y) { l = Neg(x) y = Sigmoid(l) }")
    assert run_import(tmp_path, tmp_path / "denoiser.onnx") == 0
    folder, model = imported(tmp_path)
    assert (model.family, list(model.methods)) == ("denoiser", ["Denoise"])
    images = RNG.random((2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(
        answer(folder, "denoise", {"images": images})["denoised"], 1 / (1 + np.exp(images)), atol=1e-6
    )


def test_the_same_files_give_the_same_version_twice(tmp_path: Path) -> None:
    files = encoder(tmp_path), decoder(tmp_path)
    for repository in ("a", "b"):
        (tmp_path / repository).mkdir()
        assert run_import(tmp_path / repository, *files) == 0
    first, second = (tmp_path / each / "models/foreign/1" for each in ("a", "b"))
    assert sorted(path.name for path in first.iterdir()) == sorted(path.name for path in second.iterdir())
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def external(model: ModelProto) -> None:
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")


def dynamic(model: ModelProto) -> None:
    model.graph.node[0].op_type = "DynamicQuantizeLinear"


def unsized(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def fixed(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def two_inputs(model: ModelProto) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("noise", 1, ["n", 5]))


def integers(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64


def nothing(model: ModelProto) -> None:
    del model.graph.output[:]


def no_opset(model: ModelProto) -> None:
    del model.opset_import[:]


def lost(model: ModelProto) -> None:
    """A weight of more numbers than it holds."""
    model.graph.initializer[0].dims[0] += 1


def out_of_reach(model: ModelProto) -> None:
    """Wants a row that only the sizes at work show not to be there."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([7, 72]), "seven"))
    model.graph.node[0].CopyFrom(onnx.helper.make_node("Reshape", ["x", "seven"], ["f"]))


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (external, 2, "export with external_data=False"),
        (dynamic, 1, "operator DynamicQuantizeLinear is not allowed"),
        (unsized, 2, "expected known sizes after the batch"),
        (fixed, 2, "expected a free batch, got one of 1"),
        (two_inputs, 2, "expected 1 input"),
        (integers, 2, "expected floating-point numbers"),
        (nothing, 2, "expected a graph with inputs and outputs, got 1 and 0"),
        (no_opset, 1, "expected opset 13 to 23, got 0"),
        (lost, 1, "onnx refuses the graph"),
        (out_of_reach, 1, "onnxruntime fails in the graph"),
    ],
)
def test_graphs_that_cannot_be_served(
    change: Callable[[ModelProto], None], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(encoder(tmp_path))
    change(model)
    (tmp_path / "encoder.onnx").write_bytes(model.SerializeToString())
    assert run_import(tmp_path, tmp_path / "encoder.onnx") == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_the_limit_of_memory_is_the_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_import(tmp_path, encoder(tmp_path), "--max-run-bytes", 1000) == 1
    assert "expected at most 1000 bytes of memory for the largest batch" in capsys.readouterr().err
    assert run_import(tmp_path, encoder(tmp_path)) == 0
    folder, _ = imported(tmp_path)
    assert main(["verify", str(folder), "--max-run-bytes", "1000"]) == 1


def test_pixels_out_of_range_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_import(tmp_path, decoder(tmp_path, last="Relu")) == 1
    assert "decode: images: expected pixels in 0 … 1" in capsys.readouterr().err


def test_rows_that_see_each_other_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "g (float[n, 5] z) => (float[n, 4, 4, 1] y) <int64[1] zero = {0}, int64[4] s = {-1, 4, 4, 1}>"
    body = "{ m = ReduceMean<axes = [0]>(z) c = Sub(z, m) l = MatMul(c, w) r = Reshape(l, s) y = Sigmoid(r) }"
    write(tmp_path / "decoder.onnx", text + body, w=floats(5, 16))
    assert run_import(tmp_path, tmp_path / "decoder.onnx") == 1
    assert "batch invariance" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere/encoder.onnx"], "expected a readable file"),
        (["{folder}/thing.onnx"], "named after what it does"),
        (["{folder}/text/encoder.onnx"], "expected an ONNX file"),
        (["{folder}/encoder.onnx", "encode={folder}/encoder.onnx"], "one file a signature"),
        (["{folder}/encoder.onnx", "--image-shape", "5x5x3"], "give --image-shape"),
        (["{folder}/encoder.onnx", "--labels", "a,b"], "expected 0 names"),
        (["decode={folder}/vast.onnx"], "expected images and latents of at most 1073741824 numbers"),
        (["{folder}/encoder.onnx", "decode={folder}/other.onnx"], "latents of one size"),
    ],
)
def test_bad_input_is_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder(tmp_path)
    write(tmp_path / "other.onnx", "g (float[b, 4] z) => (float[b, 3, 4, 6] y) { y = Sigmoid(z) }")
    write(tmp_path / "vast.onnx", "g (float[b, 4294967296] z) => (float[b, 1, 4, 6] y) { y = Sigmoid(z) }")
    (tmp_path / "text").mkdir()
    (tmp_path / "text/encoder.onnx").write_text("no graph")
    (tmp_path / "thing.onnx").write_bytes((tmp_path / "encoder.onnx").read_bytes())
    assert run_import(tmp_path, *(each.format(folder=tmp_path) for each in arguments)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "--name"), (["--name", "a", "--image-shape", "28x28"], "as in 28x28x1")]
)
def test_bad_usage_is_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["import", str(encoder(tmp_path)), "--repository", str(tmp_path / "models"), *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_ctrl_c_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "export", "import", str(encoder(tmp_path))]
    place = ["--repository", str(tmp_path / "models"), "--name", "foreign"]
    with subprocess.Popen([*command, *place], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        # Printed before the checks begin, which start a process of their own.
        assert process.stdout.readline().startswith("encode: ")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert (process.returncode, err) == (130, "export: interrupted\n")
    assert not (tmp_path / "models").exists()
