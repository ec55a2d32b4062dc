"""tritonclient: every call of its sync, asyncio, streaming and HTTP clients that this server supports.

Run by its own environment: `python triton_calls.py sync|aio|stream|http|control HOST:PORT`; prints JSON.
"""

import asyncio
import json
import queue
import sys
from functools import partial

import numpy as np
import tritonclient.grpc as sync_client
from tritonclient.grpc import aio as aio_client
from tritonclient.utils import InferenceServerException

IMAGES = (np.arange(3 * 64, dtype=np.uint32) * 7 % 256).astype(np.uint8).reshape(3, 8, 8, 1)
LATENTS = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def given(name: str, array: np.ndarray) -> sync_client.InferInput:
    made = sync_client.InferInput(name, list(array.shape), "UINT8" if array.dtype == np.uint8 else "FP32")
    made.set_data_from_numpy(array)
    return made


def lists(result: sync_client.InferResult, *names: str) -> dict[str, list]:
    return {name: result.as_numpy(name).tolist() for name in names}


def refused(call) -> str:  # noqa: ANN001
    try:
        call()
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "not refused"


def run_sync(address: str) -> dict:
    with sync_client.InferenceServerClient(address) as client:
        encoded = client.infer("vae.encode", [given("images", IMAGES)], request_id="r1")
        expected = [sync_client.InferRequestedOutput("squared_errors")]
        return {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "models": [client.is_model_ready(name) for name in ("vae", "vae.encode", "nope")],
            "version": client.is_model_ready("vae", "1"),
            "server": client.get_server_metadata(as_json=True),
            "metadata": client.get_model_metadata("vae.encode", as_json=True),
            "config": client.get_model_config("vae.encode", as_json=True)["config"],
            "index": client.get_model_repository_index(as_json=True)["models"],
            "id": encoded.get_response().id,
            "encode": lists(encoded, "latents", "log_variances"),
            "decode": lists(client.infer("vae.decode", [given("latents", LATENTS)]), "images"),
            "errors": lists(client.infer("vae", [given("images", IMAGES)], outputs=expected), "squared_errors"),
            "statistics": client.get_inference_statistics("vae.encode", as_json=True)["model_stats"],
            "unknown": refused(partial(client.infer, "nope", [given("images", IMAGES)])),
            "wrong": refused(partial(client.infer, "vae.encode", [given("pictures", IMAGES)])),
            "unload": refused(partial(client.unload_model, "vae")),
        }


async def run_aio(address: str) -> dict:
    async with aio_client.InferenceServerClient(address) as client:
        many = await asyncio.gather(*(client.infer("vae.encode", [given("images", IMAGES)]) for _ in range(50)))
        answers = await stream_aio(client)
        return {
            "ready": await client.is_server_ready() and await client.is_model_ready("vae"),
            "metadata": (await client.get_model_metadata("vae", as_json=True))["name"],
            "encode": lists(many[-1], "latents"),
            "equal": all(np.array_equal(many[0].as_numpy("latents"), one.as_numpy("latents")) for one in many),
            "stream": answers,
        }


async def stream_aio(client: aio_client.InferenceServerClient) -> dict[str, list]:
    async def requests():  # noqa: ANN202
        for index in range(20):
            yield {"model_name": "vae.encode", "inputs": [given("images", IMAGES)], "request_id": str(index)}

    answers = {}
    async for result, error in client.stream_infer(requests()):
        assert error is None, error
        answers[result.get_response().id] = result.as_numpy("latents").tolist()
    return answers


def run_stream(address: str) -> dict:
    """ModelStreamInfer with callbacks; one request in three is bad."""
    arrived: queue.Queue = queue.Queue()
    with sync_client.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: arrived.put((result, error)))
        for index in range(30):
            name = "nope" if index % 3 == 2 else "vae.encode"
            client.async_stream_infer(
                name, [given("images", IMAGES)], request_id=str(index), enable_empty_final_response=True
            )
        answers = [arrived.get(timeout=60) for _ in range(30)]
        client.stop_stream()
    results = [result for result, error in answers if error is None]
    return {
        "ids": sorted(int(result.get_response().id) for result in results),
        "final": all(result.get_response().parameters["triton_final_response"].bool_param for result in results),
        "latents": results[0].as_numpy("latents").tolist(),
        "errors": sorted({error.message() for _, error in answers if error is not None}),
    }


def run_control(address: str) -> dict:
    """Unload and load with model control enabled."""
    with sync_client.InferenceServerClient(address) as client:
        client.unload_model("vae")
        unloaded = client.is_model_ready("vae")
        states = {model.name: model.state for model in client.get_model_repository_index().models}
        client.load_model("vae")
        return {
            "unloaded": unloaded,
            "state": states["vae"],
            "loaded": client.is_model_ready("vae"),
            "encode": lists(client.infer("vae.encode", [given("images", IMAGES)]), "latents"),
            "unknown": refused(partial(client.load_model, "nope")),
        }


def run_http(address: str) -> dict:
    import tritonclient.http as http_client  # noqa: PLC0415 (importing gevent affects the others)

    with http_client.InferenceServerClient(address) as client:
        answers = {}
        for binary in (True, False):
            made = http_client.InferInput("images", list(IMAGES.shape), "UINT8")
            made.set_data_from_numpy(IMAGES, binary_data=binary)
            expected = [http_client.InferRequestedOutput("latents", binary_data=binary)]
            answers[str(binary)] = client.infer("vae.encode", [made], outputs=expected).as_numpy("latents").tolist()
        return {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "models": [client.is_model_ready(name) for name in ("vae", "vae.encode", "nope")],
            "metadata": client.get_model_metadata("vae.encode")["inputs"],
            "config": client.get_model_config("vae")["max_batch_size"],
            "index": len(client.get_model_repository_index()),
            "statistics": client.get_inference_statistics("vae.encode")["model_stats"][0]["execution_count"],
            "answers": answers,
            "unknown": refused(partial(client.infer, "nope", [made])),
            "unload": refused(partial(client.unload_model, "vae")),
        }


if __name__ == "__main__":
    kind, address = sys.argv[1:]
    answer = (
        asyncio.run(run_aio(address))
        if kind == "aio"
        else {"sync": run_sync, "stream": run_stream, "http": run_http, "control": run_control}[kind](address)
    )
    sys.stdout.write(json.dumps(answer) + "\n")
