"""The graph that every peer serves: one onnxruntime session with one thread."""

import os
from collections.abc import Sequence

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

SHAPE = (28, 28, 1)


class Graph:
    """An ONNX file with one input `images` (N, 28, 28, 1), and its first output as float32."""

    def __init__(self, path: str, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        entry = self.session.get_inputs()[0]
        self.type = np.dtype(np.uint8 if entry.type == "tensor(uint8)" else np.float32)
        self.output = self.session.get_outputs()[0].name

    def run(self, images: np.ndarray) -> np.ndarray:
        """(N, 28, 28, 1) to the output (N, …)."""
        return self.session.run([self.output], {"images": images})[0]

    def run_batch(self, requests: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Inputs (N_i, 28, 28, 1) of several requests to the output of each, in one run."""
        outputs = self.run(np.concatenate(requests))
        return np.split(outputs, np.cumsum([len(each) for each in requests])[:-1])

    def parse(self, body: bytes) -> np.ndarray:
        """Raw bytes of a request to (N, 28, 28, 1)."""
        return np.frombuffer(body, self.type).reshape(-1, *SHAPE)
