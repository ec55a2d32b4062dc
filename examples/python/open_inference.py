"""Call the server with NVIDIA's client of the Open Inference Protocol, without any code of this project.

pip install 'tritonclient[grpc]' && python examples/python/open_inference.py 127.0.0.1:8001 vae.encode
"""

import sys

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput


def main(address: str = "127.0.0.1:8001", graph: str = "vae.encode") -> None:
    """Runs one graph on images of noise."""
    with InferenceServerClient(address) as client:
        about = client.get_model_metadata(graph)
        (expected,) = about.inputs
        shape = [4, *expected.shape[1:]]
        noise = np.random.default_rng(0)
        batch = (
            noise.integers(0, 256, shape, np.uint8) if expected.datatype == "UINT8" else noise.random(shape, np.float32)
        )
        given = InferInput(expected.name, shape, expected.datatype)
        given.set_data_from_numpy(batch)

        answer = client.infer(graph, [given], request_id="example")
        for output in about.outputs:
            print(f"{graph} {output.name}: {answer.as_numpy(output.name).shape}")


if __name__ == "__main__":
    main(*sys.argv[1:])
