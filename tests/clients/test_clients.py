"""Third-party clients, each in its own environment, against this server; numbers against onnxruntime."""

import numpy as np

from tests.clients.conftest import IMAGES
from tests.clients.programs import ROOT, run_node, run_python
from tests.server.conftest import GOLDEN, Served, graph_run, serving

DECODED = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def test_triton_sync(server: Served) -> None:
    answer = run_python("triton", "triton_calls.py", "sync", server.address)
    assert (answer["live"], answer["ready"], answer["models"], answer["version"]) == (
        True,
        True,
        [True, True, False],
        True,
    )
    assert answer["server"]["name"] == "hourglass"
    assert answer["metadata"]["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": ["-1", "8", "8", "1"]}]
    assert answer["config"]["input"] == [{"name": "images", "data_type": "TYPE_UINT8", "dims": ["8", "8", "1"]}]
    assert {model["name"] for model in answer["index"]} == {"denoiser", "fc-ae", "multitask", "vae"}
    assert {model["state"] for model in answer["index"]} == {"READY"}
    assert answer["id"] == "r1"
    means, log_variances = graph_run("encode", "vae", IMAGES)
    np.testing.assert_array_equal(np.float32(answer["encode"]["latents"]), means)
    np.testing.assert_array_equal(np.float32(answer["encode"]["log_variances"]), log_variances)
    np.testing.assert_array_equal(np.float32(answer["decode"]["images"]), graph_run("decode", "vae", DECODED)[0])
    errors = graph_run("reconstruct", "vae", IMAGES)[1]
    np.testing.assert_array_equal(np.float32(answer["errors"]["squared_errors"]), errors)
    assert int(answer["statistics"][0]["inference_stats"]["success"]["count"]) >= 1
    assert answer["unknown"].startswith("StatusCode.NOT_FOUND There is no model 'nope'")
    assert answer["wrong"].startswith("StatusCode.INVALID_ARGUMENT inputs[0].name: expected 'images'")
    assert answer["unload"].startswith("StatusCode.PERMISSION_DENIED")


def test_triton_asyncio(server: Served, latents: np.ndarray) -> None:
    answer = run_python("triton", "triton_calls.py", "aio", server.address)
    assert answer["ready"]
    assert answer["equal"]
    assert answer["metadata"] == "vae"
    np.testing.assert_array_equal(np.float32(answer["encode"]["latents"]), latents)
    assert sorted(answer["stream"], key=int) == [str(index) for index in range(20)]
    for streamed in answer["stream"].values():
        np.testing.assert_array_equal(np.float32(streamed), latents)


def test_triton_stream(server: Served, latents: np.ndarray) -> None:
    answer = run_python("triton", "triton_calls.py", "stream", server.address)
    assert answer["ids"] == [index for index in range(30) if index % 3 != 2]
    assert answer["final"]
    np.testing.assert_array_equal(np.float32(answer["latents"]), latents)
    (error,) = answer["errors"]
    assert error.startswith("NOT_FOUND: There is no model 'nope'")


def test_triton_loads_and_unloads_when_allowed(latents: np.ndarray) -> None:
    with serving(GOLDEN, model_control=True, poll_seconds=0) as served:
        answer = run_python("triton", "triton_calls.py", "control", served.address)
    assert (answer["unloaded"], answer["state"], answer["loaded"]) == (False, "UNAVAILABLE", True)
    np.testing.assert_array_equal(np.float32(answer["encode"]["latents"]), latents)
    assert answer["unknown"].startswith("StatusCode.NOT_FOUND")


def test_triton_http(server: Served, latents: np.ndarray) -> None:
    answer = run_python("triton", "triton_calls.py", "http", f"127.0.0.1:{server.app.rest_port}")
    assert (answer["live"], answer["ready"], answer["models"]) == (True, True, [True, True, False])
    assert answer["metadata"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 8, 8, 1]}]
    assert (answer["config"], answer["index"]) == (1024, 4)
    assert answer["statistics"] >= 2
    for form in ("True", "False"):
        np.testing.assert_array_equal(np.float32(answer["answers"][form]), latents)
    assert answer["unknown"].startswith("404 There is no model 'nope'")
    assert answer["unload"].startswith("403 ")


def test_kserve(server: Served, latents: np.ndarray) -> None:
    answer = run_python("kserve", "kserve_calls.py", "grpc", server.address)
    assert (answer["live"], answer["ready"], answer["models"]) == (True, True, [True, False])
    assert (answer["id"], answer["unknown"]) == ("k1", "NOT_FOUND")
    np.testing.assert_array_equal(np.float32(answer["raw"]), latents)
    np.testing.assert_array_equal(np.float32(answer["typed"]), latents)


def test_kserve_http(server: Served, latents: np.ndarray) -> None:
    answer = run_python("kserve", "kserve_calls.py", "rest", f"127.0.0.1:{server.app.rest_port}")
    assert (answer["live"], answer["ready"], answer["models"]) == (True, True, [True, True, False])
    assert answer["id"] == "k1"
    assert answer["outputs"] == [["latents"], ["latents", "log_variances"]]
    assert answer["unknown"].startswith("There is no model 'nope'")
    for form in ("raw", "typed"):
        np.testing.assert_array_equal(np.float32(answer[form]), latents)


def test_own_client_installed_alone(server: Served, latents: np.ndarray) -> None:
    answer = run_python("alone", "alone_calls.py", server.address)
    declared = {"grpcio", "protobuf", "numpy", "googleapis-common-protos"}
    # Dependencies of grpcio, and what a new environment has.
    others = {"hourglass-client", "typing-extensions", "pip", "setuptools"}
    assert declared <= set(answer["installed"]) <= declared | others
    assert answer["models"] == ["denoiser", "fc-ae", "multitask", "vae"]
    for form in ("latents", "mapped"):
        np.testing.assert_array_equal(np.float32(answer[form]), latents)


def test_reflection(server: Served, latents: np.ndarray) -> None:
    answer = run_python("triton", "reflection_calls.py", server.address)
    assert {"autoencoder.v1.AutoencoderService", "inference.GRPCInferenceService", "grpc.health.v1.Health"} < set(
        answer["services"]
    )
    assert answer["health"] == "SERVING"
    np.testing.assert_array_equal(np.float32(answer["encode"]), latents.ravel())
    np.testing.assert_array_equal(np.float32(answer["infer"]), latents.ravel())


def test_node_with_proto_files_alone(server: Served, latents: np.ndarray) -> None:
    answer = run_node(ROOT / "examples/node/encode.js", server.address, "vae")
    assert answer["model"] == "vae 1"
    np.testing.assert_array_equal(np.float32(answer["latents"]), latents.ravel())
    np.testing.assert_array_equal(np.float32(answer["squared_errors"]), graph_run("reconstruct", "vae", IMAGES)[1])
    assert answer["png_files"] == 3
    assert answer["streamed"] == [["a", "encode"], ["b", "encode"], ["c", "encode"], ["wrong", "error"]]
    assert answer["refused"] == "INVALID_ARGUMENT"
