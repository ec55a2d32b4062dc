"""LitServe: JSON over HTTP/1.1 with the bytes in base64, one worker, at most 64 requests in a batch, 1 ms of wait."""

import os
import sys
from base64 import b64decode, b64encode

import litserve
import numpy as np
from graph import Graph


class Inference(litserve.LitAPI):
    """Runs the requests of a batch in one graph run; each may hold several images."""

    def __init__(self, signature: str) -> None:
        super().__init__(max_batch_size=64, batch_timeout=0.001, api_path=f"/{signature}")
        self.signature = signature

    def setup(self, device):  # noqa: ANN001, ANN201, ARG002 (LitServe reads annotations as request types)
        """Opens the graph."""
        self.graph = Graph(os.environ[f"BENCH_{self.signature.upper()}"])

    def decode_request(self, request):  # noqa: ANN001, ANN201 (likewise)
        """JSON to (N, 28, 28, 1)."""
        return self.graph.parse(b64decode(request["body"]))

    def batch(self, inputs):  # noqa: ANN001, ANN201 (likewise)
        """Images of all requests, and the number of each request."""
        return np.concatenate(inputs), [len(each) for each in inputs]

    def predict(self, x):  # noqa: ANN001, ANN201 (likewise)
        """Outputs, and the number of each request."""
        images, counts = x
        return self.graph.run(images), counts

    def unbatch(self, output):  # noqa: ANN001, ANN201 (likewise)
        """Outputs of each request."""
        outputs, counts = output
        return np.split(outputs, np.cumsum(counts)[:-1])

    def encode_response(self, output):  # noqa: ANN001, ANN201 (likewise)
        """To JSON."""
        return {"body": b64encode(output.tobytes()).decode()}


if __name__ == "__main__":
    server = litserve.LitServer(
        [Inference("encode"), Inference("denoise")], accelerator="cpu", workers_per_device=1, fast_queue=True
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
