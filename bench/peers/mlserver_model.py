"""MLServer: its gRPC front, a custom runtime in the same process, adaptive batching of at most 64 requests in 1 ms."""

import os

import numpy as np
from graph import Graph
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Inference(MLModel):
    """Runs a graph."""

    async def load(self) -> bool:
        """Opens the graph of the model's name."""
        self.graph = Graph(os.environ[f"BENCH_{self.name.upper()}"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Images to the graph's output."""
        entry = payload.inputs[0]
        images = NumpyCodec.decode_input(entry).reshape(entry.shape)
        outputs = self.graph.run(np.ascontiguousarray(images, self.graph.type))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output(self.graph.output, outputs)])
