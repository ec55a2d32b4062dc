"""KServe's clients of the Open Inference Protocol: `python kserve_calls.py grpc|rest HOST:PORT`; prints JSON."""

import asyncio
import json
import logging
import sys

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

IMAGES = (np.arange(3 * 64, dtype=np.uint32) * 7 % 256).astype(np.uint8).reshape(3, 8, 8, 1)


def request(name: str, *, raw: bool) -> InferRequest:
    if raw:
        given = InferInput("images", list(IMAGES.shape), "UINT8")
        given.set_data_from_numpy(IMAGES)
    else:
        given = InferInput("images", list(IMAGES.shape), "UINT8", data=IMAGES.ravel().tolist())
    return InferRequest(name, [given], request_id="k1")


async def run_grpc(address: str) -> dict:
    async with InferenceGRPCClient(address) as client:
        raw, typed = [await client.infer(request("vae.encode", raw=raw)) for raw in (True, False)]
        try:
            await client.infer(request("nope", raw=True))
        except grpc.RpcError as error:
            unknown = error.code().name
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "models": [await client.is_model_ready(name) for name in ("vae", "nope")],
            "id": raw.id,
            "raw": raw.outputs[0].as_numpy().tolist(),
            "typed": typed.outputs[0].as_numpy().tolist(),
            "unknown": unknown,
        }


async def run_rest(address: str) -> dict:
    base = f"http://{address}"
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:

        async def infer(name: str, asked: InferRequest):  # noqa: ANN202
            return await client.infer(base, asked, model_name=name)

        asked = [request("vae.encode", raw=raw) for raw in (True, False)]
        # Bytes both ways.
        asked[0].request_outputs = [RequestedOutput("latents", {"binary_data": True})]
        raw, typed = [await infer("vae.encode", each) for each in asked]
        try:
            await infer("nope", request("nope", raw=True))
        except httpx.HTTPStatusError as error:
            unknown = str(error)
        return {
            "live": await client.is_server_live(base),
            "ready": await client.is_server_ready(base),
            "models": [await client.is_model_ready(base, name) for name in ("vae", "vae.encode", "nope")],
            "id": raw.id,
            "raw": raw.outputs[0].as_numpy().tolist(),
            "typed": typed.outputs[0].as_numpy().tolist(),
            "outputs": [[output.name for output in answer.outputs] for answer in (raw, typed)],
            "unknown": unknown,
        }


if __name__ == "__main__":
    logging.disable()
    run = {"grpc": run_grpc, "rest": run_rest}[sys.argv[1]]
    sys.stdout.write(json.dumps(asyncio.run(run(sys.argv[2]))) + "\n")
