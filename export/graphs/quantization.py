"""Quantisation: the same network in half precision, or in static eight-bit integers (QDQ).

A variant in bfloat16 has the float32 graphs: OpenVINO rounds weights and activations when it runs them. Never dynamic
quantisation: its scales are those of a whole batch, so that rows change each other's outputs.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import onnx
from torch import nn

from bundle.golden import Array
from bundle.runtime_options import PRECISION
from export.graphs import build, methods, tensor_specs
from export.graphs.metadata import stripped
from export.graphs.methods import Method

Precision: TypeAlias = Literal["float32", "float16", "bfloat16", "int8"]

# A prior is small, and draws what fewer bits would move; a likelihood sums up the error of every pixel.
KEPT = frozenset({"prior", "log_density"})
LEFT_OUT = frozenset({"log_weights"})
_CALIBRATION_ROWS = 16


def half(model: nn.Module) -> tuple[nn.Module, dict[str, bytes]]:
    """A folded float32 network to one with half-precision weights, and its graphs by signature."""
    rounded = build.folded(model).half()
    facts = methods.facts(model)
    built = {m.name: build.build(m, tensor_specs.signature(m.name, facts)) for m in in_fewer_bits(rounded)}
    return rounded, built


def in_fewer_bits(model: nn.Module) -> list[Method]:
    """Methods of a network whose graphs a variant has in fewer bits."""
    return [method for method in methods.methods(model) if method.name not in KEPT | LEFT_OUT]


def quantised(graph: bytes, inputs: Mapping[str, Array]) -> bytes:
    """A float32 graph to QDQ form, scales calibrated on real inputs; runs in the sandbox.

    Weights have 7 bits where the processor would saturate on 8: AVX2 without VNNI adds in 16 bits.
    """
    from onnxruntime import quantization  # noqa: PLC0415 (it reconfigures logging when it is imported)

    untyped = cast("Any", quantization)
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantised.onnx"
        untyped.quantize_static(
            onnx.load_model_from_string(graph),
            target,
            _reader(untyped, inputs),
            quant_format=untyped.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=weight_bits() < 8,  # noqa: PLR2004 (bits of a byte)
            activation_type=untyped.QuantType.QUInt8,
            weight_type=untyped.QuantType.QInt8,
        )
        return stripped(onnx.load_model_from_string(target.read_bytes())).SerializeToString(deterministic=True)


def weight_bits() -> int:
    """Bits of an int8 variant's weights on this processor."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return 7
    return 8 if "vnni" in flags else 7


def variant_facts(precision: Precision) -> dict[str, str]:
    """Provenance of a variant's numbers for model.json."""
    return {PRECISION: precision} | ({"weight_bits": str(weight_bits())} if precision == "int8" else {})


def _reader(untyped: Any, inputs: Mapping[str, Array]) -> Any:  # noqa: ANN401 (a class of an untyped package)
    class Reader(untyped.CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = _batches(inputs)

        def get_next(self) -> dict[str, Array] | None:
            return next(self._batches, None)

    return Reader()


def _batches(inputs: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    for start in range(0, len(next(iter(inputs.values()))), _CALIBRATION_ROWS):
        yield {name: rows[start : start + _CALIBRATION_ROWS] for name, rows in inputs.items()}
