"""Graphs, addressed as <model>.<signature>: the Open Inference Protocol's notion of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
from autoencoder.v1 import model_pb2
from autoencoder.v1.model_pb2 import Signature

from server.codec.pixels import Range, range_of
from server.errors import NotFoundError, UnavailableError
from server.models.table import ModelTable, ServedModel

_DATATYPES: dict[model_pb2.DataType, str] = {
    model_pb2.DATA_TYPE_UINT8: "UINT8",
    model_pb2.DATA_TYPE_FLOAT16: "FP16",
    model_pb2.DATA_TYPE_FLOAT32: "FP32",
    model_pb2.DATA_TYPE_INT64: "INT64",
}
# Images in, images out: the graph that a plain model name selects.
_DEFAULTS = ("reconstruct", "denoise")


@dataclass(frozen=True, eq=False)
class Graph:
    """One graph of one version, with what a request needs of it."""

    name: str
    """As addressed: <model>.<signature>."""
    version: ReferenceType[ServedModel]
    """Weak, because the table of graphs holds this one for as long as its version lives."""
    signature: Signature
    input: str
    datatype: str
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    range: Range | None
    """Of the floats that it takes as images; None if its input is something else."""
    outputs: Sequence[tuple[str, str]]
    """Names and data types."""
    output_indexes: Mapping[str, int]

    @property
    def served(self) -> ServedModel:
        """Return the version that it belongs to.

        Raises:
            UnavailableError: it has just been unloaded.
        """
        served = self.version()
        if served is None:
            raise UnavailableError(f"Graph {self.name!r} has just been unloaded: try again.")
        return served


class GraphTable:
    """Finds a graph by name and version."""

    def __init__(self, table: ModelTable) -> None:
        self.table = table
        self._graphs: WeakKeyDictionary[ServedModel, dict[str, Graph]] = WeakKeyDictionary()

    def get(self, name: str, version: str) -> Graph:
        """Graph of a model that serves.

        Raises:
            InvalidArgumentError, NotFoundError, UnavailableError: as `ModelTable.get`.
            NotFoundError: the model has no such graph; lists the graphs it has.
        """
        model, _, signature = name.partition(".")
        served = self.table.get(model, version)
        graphs = self._of(served)
        graph = graphs.get(signature)
        if graph is None or name.endswith("."):
            names = ", ".join(sorted(graph.name for key, graph in graphs.items() if key))
            raise NotFoundError(f"Model {model!r} has no graph {signature[:60]!r}: it has {names}.")
        return graph

    def all(self) -> list[tuple[ServedModel, Graph]]:
        """Every graph of every loaded version, with its version, which may be unloaded meanwhile."""
        return [(served, graph) for served in self.table.all() for name, graph in self._of(served).items() if name]

    def _of(self, served: ServedModel) -> dict[str, Graph]:
        graphs = self._graphs.get(served)
        if graphs is None:
            graphs = self._graphs[served] = _graphs(served)
        return graphs


def datatype(kind: model_pb2.DataType) -> str:
    """The protocol's name of a data type."""
    return _DATATYPES[kind]


def _graphs(served: ServedModel) -> dict[str, Graph]:
    """Graphs by signature; the empty name is the default."""
    graphs = {signature.name: _graph(served, signature) for signature in served.model.signatures}
    default = next((name for name in _DEFAULTS if name in graphs), next(iter(graphs)))
    return {"": graphs[default], **graphs}


def _graph(served: ServedModel, signature: Signature) -> Graph:
    spec = signature.inputs[0]
    dtype = served.input_types[signature.name]
    row_shape = tuple(spec.shape[1:])
    return Graph(
        name=f"{served.name}.{signature.name}",
        version=ref(served),
        signature=signature,
        input=spec.name,
        datatype=_DATATYPES[spec.data_type],
        dtype=dtype,
        row_shape=row_shape,
        range=range_of(signature.name) if spec.name == "images" and dtype == np.float32 else None,
        outputs=[(output.name, _DATATYPES[output.data_type]) for output in signature.outputs],
        output_indexes={output.name: index for index, output in enumerate(signature.outputs)},
    )
