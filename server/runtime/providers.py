"""Execution providers of ONNX Runtime: one row each, and the choice of one for `--device`.

A new provider is a row here, a value of `server.execution_config.Device`, and an extra in pyproject.toml. One that
export runs graphs on too has its name in `bundle.runtime_options` and its session in `export.gate.session`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from autoencoder.v1.model_pb2 import Model, Signature

from bundle.errors import BundleError
from bundle.runtime_options import PROVIDER_NAMES, cuda_options, is_bfloat16, lacks_bfloat16, openvino_options
from server.execution_config import Device, SessionConfig
from server.runtime import session
from server.runtime.cpu import cores
from server.runtime.session import BoundSession, DeviceError, Interrupt, Session

_LOGGER = logging.getLogger(__name__)
# A fifth of a small version's load holds the interpreter, and each load needs memory for three times its files.
_MAX_CONCURRENT_LOADS = 4


@dataclass(frozen=True)
class ExecutionProvider:
    """What the server needs to know of one execution provider."""

    name: str
    """As ONNX Runtime calls it."""
    device: Device
    """The value of `--device` that asks for it."""
    options: Callable[[SessionConfig], dict[str, str]]
    session: type[Session]
    deterministic: bool
    """Whether a batch-invariant graph gives a row the same bits in every batch here."""
    uses_cores: bool
    """Whether several runs at a time share the processor's cores; otherwise a device does one after another."""
    on_caller: bool
    """Whether a run on one thread is the caller's, so that the caller's CPU time is that of the run."""
    instance_kind: Literal["KIND_CPU", "KIND_GPU"]
    """As the Open Inference Protocol calls it in a model's instance groups."""
    install: str | None
    """What to install where ONNX Runtime lacks it; None for what every build has."""

    def open(
        self, signature: Signature, graph: bytes, config: SessionConfig, interrupt: Interrupt | None = None
    ) -> Session:
        """Load a graph, with operators that the provider lacks on the CPU.

        Raises:
            BundleError: ONNX Runtime refuses the graph, or its inputs and outputs are not those of the signature.
            DeviceError: ONNX Runtime gave another provider.
        """
        kind = self.session
        if not session.is_uniform(signature):
            # Buffers and CUDA graphs are for one shape.
            kind, config = Session, replace(config, cuda_graphs=False)
        own = (self.name, self.options(config))
        chain = [own] if self is CPU else [own, (CPU.name, CPU.options(config))]
        return kind.open(signature, graph, chain, config, interrupt)

    def runs_on_caller(self, config: SessionConfig) -> bool:
        """Whether the CPU time of the calling thread is that of a run, whatever else the machine does."""
        return self.on_caller and config.intra_op_threads == 1

    def concurrent_loads(self, config: SessionConfig) -> int:
        """How many versions may load at a time: one where others would be part of the times that warm-up measures."""
        return min(cores(), _MAX_CONCURRENT_LOADS) if self.runs_on_caller(config) else 1

    def problem(self, config: SessionConfig) -> str | None:
        """Why it does not work here; None where it does."""
        if self.install is None:
            return None
        if self.name not in session.available():
            return f"this onnxruntime is built without {self.name}: install {self.install} in place of onnxruntime"
        return session.probe(self.name, self.options(config), config)


def _no_options(_: SessionConfig) -> dict[str, str]:
    return {}


def _cuda_options(config: SessionConfig) -> dict[str, str]:
    return cuda_options(
        device=config.cuda_device, graphs=config.cuda_graphs, memory_limit_bytes=config.cuda_memory_limit_bytes
    )


def _openvino_options(config: SessionConfig) -> dict[str, str]:
    return openvino_options(threads=config.intra_op_threads, runs=_concurrent_runs(config))


def _bfloat16_options(config: SessionConfig) -> dict[str, str]:
    return openvino_options(bfloat16=True, threads=config.intra_op_threads, runs=_concurrent_runs(config))


def _concurrent_runs(config: SessionConfig) -> int:
    return max(1, cores() // config.intra_op_threads)


CUDA = ExecutionProvider(
    name=PROVIDER_NAMES["cuda"],
    device="cuda",
    options=_cuda_options,
    session=BoundSession,
    deterministic=False,
    uses_cores=False,
    on_caller=False,
    instance_kind="KIND_GPU",
    install="onnxruntime-gpu[cuda,cudnn]",
)
CPU = ExecutionProvider(
    name=PROVIDER_NAMES["cpu"],
    device="cpu",
    options=_no_options,
    session=Session,
    deterministic=True,
    uses_cores=True,
    on_caller=True,
    instance_kind="KIND_CPU",
    install=None,
)
OPENVINO = ExecutionProvider(
    name=PROVIDER_NAMES["openvino"],
    device="openvino",
    options=_openvino_options,
    session=Session,
    deterministic=True,
    uses_cores=True,
    on_caller=False,
    instance_kind="KIND_CPU",
    install="onnxruntime-openvino",
)
# For versions that were judged in bfloat16, whatever `--device` says.
_OPENVINO_BFLOAT16 = replace(OPENVINO, options=_bfloat16_options)
# `auto` takes the first that works; what follows the CPU, which always works, must be asked for by name.
_ROWS = (CUDA, CPU, OPENVINO)
PROVIDERS = {provider.name: provider for provider in _ROWS}


def choose_provider(config: SessionConfig) -> ExecutionProvider:
    """Provider for `--device`: the one asked for, or for `auto` the first that works.

    Raises:
        DeviceError: the one asked for does not work.
    """
    for provider in _candidates(config):
        problem = provider.problem(config)
        if problem is None:
            return provider
        if config.device != "auto":
            raise DeviceError(f"--device {config.device}: {problem}")
        _LOGGER.info("not running on %s: %s", provider.name, problem)
    raise DeviceError(f"--device {config.device}: expected one of {', '.join(row.device for row in _ROWS)}")


def provider_for(model: Model, chosen: ExecutionProvider, config: SessionConfig) -> ExecutionProvider:
    """Provider of a version: the chosen one, but OpenVINO in bfloat16 for a version that was judged so.

    Raises:
        BundleError: the version is in bfloat16, and the processor or this onnxruntime cannot run it.
    """
    if not is_bfloat16(model):
        return chosen
    problem = lacks_bfloat16() or _OPENVINO_BFLOAT16.problem(config)
    if problem is not None:
        raise BundleError(f"this version is in bfloat16: {problem}; its float32 version runs anywhere")
    return _OPENVINO_BFLOAT16


def expects_gpu(config: SessionConfig, gpus: int) -> bool:
    """Whether models should run on a GPU: `--device` allows it, and there is one or a runtime made for it."""
    wanted = [row.name for row in _candidates(config) if row.instance_kind == "KIND_GPU"]
    return bool(wanted) and (gpus > 0 or not session.available().isdisjoint(wanted))


def _candidates(config: SessionConfig) -> list[ExecutionProvider]:
    return [row for row in _ROWS if config.device in {"auto", row.device}]
