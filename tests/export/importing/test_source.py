"""Files as other tools leave them: what they declare, how they name and split, which sizes they leave open."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, helper
from torch import nn

from bundle.graph import read_graph
from export.gate import session
from tests.export.importing.test_importer import answer, decoder, encoder, floats, imported, run_import, write

OUTSIDE = {"size_threshold": 0, "convert_attribute": True, "save_as_external_data": True, "location": "weights.data"}

NO_STATISTICS = (
    "no statistics of latents without --reference: drift is not measured; an autoencoder has no Sample without them"
)


def test_the_import_says_what_each_graph_is_fed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_import(tmp_path, encoder(tmp_path), decoder(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "decode: decoder.onnx gets latents of 5 numbers as (N, 5)",
        "encode: encoder.onnx gets pixels as floats in 0 … 1 (bytes / 255), (N, 3, 4, 6), channels first",
        "a network trained on other pixels needs --range or --mean and --std: nothing in a file shows it",
        NO_STATISTICS,
        "foreign version 1 serves Encode, Decode, Reconstruct, Interpolate",
    ]


def test_a_refused_operator_is_named_with_what_to_use_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(encoder(tmp_path))
    model.graph.node[0].name, model.graph.node[0].op_type = "quantizer/nearest", "TopK"
    onnx.save(model, tmp_path / "encoder.onnx")
    assert run_import(tmp_path, tmp_path / "encoder.onnx") == 1
    refused = "encode.onnx: node 'imported/quantizer/nearest', operator TopK is not allowed: use ReduceMax"
    assert refused in capsys.readouterr().err


def test_constants_that_multiply_are_refused_before_onnxruntime_folds_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    doubled = "".join(f"c{index + 1} = Concat<axis = 0>(c{index}, c{index}) " for index in range(30))
    text = "g (float[n, 3, 4, 6] x) => (float[n, 5] y) "
    rest = "s = ReduceMean<keepdims = 0>(c30) f = Flatten(x) m = MatMul(f, w) y = Add(m, s)"
    body = f"{{ c0 = Identity(one) {doubled} {rest} }}"
    write(tmp_path / "encoder.onnx", text + body, w=floats(72, 5), one=np.ones(1, np.float32))
    assert run_import(tmp_path, tmp_path / "encoder.onnx") == 1
    err = capsys.readouterr().err
    assert "encode.onnx: expected constants of at most" in err
    assert "in a file of" in err


def test_a_declaration_that_no_node_uses_is_dropped(tmp_path: Path) -> None:
    """As tf2onnx and Keras write their files."""
    for name in ("encoder", "decoder"):
        model = onnx.load(encoder(tmp_path) if name == "encoder" else decoder(tmp_path))
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
        onnx.save(model, tmp_path / f"{name}.onnx")
    assert run_import(tmp_path, tmp_path / "encoder.onnx", tmp_path / "decoder.onnx") == 0
    folder, model = imported(tmp_path)
    assert "Reconstruct" in model.methods
    for name in ("encode", "decode", "reconstruct"):
        assert {each.domain for each in onnx.load(folder / f"{name}.onnx").opset_import} == {""}


def test_a_decoder_of_keras(tmp_path: Path) -> None:
    """UpSampling2D as tf2onnx writes it: a Reshape from the batch's Shape, Tile, channels last."""
    text = (
        "g (float[unk__1, 4] z) => (float[unk__2, 8, 8, 1] y)"
        "<int64[1] zero = {0}, int64[1] one = {1}, int64[5] rest = {4, 1, 4, 1, 1}, "
        "int64[6] twice = {1, 1, 2, 1, 2, 1}, int64[3] out = {8, 8, 1}>"
        "{ h = MatMul(z, w) s = Shape(z) c = Cast<to = 6>(s) b = Slice(c, zero, one) n = Cast<to = 7>(b)"
        " t = Concat<axis = 0>(n, rest) r = Reshape(h, t) u = Tile(r, twice)"
        " o = Concat<axis = 0>(n, out) v = Reshape(u, o) y = Sigmoid(v) }"
    )
    write(tmp_path / "decoder.onnx", text, w=floats(4, 16))
    assert run_import(tmp_path, tmp_path / "decoder.onnx") == 0
    folder, _ = imported(tmp_path)
    latents = floats(3, 4)
    expected = session.open_session((tmp_path / "decoder.onnx").read_bytes()).run({"z": latents})["y"]
    np.testing.assert_allclose(answer(folder, "decode", {"latents": latents})["images"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("path", "argument"),
    [
        ("lr=0.001/encoder.onnx", "{path}"),
        ("lr=0.001/encoder.onnx", "encode={path}"),
        ("epoch=3.onnx", "encode={path}"),
        ("epoch=3.onnx", "Encoder={path}"),
    ],
)
def test_paths_may_hold_equals_signs(path: str, argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    encoder(tmp_path, path)
    monkeypatch.chdir(tmp_path)
    assert run_import(tmp_path, argument.format(path=path)) == 0


def test_a_path_that_names_no_signature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder(tmp_path, "epoch=3.onnx")
    assert run_import(tmp_path, tmp_path / "epoch=3.onnx") == 2
    assert "expected a file named after what it does, or encode=FILE" in capsys.readouterr().err


def test_weights_beside_the_file_are_taken_in(tmp_path: Path) -> None:
    whole = onnx.load(encoder(tmp_path)).SerializeToString()
    onnx.save(onnx.load_model_from_string(whole), tmp_path / "encoder.onnx", **OUTSIDE)
    assert read_graph((tmp_path / "encoder.onnx").read_bytes()).foreign
    assert run_import(tmp_path, tmp_path / "encoder.onnx") == 0
    folder, model = imported(tmp_path)
    assert {"encode_source_sha256", "encode_weights_sha256"} <= set(model.provenance)
    images = np.random.default_rng(1).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    expected = session.open_session(whole).run({"x": (images / 255).astype(np.float32).transpose(0, 3, 1, 2)})
    got = answer(folder, "encode", {"images": images})["latents"]
    np.testing.assert_allclose(got, expected["latents"], atol=1e-5)


def elsewhere(location: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        (entry,) = (each for each in model.graph.initializer[0].external_data if each.key == "location")
        entry.value = location

    return change


def beyond(model: ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="length", value="999999")


def nonsense(model: ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="offset", value="-5")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (elsewhere("gone.data"), "gone.data: expected a readable file: No such file or directory"),
        (elsewhere("../secret"), "expected a file in its folder, got '../secret'"),
        (elsewhere("/etc/hostname"), "expected a file in its folder, got '/etc/hostname'"),
        (elsewhere("link"), "expected a file in its folder, got 'link'"),
        (elsewhere("pipe"), "expected a readable file, got a pipe or device"),
        (elsewhere(""), "expected a file in its folder, got ''"),
        (beyond, "weights.data: expected 999999 bytes, got 1440"),
        (nonsense, "weights.data: expected"),
    ],
)
def test_weights_elsewhere_are_one_sentence(
    change: Callable[[ModelProto], None], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_bytes(bytes(1440))
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(onnx.load(encoder(tmp_path)), folder / "encoder.onnx", **OUTSIDE)
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    model = onnx.load(folder / "encoder.onnx", load_external_data=False)
    change(model)
    (folder / "encoder.onnx").write_bytes(model.SerializeToString())
    assert run_import(tmp_path, folder / "encoder.onnx") == 2
    err = capsys.readouterr().err
    assert problem in err
    assert err.endswith("keep that file beside it, or export with external_data=False\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("kind", "problem"),
    [("pipe", "got a pipe or device"), ("folder", "Is a directory"), ("device", "got a pipe or device")],
)
def test_only_regular_files_are_read(
    kind: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "encoder.onnx"
    {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: path.symlink_to("/dev/zero")}[kind](path)
    assert run_import(tmp_path, path) == 2
    assert problem in capsys.readouterr().err


def test_files_beyond_the_limit_of_protobuf_are_refused_unread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(onnx.load(encoder(tmp_path)), tmp_path / "encoder.onnx", **OUTSIDE)
    for name in ("weights.data", "encoder.onnx"):
        # Sparse: it takes no room.
        os.truncate(tmp_path / name, 2**31)
        assert run_import(tmp_path, tmp_path / "encoder.onnx") == 2
        assert f"{name}: expected at most 2147483647 bytes, got 2147483648" in capsys.readouterr().err


ENLARGING = {
    "transposed convolution": lambda: nn.ConvTranspose2d(4, 3, 4, 2, 1),
    "interpolation": lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 3, 3, padding=1)),
}


class Decoder(nn.Module):
    """Linear, view, one step to twice the size."""

    def __init__(self, enlarging: str) -> None:
        super().__init__()
        self.first = nn.Linear(5, 4 * 3 * 2)
        self.last = nn.Sequential(ENLARGING[enlarging](), nn.Sigmoid())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(z).view(-1, 4, 3, 2))


def older_export(module: nn.Module, example: torch.Tensor, path: Path, free: dict[int, str], opset: int = 17) -> None:
    """The exporter that was PyTorch's default until 2.8."""
    axes = {"x": free, "y": free if len(free) > 1 else {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (example,),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes=axes,
        )


@pytest.mark.parametrize(
    ("enlarging", "opset"),
    [*(("transposed convolution", opset) for opset in (13, 17, 18)), ("interpolation", 17)],
)
def test_sizes_that_the_exporter_lost_are_inferred(enlarging: str, opset: int, tmp_path: Path) -> None:
    network = Decoder(enlarging)
    older_export(network, torch.zeros(1, 5), tmp_path / "decoder.onnx", {0: "batch"}, opset)
    shape = onnx.load(tmp_path / "decoder.onnx").graph.output[0].type.tensor_type.shape
    assert not all(each.dim_value for each in shape.dim[2:])
    assert run_import(tmp_path, tmp_path / "decoder.onnx") == 0
    folder, model = imported(tmp_path)
    assert (model.height, model.width, model.channels) == (6, 4, 3)
    latents = floats(7, 5)
    with torch.no_grad():
        expected = network(torch.from_numpy(latents)).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(answer(folder, "decode", {"latents": latents})["images"], expected, atol=1e-5)


def test_free_sizes_of_images_are_fixed_by_the_user(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1), nn.Sigmoid())
    free = {0: "batch", 2: "height", 3: "width"}
    older_export(network, torch.zeros(1, 3, 8, 8), tmp_path / "denoiser.onnx", free)
    assert run_import(tmp_path, tmp_path / "denoiser.onnx", "--image-shape", "12x10x3") == 0
    folder, model = imported(tmp_path)
    assert (model.height, model.width, model.channels) == (12, 10, 3)
    images = np.random.default_rng(1).random((2, 12, 10, 3), dtype=np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(answer(folder, "denoise", {"images": images})["denoised"], expected, atol=1e-5)


def test_sizes_that_a_run_does_not_give_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "g (float[b, 3, h, w] x) => (float[b, 3, u, v] y) "
    body = "{ p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) y = Sigmoid(p) }"
    write(tmp_path / "denoiser.onnx", text + body)
    assert run_import(tmp_path, tmp_path / "denoiser.onnx", "--image-shape", "8x8x3") == 2
    assert "denoised: expected images of (8, 8, 3), got (3, 4, 4) a row" in capsys.readouterr().err


@pytest.mark.slow
def test_the_two_files_of_pytorchs_exporter(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 5)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = tmp_path / "encoder.onnx"
        torch.onnx.export(network, (torch.zeros(2, 3, 4, 6),), str(path), dynamic_shapes={"input": {0: "batch"}})
    assert (tmp_path / "encoder.onnx.data").is_file()
    assert run_import(tmp_path, path) == 0
    imported(tmp_path)
