"""Imports ONNX files made elsewhere: adapts and checks them, records golden vectors from ONNX Runtime itself."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import prod

import numpy as np
from autoencoder.v1.model_pb2 import Model, Signature
from autoencoder.v1.shapes import DTYPES
from onnx import ModelProto

from bundle import latents
from bundle.golden import ROWS, SEED, TEMPERATURE, Array, Case, Golden, SampleCase, agrees
from bundle.graph import MAX_RUN_BYTES, read_graph
from bundle.layout import GOLDEN_FILE
from bundle.noise import Purpose, normals, uniforms
from export.errors import InputError
from export.gate import checks
from export.gate.checks import BATCH_INVARIANCE, STRUCTURE, Check, CheckedBundle, Finding, crash_refused
from export.gate.parity import outputs
from export.gate.sandbox import Sandbox
from export.gate.session import runtime_version
from export.gate.structure import ONNX_CHECKER
from export.graphs.tensor_specs import Facts, batch_buckets, signature
from export.importing.adapt import ImageShape, Port, adapt, fed, image_shape, joined, ports
from export.importing.source import SourceFile
from export.publication.model_json import describe
from export.publication.publish import Place, publish

_SLACK = 1e-5
# A row of 4 GiB, which no load would admit.
_MAX_NUMBERS = 2**30
_NO_GOLDEN = Golden({})


def import_files(
    arguments: Sequence[str],
    place: Place,
    labels: Sequence[str] = (),
    images: ImageShape | None = None,
    max_run_bytes: int = MAX_RUN_BYTES,
    say: Callable[[str], None] = print,
) -> Model:
    """Wrap ONNX files into a version, marked as imported.

    Raises:
        InputError: files that do not make a model together.
        GateError: a check refused; nothing was written.
    """
    place.check()
    sources = {source.signature: source for source in (SourceFile.read(each, images) for each in arguments)}
    if len(sources) != len(arguments):
        raise InputError(f"expected one file a signature, got {len(arguments)} for {', '.join(sorted(sources))}")
    facts = _facts({name: source.model for name, source in sources.items()}, labels, images)
    graphs = {name: adapt(source.model, signature(name, facts), facts.image_shape) for name, source in sources.items()}
    for line in _summary(sources, facts):
        say(line)
    with Sandbox() as sandbox:
        bundled = partial(_bundle, facts=facts, sandbox=sandbox, max_run_bytes=max_run_bytes)
        checks.run(FORM_CHECKS, bundled(graphs))
        if "reconstruct" not in graphs and _can_be_joined(graphs):
            made = signature("reconstruct", facts)
            graphs["reconstruct"] = joined(graphs["encode"], graphs["decode"], made, facts.image_shape)
            checks.run(FORM_CHECKS, bundled(graphs))
        bundle = bundled(graphs, golden=_recorded(graphs, facts, sandbox))
        checks.run(RUN_CHECKS, bundle)
        signatures = [_with_claim(each, bundle) for each in bundle.signatures]
    contents = {f"{name}.onnx": graph for name, graph in graphs.items()} | {GOLDEN_FILE: bundle.golden.to_bytes()}
    model = describe(facts, signatures, contents, _provenance(sources.values()), imported=True)
    folder = publish(place, contents, partial(place.name_model, model))
    return place.name_model(model, folder.name)


def _summary(sources: Mapping[str, SourceFile], facts: Facts) -> Iterator[str]:
    """What each graph is fed, and what no file can say."""
    for name, source in sorted(sources.items()):
        given, port = signature(name, facts).inputs[0], ports(source.model)[0][0]
        yield f"{name}: {source.name} gets {fed(port, given, facts.image_shape)}"
    if set(sources) != {"decode"}:
        yield "a network trained on other pixels, such as -1 … 1, must scale them itself: nothing in a file shows it"
    if "encode" in sources:
        sampled = "" if facts.variational else "; an autoencoder has no Sample without them"
        yield f"no statistics of latents, which come from training: drift is not measured{sampled}"


def _can_be_joined(graphs: Mapping[str, bytes]) -> bool:
    """Whether there are an encoder and a decoder whose operators mean the same."""
    opsets = {read_graph(graphs[name]).opset for name in ("encode", "decode") if name in graphs}
    return "encode" in graphs and "decode" in graphs and len(opsets) == 1


def _facts(models: Mapping[str, ModelProto], labels: Sequence[str], images: ImageShape | None) -> Facts:
    """Image shape, latent size and family from the graphs' own tensors."""
    seen = {name: ports(model) for name, model in models.items()}
    classes = prod(seen["classify"][1][0].shape) if "classify" in seen else 0
    if classes != len(labels):
        raise InputError(f"expected {classes} names for {classes} classes, got {len(labels)}: give --labels a,b,…")
    variational = "encode" in seen and len(seen["encode"][1]) > 1
    shape, latent_size = _image_shape(seen, images), _latent_size(seen)
    if max(prod(shape), latent_size) > _MAX_NUMBERS:
        got = f"images of {shape} and latents of {latent_size}"
        raise InputError(f"expected images and latents of at most {_MAX_NUMBERS} numbers, got {got}")
    return Facts(_family(seen, labels), variational, shape, latent_size, tuple(labels))


def _family(seen: Mapping[str, tuple[list[Port], list[Port]]], labels: Sequence[str]) -> str:
    """From the outputs: a second one of the encoder holds the log-variances."""
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
        raise InputError(f"expected latents of one size in encoder and decoder, got {sorted(sizes)}")
    return sizes.pop() if sizes else 0


def _bundle(
    graphs: Mapping[str, bytes], facts: Facts, sandbox: Sandbox, max_run_bytes: int, golden: Golden = _NO_GOLDEN
) -> CheckedBundle:
    signatures = [signature(name, facts) for name in sorted(graphs)]
    for each in signatures:
        each.batch_buckets.extend(batch_buckets(facts.image_shape))
    return CheckedBundle(
        signatures=signatures,
        graphs=graphs,
        golden=golden,
        sandbox=sandbox,
        imported=True,
        max_run_bytes=max_run_bytes,
    )


def _recorded(graphs: Mapping[str, bytes], facts: Facts, sandbox: Sandbox) -> Golden:
    """Golden vectors from the runtime's own outputs: there is no network to compute them."""
    cases: dict[str, tuple[Case, ...]] = {}
    for name in sorted(graphs):
        inputs = _inputs(signature(name, facts))
        with crash_refused("numbers", name):
            answers = sandbox.run(outputs, graphs[name], inputs)
        cases[name] = tuple(Case(given, answer) for given, answer in zip(inputs, answers, strict=True))
    return Golden(cases, _sample(graphs, facts, sandbox))


def _inputs(signature: Signature) -> list[dict[str, Array]]:
    """Zeros, and noise from the project's own generator: there is no data set to take images from."""
    spec = signature.inputs[0]
    shape = (ROWS, *spec.shape[1:])
    size = prod(shape[1:])
    if spec.name == "latents":
        return [{spec.name: np.zeros(shape, np.float32)}, {spec.name: normals(SEED, Purpose.ENCODE, 0, ROWS, size)}]
    noise = uniforms(SEED, Purpose.ENCODE, 0, ROWS, size).reshape(shape)
    dtype = DTYPES[spec.data_type]
    scaled = np.floor(noise * 256) if dtype == np.uint8 else noise
    return [{spec.name: np.zeros(shape, dtype)}, {spec.name: scaled.astype(dtype)}]


def _sample(graphs: Mapping[str, bytes], facts: Facts, sandbox: Sandbox) -> SampleCase | None:
    if "decode" not in graphs:
        return None
    drawn = latents.draw(facts.family, facts.latent_size, None, SEED, 0, ROWS, TEMPERATURE)
    if drawn is None:
        return None
    with crash_refused("numbers", "decode"):
        images = sandbox.run(outputs, graphs["decode"], [{"latents": drawn}])[0]["images"]
    return SampleCase(SEED, ROWS, TEMPERATURE, drawn, images)


def _ranges(bundle: CheckedBundle) -> Iterator[Finding]:
    for each in bundle.signatures:
        for case in bundle.golden.of(each.name):
            for output, array in case.outputs.items():
                problem = _shape_problem(each, case, output, array) or _range_problem(output, array)
                yield Finding(each.name, problem, passed=not problem, where=output)


def _shape_problem(signature: Signature, case: Case, output: str, array: Array) -> str:
    """Sizes may have been given by the user, or inferred: only a run shows them."""
    (rows,) = case.inputs.values()
    spec = next(each for each in signature.outputs if each.name == output)
    expected = (len(rows), *spec.shape[1:])
    return "" if array.shape == expected else f"expected the shape {expected}, got {array.shape}"


def _range_problem(output: str, array: Array) -> str:
    """What is wrong with the values of an output; empty where nothing is."""
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(array).all():
        return "expected finite numbers, got NaN or infinity"
    if output in {"images", "reconstructions", "denoised"} and (low < -_SLACK or high > 1 + _SLACK):
        return f"expected pixels in 0 … 1, got {low:.3g} … {high:.3g}: end in a sigmoid"
    if output == "probabilities" and not agrees(array.sum(axis=1), np.ones(len(array)), _SLACK):
        return "expected rows that sum to 1: end in a softmax"
    return ""


def _with_claim(signature: Signature, bundle: CheckedBundle) -> Signature:
    known = Signature(batch_invariant=bundle.row_difference(signature).largest == 0)
    known.MergeFrom(signature)
    return known


def _provenance(files: Iterable[SourceFile]) -> dict[str, str]:
    sources = [*files]
    digests = {f"{each.signature}_{of}_sha256": digest for each in sources for of, digest in each.sha256.items()}
    producers = {f"{each.model.producer_name} {each.model.producer_version}".strip() for each in sources}
    return digests | {"producer": ", ".join(sorted(producers - {""})), "onnxruntime": runtime_version()}


RANGES = Check("numbers", _ranges)
"""Outputs are finite, pixels in 0 … 1, probabilities sum to 1: there is no network to compare with."""
FORM_CHECKS = (STRUCTURE, ONNX_CHECKER)
RUN_CHECKS = (RANGES, BATCH_INVARIANCE)
