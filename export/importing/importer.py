"""Other people's ONNX files to a version: adapted, checked, golden vectors recorded from the runtime itself."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8, Model, Signature
from google.protobuf.message import DecodeError
from onnx import ModelProto

from bundle.errors import BundleError
from bundle.golden import Case, Golden, SampleCase, agrees
from bundle.graph import read_graph
from bundle.latents import prior
from bundle.layout import GOLDEN_FILE, describe_files
from bundle.noise import Purpose, normals, uniforms
from export.errors import Failure, GateError, InputError
from export.gate.parity import Array
from export.gate.sampling import ROWS, SEED, TEMPERATURE, draw
from export.gate.sandbox import CrashError, Isolation
from export.gate.selftest import outputs
from export.gate.structure import form_problems
from export.graphs.tensor_specs import Facts, batch_buckets, served_methods, signature
from export.importing.adapt import ImageShape, Port, adapt, image_shape, joined, ports
from export.inspection.verify import invariance_of
from export.publication.publish import Place, publish
from export.runtime import version as runtime_version

_STEMS = {
    "encode": "encode",
    "encoder": "encode",
    "decode": "decode",
    "decoder": "decode",
    "reconstruct": "reconstruct",
    "autoencoder": "reconstruct",
    "denoise": "denoise",
    "denoiser": "denoise",
    "classify": "classify",
    "classifier": "classify",
}
_SLACK = 1e-5


@dataclass(frozen=True)
class Source:
    """A file made elsewhere, for one signature."""

    signature: str
    data: bytes
    model: ModelProto

    @classmethod
    def read(cls, argument: str) -> "Source":
        """Read FILE, whose name tells the signature, or SIGNATURE=FILE.

        Raises:
            InputError: no such file, not ONNX, no known signature, or weights in other files.
        """
        name, equals, path = argument.rpartition("=")
        file = Path(path)
        known = _STEMS.get(name if equals else file.stem.lower())
        if known is None:
            raise InputError(
                f"{argument}: expected a file named after what it does, or encode=FILE; of {', '.join(_STEMS)}"
            )
        try:
            data = file.read_bytes()
            if foreign := read_graph(data).foreign:
                raise InputError(f"{file}: {'; '.join(foreign)}")
            return cls(known, data, onnx.load_model_from_string(data))
        except OSError as error:
            raise InputError(f"{file}: expected a readable file: {error.strerror}") from error
        except (BundleError, DecodeError) as error:
            raise InputError(f"{file}: {error}") from error


def import_files(
    arguments: Sequence[str], place: Place, labels: Sequence[str] = (), images: ImageShape | None = None
) -> Model:
    """Wrap ONNX files into a version, marked as imported.

    Raises:
        InputError: files that do not make a model together.
        GateError: a check refused; nothing was written.
    """
    place.check()
    sources = {source.signature: source for source in map(Source.read, arguments)}
    if len(sources) != len(arguments):
        raise InputError(f"expected one file a signature, got {len(arguments)} for {', '.join(sorted(sources))}")
    about = _facts({name: source.model for name, source in sources.items()}, labels, images)
    graphs = {name: adapt(source.model, signature(name, about), about.image_shape) for name, source in sources.items()}
    with Isolation() as apart:
        _check_structure(graphs, about, apart)
        if "reconstruct" not in graphs and _can_be_joined(graphs):
            made = signature("reconstruct", about)
            graphs["reconstruct"] = joined(graphs["encode"], graphs["decode"], made, about.image_shape)
            _check_structure(graphs, about, apart)
        signatures = [signature(name, about) for name in sorted(graphs)]
        known, golden = _record(signatures, graphs, about, apart)
    contents = {f"{name}.onnx": graph for name, graph in graphs.items()} | {GOLDEN_FILE: golden.to_bytes()}
    model = _describe(about, known, contents, sources.values())
    folder = publish(place, contents, lambda number: _named(model, place, number))
    return _named(model, place, folder.name)


def _can_be_joined(graphs: Mapping[str, bytes]) -> bool:
    """Whether there are an encoder and a decoder whose operators mean the same."""
    opsets = {read_graph(graphs[name]).opset for name in ("encode", "decode") if name in graphs}
    return "encode" in graphs and "decode" in graphs and len(opsets) == 1


def _facts(models: Mapping[str, ModelProto], labels: Sequence[str], images: ImageShape | None) -> Facts:
    """Image shape, code and family from the graphs' own tensors."""
    seen = {name: ports(model) for name, model in models.items()}
    classes = prod(seen["classify"][1][0].shape) if "classify" in seen else 0
    if classes != len(labels):
        raise InputError(f"expected {classes} names for {classes} classes, got {len(labels)}: give --labels a,b,…")
    variational = "encode" in seen and len(seen["encode"][1]) > 1
    return Facts(_family(seen, labels), variational, _image_shape(seen, images), _latent_size(seen), tuple(labels))


def _family(seen: Mapping[str, tuple[list[Port], list[Port]]], labels: Sequence[str]) -> str:
    """What the outputs tell: a second one of the encoder is the log-variances."""
    if set(seen) == {"denoise"}:
        return "denoiser"
    if "encode" not in seen or len(seen["encode"][1]) == 1:
        return "ae"
    return "multitask" if labels else "vae"


def _image_shape(seen: Mapping[str, tuple[list[Port], list[Port]]], images: ImageShape | None) -> ImageShape:
    pictures = [outputs if name == "decode" else inputs for name, (inputs, outputs) in seen.items()]
    shapes = {image_shape(each[0].shape, images) for each in pictures if each}
    if len(shapes) != 1:
        raise InputError(f"expected images of one shape in all files, got {sorted(shapes)}")
    return shapes.pop()


def _latent_size(seen: Mapping[str, tuple[list[Port], list[Port]]]) -> int:
    codes = [seen[name][side] for name, side in (("encode", 1), ("decode", 0)) if name in seen]
    sizes = {prod(each[0].shape) for each in codes if each}
    if len(sizes) > 1:
        raise InputError(f"expected codes of one size in encoder and decoder, got {sorted(sizes)}")
    return sizes.pop() if sizes else 0


def _check_structure(graphs: Mapping[str, bytes], about: Facts, apart: Isolation) -> None:
    failures: list[Failure] = []
    for name, graph in graphs.items():
        try:
            found = apart.run(form_problems, graph, signature(name, about), imported=True)
        except CrashError as error:
            found = [str(error)]
        failures += [Failure(name, "", problem) for problem in found]
    if failures:
        raise GateError("structure", failures)


def _record(
    signatures: Iterable[Signature], graphs: Mapping[str, bytes], about: Facts, apart: Isolation
) -> tuple[list[Signature], Golden]:
    """Golden vectors as the runtime gives them, and the signatures with what was seen meanwhile."""
    known: list[Signature] = []
    cases: dict[str, tuple[Case, ...]] = {}
    for each in signatures:
        try:
            inputs = _inputs(each)
            got = apart.run(outputs, graphs[each.name], inputs)
            difference, excess = apart.run(invariance_of, graphs[each.name], _company(inputs, about))
        except (BundleError, CrashError) as error:
            raise GateError("numbers", [Failure(each.name, "", str(error))]) from error
        _check_ranges(each, got)
        if not excess <= 1:
            raise GateError(
                "batch invariance",
                [Failure(each.name, "a row alone against the row in a batch", f"off by {difference:.3g}")],
            )
        cases[each.name] = tuple(Case(given, answer) for given, answer in zip(inputs, got, strict=True))
        known.append(_measured(each, difference, about))
    return known, Golden(cases, _sample(graphs, about, apart))


def _company(inputs: Sequence[Mapping[str, Array]], about: Facts) -> dict[str, Array]:
    rows = batch_buckets(about.image_shape)[-1]
    return {name: np.resize(array, (rows, *array.shape[1:])) for name, array in inputs[-1].items()}


def _inputs(signature: Signature) -> list[dict[str, Array]]:
    """Zeros, and noise from the project's own generator: there is no data set to take images from."""
    spec = signature.inputs[0]
    shape = (ROWS, *spec.shape[1:])
    size = prod(shape[1:])
    if spec.name == "latents":
        return [{spec.name: np.zeros(shape, np.float32)}, {spec.name: normals(SEED, Purpose.ENCODE, 0, ROWS, size)}]
    noise = uniforms(SEED, Purpose.ENCODE, 0, ROWS, size).reshape(shape)
    kind = np.uint8 if spec.data_type == DATA_TYPE_UINT8 else np.float32
    scaled = np.floor(noise * 256) if kind is np.uint8 else noise
    return [{spec.name: np.zeros(shape, kind)}, {spec.name: scaled.astype(kind)}]


def _check_ranges(signature: Signature, answers: Sequence[Mapping[str, Array]]) -> None:
    failures: list[Failure] = []
    for name, array in ((name, array) for answer in answers for name, array in answer.items()):
        low, high = float(array.min()), float(array.max())
        if not np.isfinite(array).all():
            failures.append(Failure(signature.name, name, "expected finite numbers, got NaN or infinity"))
        elif name in {"images", "reconstructions", "denoised"} and (low < -_SLACK or high > 1 + _SLACK):
            failures.append(
                Failure(signature.name, name, f"expected pixels in 0 … 1, got {low:.3g} … {high:.3g}: end in a sigmoid")
            )
        elif name == "probabilities" and not agrees(array.sum(axis=1), np.ones(len(array)), _SLACK):
            failures.append(Failure(signature.name, name, "expected rows that sum to 1: end in a softmax"))
    if failures:
        raise GateError("numbers", failures)


def _sample(graphs: Mapping[str, bytes], about: Facts, apart: Isolation) -> SampleCase | None:
    drawn = draw(about.family, about.latent_size, None) if "decode" in graphs else None
    if drawn is None:
        return None
    images = apart.run(outputs, graphs["decode"], [{"latents": drawn}])[0]["images"]
    return SampleCase(SEED, ROWS, TEMPERATURE, drawn, images)


def _measured(signature: Signature, difference: float, about: Facts) -> Signature:
    known = Signature(batch_invariant=difference == 0, batch_buckets=batch_buckets(about.image_shape))
    known.MergeFrom(signature)
    return known


def _describe(
    about: Facts, signatures: Sequence[Signature], contents: Mapping[str, bytes], sources: Iterable[Source]
) -> Model:
    provenance = {f"{each.signature}_source_sha256": hashlib.sha256(each.data).hexdigest() for each in sources}
    producers = {f"{s.model.producer_name} {s.model.producer_version}".strip() for s in sources}
    names = {each.name: each for each in signatures}
    return Model(
        family=about.family,
        methods=served_methods(about, names, attributes=(), density=prior(about.family) == "normal"),
        height=about.image_shape[0],
        width=about.image_shape[1],
        channels=about.image_shape[2],
        latent_size=about.latent_size,
        signatures=signatures,
        labels=about.labels,
        provenance=provenance | {"producer": ", ".join(sorted(producers - {""})), "onnxruntime": runtime_version()},
        files=describe_files(contents),
        imported=True,
    )


def _named(model: Model, place: Place, version: str) -> Model:
    named = Model(name=place.name, version=version)
    named.MergeFrom(model)
    return named
