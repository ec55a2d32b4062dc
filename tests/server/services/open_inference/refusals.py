"""Requests that must be refused, whatever the way they come: code, field and words of the answer."""

import numpy as np
from inference import open_inference_pb2 as pb

from tests.server.conftest import pixels
from tests.server.services.open_inference.conftest import request, typed

Case = tuple[pb.ModelInferRequest, str, str]
ONE = pixels(1)
LATENTS = np.zeros((1, 3), np.float32)
FLOATS = np.full((1, 8, 8, 1), 0.5, np.float32)


def shaped(*shape: int, data: bytes = bytes(64), datatype: str = "UINT8", name: str = "images") -> pb.ModelInferRequest:
    given = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    return pb.ModelInferRequest(model_name="vae.encode", inputs=[given], raw_input_contents=[data])


def changed(array: np.ndarray, value: float) -> np.ndarray:
    copy = array.copy()
    copy.flat[0] = value
    return copy


def output(*names: str, parameter: str = "") -> list[pb.ModelInferRequest.InferRequestedOutputTensor]:
    made = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in names]
    if parameter:
        made[0].parameters[parameter].int64_param = 3
    return made


def twice() -> pb.ModelInferRequest:
    made = request("vae.encode", ONE)
    made.inputs.append(made.inputs[0])
    made.raw_input_contents.append(ONE.tobytes())
    return made


def both_forms() -> pb.ModelInferRequest:
    made = typed("vae.encode", ONE)
    made.raw_input_contents.append(ONE.tobytes())
    return made


def shared_memory() -> pb.ModelInferRequest:
    made = request("vae.encode", ONE, raw_input_contents=())
    made.inputs[0].parameters["shared_memory_region"].string_param = "region"
    return made


def wrong_contents(**contents: object) -> pb.ModelInferRequest:
    made = request("vae.encode", ONE, raw_input_contents=())
    made.inputs[0].contents.CopyFrom(pb.InferTensorContents(**contents))
    return made


REFUSALS: dict[str, Case] = {
    "no model": (request("", ONE), "INVALID_ARGUMENT", "model_name: expected one of the loaded models"),
    "unknown model": (request("nope.encode", ONE), "NOT_FOUND", "vae (1)"),
    "unknown graph": (request("vae.denoise", ONE), "NOT_FOUND", "vae.decode, vae.encode, vae.reconstruct"),
    "empty graph": (request("vae.", ONE), "NOT_FOUND", "vae.encode"),
    "unknown version": (request("vae", ONE, model_version="9"), "NOT_FOUND", "version '9'"),
    "null in the name": (request("va\0e", ONE), "NOT_FOUND", r"'va\x00e'"),
    "endless name": (request("x" * 50_000, ONE), "NOT_FOUND", "There is no model"),
    "endless graph": (request("vae." + "x" * 50_000, ONE), "NOT_FOUND", "Model 'vae' has no graph"),
    "no input": (pb.ModelInferRequest(model_name="vae.encode"), "INVALID_ARGUMENT", "inputs: expected 'images'"),
    "unknown input": (request("vae.encode", ONE, "x\0"), "INVALID_ARGUMENT", r"inputs[0].name: expected 'images'"),
    "input twice": (twice(), "INVALID_ARGUMENT", "inputs[1].name: expected 'images' once"),
    "other type": (request("vae.encode", ONE.astype(np.float32)), "INVALID_ARGUMENT", "expected UINT8 for 'images'"),
    "BYTES": (shaped(1, 8, 8, 1, datatype="BYTES"), "INVALID_ARGUMENT", "got 'BYTES'"),
    "no type": (shaped(1, 8, 8, 1, datatype=""), "INVALID_ARGUMENT", "inputs[0].datatype"),
    "no shape": (shaped(), "INVALID_ARGUMENT", "inputs[0].shape: expected (N, 8, 8, 1)"),
    "wrong rank": (shaped(64), "INVALID_ARGUMENT", "'(64)'"),
    "wrong size": (shaped(1, 8, 9, 1), "INVALID_ARGUMENT", "'(1, 8, 9, 1)'"),
    "endless shape": (shaped(*[1] * 2000), "INVALID_ARGUMENT", "inputs[0].shape"),
    "no rows": (shaped(0, 8, 8, 1, data=b""), "INVALID_ARGUMENT", "1 to 1024 rows a request, got 0"),
    "negative rows": (shaped(-1, 8, 8, 1), "INVALID_ARGUMENT", "got -1"),
    "too many rows": (shaped(1025, 8, 8, 1, data=bytes(1025 * 64)), "INVALID_ARGUMENT", "got 1025"),
    "huge product": (shaped(2**62, 8, 8, 1), "INVALID_ARGUMENT", "1 to 1024"),
    "short data": (shaped(1, 8, 8, 1, data=bytes(63)), "INVALID_ARGUMENT", "expected 64 bytes"),
    "long data": (shaped(1, 8, 8, 1, data=bytes(65)), "INVALID_ARGUMENT", "got 65"),
    "no data": (request("vae.encode", ONE, raw_input_contents=()), "INVALID_ARGUMENT", "got nothing"),
    "surplus data": (request("vae.encode", ONE, raw_input_contents=[bytes(64)] * 2), "INVALID_ARGUMENT", "got 2"),
    "both forms": (both_forms(), "INVALID_ARGUMENT", "got both"),
    "shared memory": (shared_memory(), "INVALID_ARGUMENT", "shared memory is not supported"),
    "wrong field": (wrong_contents(int_contents=[0] * 64), "INVALID_ARGUMENT", "got int_contents"),
    "two fields": (
        wrong_contents(uint_contents=[0] * 64, fp32_contents=[0.0]),
        "INVALID_ARGUMENT",
        "got uint_contents, fp32_contents",
    ),
    "too few elements": (wrong_contents(uint_contents=[0] * 63), "INVALID_ARGUMENT", "expected 64 elements"),
    "beyond a byte": (wrong_contents(uint_contents=[0] * 63 + [256]), "INVALID_ARGUMENT", "0 to 255 for UINT8"),
    "NaN latent": (request("vae.decode", changed(LATENTS, np.nan), "latents"), "INVALID_ARGUMENT", "finite"),
    "infinite latent": (typed("vae.decode", changed(LATENTS, np.inf), "latents"), "INVALID_ARGUMENT", "finite"),
    "NaN pixel": (request("denoiser", changed(FLOATS, np.nan)), "INVALID_ARGUMENT", "finite"),
    "bright pixel": (request("denoiser", changed(FLOATS, 5.5)), "INVALID_ARGUMENT", "floats from -4 to 5"),
    "dark pixel": (typed("denoiser", changed(FLOATS, -4.5)), "INVALID_ARGUMENT", "floats from -4 to 5"),
    "unknown output": (request("vae.encode", ONE, outputs=output("x")), "INVALID_ARGUMENT", "outputs[0].name"),
    "output twice": (request("vae.encode", ONE, outputs=output("latents", "latents")), "INVALID_ARGUMENT", "once"),
    "classification": (
        request("vae.encode", ONE, outputs=output("latents", parameter="classification")),
        "INVALID_ARGUMENT",
        "has no classification",
    ),
}
