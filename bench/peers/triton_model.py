"""Triton's Python backend: the requests of a dynamic batch in one graph run."""

import os
import sys

# The backend's interpreter ignores PYTHONPATH.
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)

import numpy as np  # noqa: E402 (the path comes first)
import triton_python_backend_utils as pb_utils  # noqa: E402 (the path comes first)
from graph import Graph  # noqa: E402 (the path comes first)


class TritonPythonModel:
    """Runs a graph."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the graph of the model's name."""
        self.graph = Graph(os.environ[f"BENCH_{args['model_name'].upper()}"])

    def execute(self, requests: list) -> list:
        """Outputs of a batch of requests."""
        inputs = [pb_utils.get_input_tensor_by_name(request, "images").as_numpy() for request in requests]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(self.graph.output, np.ascontiguousarray(part))])
            for part in self.graph.run_batch(inputs)
        ]
