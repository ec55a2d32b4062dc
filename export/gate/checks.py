"""Checks of the gate: a check has a name and says what it found; here are those that need neither torch nor onnx.

Each road to a bundle has its list of checks: `gate.CHECKS` for a checkpoint, `quantized` for its variants, `importer`
for graphs made elsewhere, `verify` for a version in a repository.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
from autoencoder.v1.model_pb2 import Signature

from bundle.errors import BundleError
from bundle.golden import Array, Case, Golden
from bundle.graph import MAX_RUN_BYTES, check_graph
from bundle.replay import RowDifference
from bundle.runtime_options import PROMISES_BITS, Device
from export.errors import Failure, GateError
from export.gate.parity import golden_problems, row_difference
from export.gate.sandbox import CrashError, Sandbox


@dataclass(frozen=True)
class Finding:
    """Result of a check for one subject, a graph or the whole version."""

    subject: str
    seen: str
    passed: bool
    where: str = ""
    """On which input."""
    check: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.seen}" if self.where else self.seen


Checked_contra = TypeVar("Checked_contra", contravariant=True)


@dataclass(frozen=True)
class Check(Generic[Checked_contra]):
    """One check; several may share a name, under which a refusal and the report list them."""

    name: str
    run: Callable[[Checked_contra], Iterable[Finding]]

    def findings(self, checked: Checked_contra) -> list[Finding]:
        """Run it; findings carry its name."""
        return [replace(each, check=self.name) for each in self.run(checked)]


@dataclass(kw_only=True)
class CheckedBundle:
    """Graphs by signature, their golden vectors, and the sandbox and device that they run on."""

    signatures: Sequence[Signature]
    graphs: Mapping[str, bytes]
    golden: Golden
    sandbox: Sandbox
    device: Device = "cpu"
    imported: bool = False
    max_run_bytes: int = MAX_RUN_BYTES
    _row_differences: dict[str, RowDifference] = field(default_factory=dict[str, RowDifference], init=False, repr=False)

    def row_difference(self, signature: Signature) -> RowDifference:
        """How far a row alone is from the same row in batches up to the largest, on golden inputs.

        Raises:
            BundleError: the runtime fails in the graph.
            CrashError: the runtime crashes in the graph.
        """
        if signature.name not in self._row_differences:
            cases, rows = self.golden.of(signature.name), max(signature.batch_buckets, default=1)
            inputs = [
                {name: np.resize(array, (rows, *array.shape[1:])) for name, array in joined.items()}
                for joined in _joined(cases)
            ]
            self._row_differences[signature.name] = self.sandbox.run(
                row_difference, self.graphs[signature.name], inputs, signature.golden_tolerance, self.device
            )
        return self._row_differences[signature.name]


def _joined(cases: Sequence[Case]) -> Iterator[dict[str, Array]]:
    """Inputs of golden cases, those of one shape together."""
    alike: dict[tuple[tuple[int, ...], ...], list[Case]] = {}
    for case in cases:
        alike.setdefault(tuple(array.shape[1:] for array in case.inputs.values()), []).append(case)
    for some in alike.values():
        yield {name: np.concatenate([case.inputs[name] for case in some]) for name in some[0].inputs}


def run(checks: Sequence[Check[Checked_contra]], checked: Checked_contra) -> tuple[str, ...]:
    """Run checks in order; the names of those that ran.

    Raises:
        GateError: a check refused; those after it did not run.
    """
    for check in checks:
        failed = [each for each in check.findings(checked) if not each.passed]
        if failed:
            raise GateError(check.name, [Failure(each.subject, each.where, each.seen) for each in failed])
    return tuple(dict.fromkeys(check.name for check in checks))


@contextmanager
def crash_refused(check: str, signature: str) -> Generator[None]:
    """A graph that the runtime refuses, or that kills it, fails the check."""
    try:
        yield
    except (CrashError, BundleError) as error:
        raise GateError(check, [Failure(signature, "", str(error))]) from error


def _structure(bundle: CheckedBundle) -> Iterator[Finding]:
    for signature in bundle.signatures:
        try:
            graph = check_graph(
                bundle.graphs[signature.name],
                signature,
                imported=bundle.imported,
                max_run_bytes=bundle.max_run_bytes,
            )
        except BundleError as error:
            yield Finding(signature.name, str(error), passed=False)
        else:
            yield Finding(signature.name, f"opset {graph.opset}, {graph.operators.total()} nodes", passed=True)


def _golden_vectors(bundle: CheckedBundle) -> Iterator[Finding]:
    for signature in bundle.signatures:
        cases, graph = bundle.golden.of(signature.name), bundle.graphs[signature.name]
        try:
            found = bundle.sandbox.run(golden_problems, graph, cases, signature.golden_tolerance, bundle.device)
        except (BundleError, CrashError) as error:
            found = [str(error)]
        yield Finding(signature.name, "; ".join(found) or f"{len(cases)} cases agree", passed=not found)


def _batch_invariance(bundle: CheckedBundle) -> Iterator[Finding]:
    for signature in bundle.signatures:
        try:
            difference = bundle.row_difference(signature)
        except (BundleError, CrashError) as error:
            yield Finding(signature.name, str(error), passed=False)
            continue
        # On CUDA the library promises no bits, and neither does the bundle.
        claimed = signature.batch_invariant and bundle.device in PROMISES_BITS
        passed = difference.largest == 0 or (not claimed and difference.excess <= 1)
        off = f"off by {difference.largest:.3g}" if difference.largest else "the same bits"
        yield Finding(signature.name, off, passed=passed, where="a row alone against the same row in a batch")


STRUCTURE = Check("structure", _structure)
"""What a server demands of a graph's form: operators, opset, tensors; reads the bytes, runs nothing."""
GOLDEN_VECTORS = Check("golden vectors", _golden_vectors)
"""The self-test of a server: every graph gives its golden outputs, the decoder those of the golden sample too."""
BATCH_INVARIANCE = Check("batch invariance", _batch_invariance)
"""A row alone and in a batch: the same bits where the bundle claims so, else within the tolerance."""
