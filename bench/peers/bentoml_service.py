"""BentoML: JSON over HTTP/1.1 with the bytes in base64, one worker, adaptive batching of at most 256."""

import os
from base64 import b64decode, b64encode

import bentoml
from graph import Graph


@bentoml.service(workers=1, traffic={"timeout": 30})
class Inference:
    """Both graphs; every request may hold several images."""

    def __init__(self) -> None:
        self.graphs = {name: Graph(os.environ[f"BENCH_{name.upper()}"]) for name in ("encode", "denoise")}

    @bentoml.api(batchable=True, max_batch_size=256, max_latency_ms=1000)
    def encode(self, bodies: list[str]) -> list[str]:
        """Images to latents."""
        return self._run("encode", bodies)

    @bentoml.api(batchable=True, max_batch_size=256, max_latency_ms=1000)
    def denoise(self, bodies: list[str]) -> list[str]:
        """Noisy images to clean ones."""
        return self._run("denoise", bodies)

    def _run(self, name: str, bodies: list[str]) -> list[str]:
        graph = self.graphs[name]
        inputs = [graph.parse(b64decode(body)) for body in bodies]
        return [b64encode(part.tobytes()).decode() for part in graph.run_batch(inputs)]
