"""mosec: raw bytes in and out over HTTP/1.1, one route per graph, at most 64 requests in a batch, 1 ms of waiting.

A waiting time of 0 means mosec's own default of 10 ms.
"""

import os

import numpy as np
from graph import Graph
from mosec import Runtime, Server, Worker


class Inference(Worker):
    """Runs the requests of a batch in one graph run; each may hold several images."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph(os.environ[f"BENCH_{type(self).__name__.upper()}"])

    def deserialize(self, data: bytes) -> np.ndarray:
        """Bytes to (N, 28, 28, 1)."""
        return self.graph.parse(data)

    def serialize(self, data: np.ndarray) -> bytes:
        """Output to bytes."""
        return data.tobytes()

    def forward(self, data: list[np.ndarray]) -> list[np.ndarray]:
        """Outputs of a batch of requests."""
        return self.graph.run_batch(data)


class Encode(Inference):
    """Images to latents."""


class Denoise(Inference):
    """Noisy images to clean ones."""


if __name__ == "__main__":
    server = Server()
    server.register_runtime(
        {
            "/encode": [Runtime(Encode, 1, max_batch_size=64, max_wait_time=1)],
            "/denoise": [Runtime(Denoise, 2, max_batch_size=64, max_wait_time=1)],
        }
    )
    server.run()
