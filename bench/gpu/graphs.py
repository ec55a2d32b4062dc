"""Graphs of a repository on onnxruntime alone, with the server's session options."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import onnxruntime as ort
from autoencoder.v1.model_pb2 import Signature
from autoencoder.v1.shapes import DTYPES
from numpy.typing import NDArray

from bench.gpu.outcome import Setting, Unavailable
from bundle import layout
from bundle.golden import Golden
from bundle.runtime_options import cuda_options, set_session_options


@dataclass(frozen=True)
class Graph:
    """One signature of one version, with its golden vectors."""

    model: str
    file: Path
    signature: Signature
    golden: Golden

    @property
    def name(self) -> str:
        """For the page."""
        return f"{self.model} {self.signature.name}"

    def inputs(self, rows: int) -> NDArray[Any]:
        """Golden inputs, repeated to (rows, …)."""
        case = self.golden.cases[self.signature.name][0].inputs[self.signature.inputs[0].name]
        return np.ascontiguousarray(np.resize(case, (rows, *case.shape[1:])))


def graphs(repository: Path) -> Iterator[Graph]:
    """Every graph of the latest version of every model."""
    for model in layout.model_names(repository):
        for version in layout.versions(repository, model)[-1:]:
            folder = layout.version_folder(repository, model, version)
            golden = Golden.from_bytes((folder / layout.GOLDEN_FILE).read_bytes())
            for signature in layout.read_model(folder).signatures:
                yield Graph(model, folder / signature.file, signature, golden)


def heavy(repository: Path) -> list[Graph]:
    """The graphs whose speed is measured: encoders and denoisers.

    Raises:
        Unavailable: there are none.
    """
    found = [graph for graph in graphs(repository) if graph.signature.name in {"encode", "denoise"}]
    if not found:
        raise Unavailable(f"no model in {repository} encodes or denoises")
    return found


def session(graph: Graph, setting: Setting, **cuda: str) -> Any:  # noqa: ANN401 (onnxruntime ships no types)
    """A session on the device, never on another; `cuda` overrides options of the CUDA provider."""
    options = ort.SessionOptions()
    set_session_options(options)
    provider: Any = setting.provider
    if setting.device == "cuda":
        ort.preload_dlls()
        provider = (setting.provider, cuda_options() | cuda)
    made = ort.InferenceSession(graph.file, options, providers=[provider])
    made.disable_fallback()
    if made.get_providers()[0] != setting.provider:
        raise RuntimeError(f"{graph.name}: expected {setting.provider}, got {made.get_providers()[0]}")
    return made


class Bound:
    """Input and outputs of one batch size bound to buffers on the device."""

    def __init__(self, made: Any, graph: Graph, rows: int, setting: Setting) -> None:  # noqa: ANN401
        signature, device = graph.signature, (setting.device, 0)
        self._session = made
        self._input = ort.OrtValue.ortvalue_from_numpy(graph.inputs(rows), *device)
        self._outputs = [
            ort.OrtValue.ortvalue_from_shape_and_type((rows, *spec.shape[1:]), DTYPES[spec.data_type], *device)
            for spec in signature.outputs
        ]
        self._binding = made.io_binding()
        self._binding.bind_ortvalue_input(signature.inputs[0].name, self._input)
        for spec, value in zip(signature.outputs, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(spec.name, value)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(rows))

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        """Copy the batch to the device, run, copy the outputs back."""
        self._input.update_inplace(batch)
        self._session.run_with_iobinding(self._binding, self._options)
        return [value.numpy().copy() for value in self._outputs]


def plain(made: Any, graph: Graph, batch: NDArray[Any]) -> list[NDArray[Any]]:  # noqa: ANN401
    """One run without bound buffers."""
    feeds: Mapping[str, NDArray[Any]] = {graph.signature.inputs[0].name: batch}
    return made.run([spec.name for spec in graph.signature.outputs], feeds)
