"""A model that gives NaN for some images: their callers hear of it, nobody else, and no histogram is poisoned."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from google.rpc.error_details_pb2 import RequestInfo
from inference import open_inference_pb2 as oip
from inference import open_inference_pb2_grpc
from onnx import TensorProto, helper, numpy_helper

from bundle import layout
from server.batching.output_check import non_finite_rows
from tests.server.conftest import GOLDEN, array, copy_version, images, metric, pixels, serving
from tests.server.invalid import encode
from tests.server.test_statuses import detail

# An image of nothing but this value gives NaN.
POISON = 251
BAD = np.full((1, 8, 8, 1), POISON, np.uint8)
GOOD = pixels(1)


def write_fragile(repository: Path, signature: str, output: str) -> None:
    """The golden fc-ae with a graph whose output, for an image of sum s, is multiplied by (s - p) / (s - p)."""
    folder = copy_version(repository, "fc-ae", 1)
    graph = onnx.load(folder / f"{signature}.onnx")
    for node in graph.graph.node:
        node.output[:] = ["sound" if name == output else name for name in node.output]
        node.input[:] = ["sound" if name == output else name for name in node.input]
    graph.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(POISON * 64, np.float32), "p"),
            numpy_helper.from_array(np.array([1]), "rows"),
        ]
    )
    rank = len(next(each for each in graph.graph.output if each.name == output).type.tensor_type.shape.dim)
    shape = numpy_helper.from_array(np.array([-1] + [1] * (rank - 1)), "shape")
    graph.graph.initializer.append(shape)
    graph.graph.node.extend(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["floats"], ["flat"]),
            helper.make_node("ReduceSum", ["flat", "rows"], ["sum"]),
            helper.make_node("Sub", ["sum", "p"], ["difference"]),
            helper.make_node("Div", ["difference", "difference"], ["one"]),
            helper.make_node("Reshape", ["one", "shape"], ["factor"]),
            helper.make_node("Mul", ["sound", "factor"], [output]),
        ]
    )
    (folder / f"{signature}.onnx").write_bytes(graph.SerializeToString())
    model = layout.read_model(folder)
    files = {file.path: (folder / file.path).read_bytes() for file in model.files}
    del model.files[:]
    model.files.extend(layout.describe_files(files))
    (folder / layout.MODEL_FILE).write_bytes(layout.encode_model(model))


def test_nan_fails_its_own_request_and_no_neighbour(
    repository: Path, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_fragile(repository, "encode", "latents")
    # All of them travel together, however long they take to come.
    with serving(repository, transport=transport, max_queue_delay_ms=20_000, max_batch_rows=11) as served:
        sent = [GOOD, BAD, GOOD, np.concatenate([GOOD, BAD, GOOD]), pixels(5)]
        calls = [served.stub.Encode.future(encode(images(batch)), timeout=30) for batch in sent]
        for batch, call in zip(sent, calls, strict=True):
            if (batch == POISON).all(axis=(1, 2, 3)).any():
                error = call.exception()
                assert error.code() is grpc.StatusCode.INTERNAL
                assert "NaN" not in error.details()
                assert detail(error, RequestInfo).request_id in caplog.text
                continue
            assert call.result().info.batch_size == 11
            assert np.isfinite(array(call.result().latents)).all()
        assert "NaN or infinity" in caplog.text
        counts = {code: metric(served, "autoencoder_requests_total", code=code) for code in ("OK", "INTERNAL")}
        assert counts == {"OK": 3, "INTERNAL": 2}
        assert metric(served, "autoencoder_latent_distance_count") == 7
        assert math.isfinite(metric(served, "autoencoder_latent_distance_sum"))
        # Whoever sends such an image must not take the model from all others.
        assert metric(served, "autoencoder_model_loads_total") == 1


def test_nan_in_any_output_counts(repository: Path, transport: str) -> None:
    write_fragile(repository, "reconstruct", "squared_errors")
    with serving(repository, transport=transport) as served, grpc.insecure_channel(served.address) as channel:
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        image = oip.ModelInferRequest.InferInputTensor(name="images", datatype="UINT8", shape=[1, 8, 8, 1])
        # Only the sound output is asked for.
        expected = [oip.ModelInferRequest.InferRequestedOutputTensor(name="reconstructions")]
        for pixel, code in ((BAD, "INTERNAL"), (GOOD, "OK")):
            request = oip.ModelInferRequest(
                model_name="fc-ae", inputs=[image], outputs=expected, raw_input_contents=[pixel.tobytes()]
            )
            reconstruct = pb.ReconstructRequest(images=images(pixel), image_format=pb.IMAGE_FORMAT_NONE)
            calls = (
                stub.ModelInfer.future(request, timeout=30),
                served.stub.Reconstruct.future(reconstruct, timeout=30),
            )
            assert [call.code().name for call in calls] == [code, code]
        assert metric(served, "autoencoder_reconstruction_error_count") == 2
        assert math.isfinite(metric(served, "autoencoder_reconstruction_error_sum"))


def test_no_number_of_a_caller_makes_the_graph_give_nan(transport: str) -> None:
    """What would is refused at the door: nobody but a broken model ends with INTERNAL."""
    with serving(GOLDEN, transport=transport) as served:
        largest = pb.Tensor(data_type=3, shape=[1, 3], data=np.full(3, 1e6, "<f4").tobytes())
        request = pb.DecodeRequest(model_name="vae", latents=largest, image_format=pb.IMAGE_FORMAT_FLOAT32)
        assert np.isfinite(array(served.stub.Decode(request, timeout=10).images.tensor)).all()
        for number in (1.1e6, -3e38, math.inf, math.nan):
            request.latents.data = np.full(3, number, "<f4").tobytes()
            with pytest.raises(grpc.RpcError) as refused:
                served.stub.Decode(request, timeout=10)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "from -1e+06 to 1e+06" in refused.value.details()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_are_told_apart(dtype: type) -> None:
    sound = np.ones((4, 2, 3), dtype)
    huge = np.full((4, 5), np.finfo(dtype).max, dtype)
    counts = np.full((4,), 2**31, np.int64)
    assert non_finite_rows([sound, huge, counts]) is None
    assert non_finite_rows([]) is None
    for number in (np.nan, np.inf, -np.inf):
        spoiled = sound.copy()
        spoiled[2, 1, 1] = number
        assert non_finite_rows([huge, spoiled, counts]).tolist() == [False, False, True, False]


def test_many_callers_and_one_poisoner(repository: Path, transport: str) -> None:
    write_fragile(repository, "encode", "latents")
    with serving(repository, transport=transport) as served, ThreadPoolExecutor(8) as pool:

        def call(number: int) -> str:
            request = encode(images(BAD if number % 5 == 0 else pixels(1 + number % 3, seed=number)))
            return served.stub.Encode.future(request, timeout=30).code().name

        codes = list(pool.map(call, range(400)))
        assert codes == ["INTERNAL" if number % 5 == 0 else "OK" for number in range(400)]
        assert math.isfinite(metric(served, "autoencoder_latent_distance_sum"))
