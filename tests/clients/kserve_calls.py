"""KServe's client of the Open Inference Protocol: `python kserve_calls.py HOST:PORT`; prints JSON."""

import asyncio
import json
import logging
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

IMAGES = (np.arange(3 * 64, dtype=np.uint32) * 7 % 256).astype(np.uint8).reshape(3, 8, 8, 1)


def request(name: str, *, raw: bool) -> InferRequest:
    if raw:
        given = InferInput("images", list(IMAGES.shape), "UINT8")
        given.set_data_from_numpy(IMAGES)
    else:
        given = InferInput("images", list(IMAGES.shape), "UINT8", data=IMAGES.ravel().tolist())
    return InferRequest(name, [given], request_id="k1")


async def run(address: str) -> dict:
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


if __name__ == "__main__":
    logging.disable()
    sys.stdout.write(json.dumps(asyncio.run(run(sys.argv[1]))) + "\n")
