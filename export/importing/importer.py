"""Imports ONNX files made elsewhere: adapts and checks them, records golden vectors from ONNX Runtime itself."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import lcm
from pathlib import Path

from autoencoder.v1.model_pb2 import Model, Signature

from bundle.compatibility import check_golden, check_model
from bundle.detection import Score
from bundle.golden import Golden
from bundle.graph import MAX_RUN_BYTES, read_graph
from bundle.layout import GOLDEN_FILE, LATENTS_FILE, MODEL_FILE
from export import reference_images
from export.errors import InputError
from export.gate import checks
from export.gate.checks import BATCH_INVARIANCE, STRUCTURE, Check, CheckedBundle, crash_refused
from export.gate.sandbox import Sandbox
from export.gate.session import runtime_version
from export.gate.structure import ONNX_CHECKER
from export.gate.tiling import tiles
from export.gate.tiling.tiles import TILES, Tiled
from export.graphs.scaling import PLAIN, Scaling
from export.graphs.tensor_specs import Facts, Sizes, batch_buckets, signature
from export.importing import sizes
from export.importing.adapt import adapt, fed, joined
from export.importing.facts import facts
from export.importing.ports import ImageShape, ports
from export.importing.ranges import RANGES
from export.importing.recording import Recorder
from export.importing.source import SourceFile
from export.publication.model_json import describe
from export.publication.publish import Place, publish
from export.reference_images import Images, Reference

_NO_GOLDEN = Golden({})
_MAX_REFERENCES = 2_000


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the files do not say."""

    labels: Sequence[str] = ()
    """Names of the classes of a classifier."""
    images: ImageShape | None = None
    """(H, W, C), where sizes are open and not to be free."""
    scaling: Scaling = PLAIN
    """The pixels that the network was trained on; by default 0 … 1."""
    clip: bool = False
    """Cut images that the graphs give to 0 … 1."""
    multiple: int = 0
    """Of free sizes: pixels that height and width are padded to a multiple of; 0: try."""
    minimum: int = 0
    """Of free sizes: the smallest height and width; 0: try."""
    reference: Sequence[Path] = ()
    """Images, or folders or arrays of them; of a detector normal ones that it was not trained on."""
    detection_score: Score = "max"
    """How an image's score comes from a detector's map."""
    max_run_bytes: int = MAX_RUN_BYTES


DEFAULTS = Options()


def import_files(
    arguments: Sequence[str], place: Place, options: Options = DEFAULTS, say: Callable[[str], None] = print
) -> Model:
    """Wrap ONNX files into a version, marked as imported.

    Raises:
        InputError: files that do not make a model together.
        GateError: a check refused; nothing was written.
    """
    place.check()
    sources = {source.signature: source for source in (SourceFile.read(each, options.images) for each in arguments)}
    if len(sources) != len(arguments):
        raise InputError(f"expected one file a signature, got {len(arguments)} for {', '.join(sorted(sources))}")
    about = facts({name: source.model for name, source in sources.items()}, options.labels, options.images)
    options.scaling.check(about.image_shape[2])
    if "detect" in sources and not options.reference:
        raise InputError(
            "expected --reference for detect, normal images that it was not trained on, got none: its thresholds are "
            "calibrated on them"
        )
    graphs = {name: _adapted(source, about, options) for name, source in sources.items()}
    for line in _summary(sources, about, options):
        say(line)
    with Sandbox() as sandbox:
        draft = _Draft(about, graphs, sandbox, options)
        draft.check_form()
        draft.learn_sizes()
        if "reconstruct" not in graphs and _can_be_joined(graphs):
            made = signature("reconstruct", draft.about)
            graphs["reconstruct"] = joined(graphs["encode"], graphs["decode"], made, about.image_shape)
            draft.check_form()
        model, contents = draft.finished(_provenance(sources.values()), say)
    folder = publish(place, contents, partial(place.name_model, model))
    return place.name_model(model, folder.name)


def _adapted(source: SourceFile, about: Facts, options: Options) -> bytes:
    spec, scaling, score = signature(source.signature, about), options.scaling, options.detection_score
    return adapt(source.model, spec, about.image_shape, scaling, clip=options.clip, score=score)


class _Draft:
    """Adapted graphs on their way to a version."""

    def __init__(self, about: Facts, graphs: dict[str, bytes], sandbox: Sandbox, options: Options) -> None:
        self.about = about
        self._graphs = graphs
        self._sandbox = sandbox
        self._options = options

    def check_form(self) -> None:
        """Refuse what a server would refuse before it runs anything."""
        checks.run(FORM_CHECKS, self._bundle(_NO_GOLDEN, {}))

    def learn_sizes(self) -> None:
        """Find by trying which sizes the graphs take, where these are free."""
        if not self.about.shapes.free:
            if self._options.multiple or self._options.minimum:
                raise InputError("expected --multiple and --minimum for free height and width alone, got one size")
            return
        steps, least, ratios = [1], [1], dict[str, float]()
        for name, graph in sorted(self._graphs.items(), key=lambda each: each[0] == "decode"):
            scale = int(1 / ratios["encode"]) if name == "decode" and ratios.get("encode") else 1
            given = -(-self._options.multiple // scale), -(-self._options.minimum // scale)
            with crash_refused("sizes", name):
                found = self._sandbox.run(sizes.find, graph, signature(name, self.about), *given)
            ratios[name] = found.ratio
            pixels = round(found.ratio) if name == "decode" else 1
            steps.append(found.multiple * pixels)
            # Padding makes what is shorter as long.
            least.append((found.minimum - found.multiple) * pixels + 1)
        multiple = lcm(*steps, *(round(1 / each) for each in ratios.values() if 0 < each < 1))
        self.about = replace(
            self.about,
            downsampling=_downsampling(ratios) if self.about.latent_shape else 0,
            sizes=Sizes(multiple=multiple, minimum=max(self._options.minimum, *least)),
        )

    def finished(self, provenance: Mapping[str, str], say: Callable[[str], None]) -> tuple[Model, dict[str, bytes]]:
        """Record, check, describe.

        Raises:
            GateError: a check refused.
        """
        about, options = self.about, self._options
        found = _reference(options.reference, about)
        images = _stacked(found, about) if found else None
        # Squares that are cut out of images of any size have no classes.
        classes = [] if about.shapes.free else [each.label for each in found]
        recorder = Recorder(self._graphs, about, self._sandbox, images, classes)
        tiled = self._tiled(recorder)
        statistics = recorder.statistics(say)
        bundle = self._bundle(recorder.golden(statistics), tiled)
        checks.run(CHECKS, bundle)
        signatures = [_with_claim(each, bundle) for each in bundle.signatures]
        contents = {f"{name}.onnx": graph for name, graph in self._graphs.items()}
        contents[GOLDEN_FILE] = bundle.golden.to_bytes()
        if statistics is not None:
            contents[LATENTS_FILE] = statistics.to_bytes()
        known = dict(provenance) | _scaling_facts(options)
        known |= {f"untileable_{name}": each.untileable for name, each in tiled.items() if each.untileable}
        model = describe(about, signatures, contents, known, statistics, imported=True)
        if "detect" in self._graphs:
            wholes = [each.pixels for each in found]
            model.detection.CopyFrom(recorder.detection(wholes, options.detection_score))
            say(f"detect: thresholds are those of {len(wholes)} reference images, taken for normal and not trained on")
        with crash_refused("structure", MODEL_FILE):
            check_model(model)
            check_golden(model, bundle.golden)
        return model, contents

    def _tiled(self, recorder: Recorder) -> dict[str, Tiled]:
        tiled: dict[str, Tiled] = {}
        for name, graph in self._graphs.items() if self.about.shapes.free else ():
            spec, picture = signature(name, self.about), partial(recorder.picture, name)
            with crash_refused("tiles", name):
                tiled[name] = tiles.tile(self.about, spec, graph, picture, self._sandbox)
        return tiled

    def _bundle(self, golden: Golden, tiled: Mapping[str, Tiled]) -> "_Imported":
        signatures = [signature(name, self.about) for name in sorted(self._graphs)]
        for each in signatures:
            found = tiled.get(each.name)
            each.batch_buckets.extend(batch_buckets(self.about.image_shape) if found is None else found.buckets)
            if found is not None and found.tiling is not None:
                each.tiling.CopyFrom(found.tiling)
        return _Imported(
            signatures=signatures,
            graphs=self._graphs,
            golden=golden,
            sandbox=self._sandbox,
            imported=True,
            max_run_bytes=self._options.max_run_bytes,
            tiled=tiled,
        )


@dataclass(kw_only=True)
class _Imported(CheckedBundle):
    """With how its graphs may be cut."""

    tiled: Mapping[str, Tiled]


def _reference(sources: Sequence[Path], about: Facts) -> list[Reference]:
    """Whole images in the channels that the graphs take."""
    return reference_images.read(sources, about.image_shape[2], _MAX_REFERENCES) if sources else []


def _stacked(found: Sequence[Reference], about: Facts) -> Images:
    """(N, H, W, C) that the graphs take: of free sizes squares."""
    if about.shapes.free:
        return reference_images.crops(found, about.sizes.multiple, about.sizes.minimum)
    return reference_images.of_one_size(found, about.image_shape[:2])


def _downsampling(ratios: Mapping[str, float]) -> int:
    """Pixels for each cell of latents.

    Raises:
        InputError: encoder and decoder disagree, or it is no whole number.
    """
    found = {round(1 / ratios["encode"], 6)} if "encode" in ratios else set[float]()
    if "decode" in ratios:
        found.add(ratios["decode"])
    if len(found) != 1 or not min(found).is_integer():
        got = " and ".join(f"{each:g}" for each in sorted(found))
        raise InputError(f"expected latents of one whole number of pixels for each cell, got {got}")
    return int(found.pop())


def _scaling_facts(options: Options) -> dict[str, str]:
    if not options.scaling.changes:
        return {}
    return {name: ",".join(f"{each:g}" for each in getattr(options.scaling, name)) for name in ("mean", "std")}


def _summary(sources: Mapping[str, SourceFile], about: Facts, options: Options) -> Iterator[str]:
    """What each graph is fed, and what no file can say."""
    for name, source in sorted(sources.items()):
        given, port = signature(name, about).inputs[0], ports(source.model)[0][0]
        yield f"{name}: {source.name} gets {fed(port, given, about.image_shape, options.scaling)}"
    if set(sources) != {"decode"} and not options.scaling.changes:
        yield "a network trained on other pixels needs --range or --mean and --std: nothing in a file shows it"
    if "encode" in sources and not options.reference:
        sampled = "" if about.variational else "; an autoencoder has no Sample without them"
        yield f"no statistics of latents without --reference: drift is not measured{sampled}"


def _can_be_joined(graphs: Mapping[str, bytes]) -> bool:
    """Whether there are an encoder and a decoder whose operators mean the same."""
    opsets = {read_graph(graphs[name]).opset for name in ("encode", "decode") if name in graphs}
    return "encode" in graphs and "decode" in graphs and len(opsets) == 1


def _with_claim(signature: Signature, bundle: CheckedBundle) -> Signature:
    known = Signature(batch_invariant=bundle.row_difference(signature).largest == 0)
    known.MergeFrom(signature)
    return known


def _provenance(files: Iterable[SourceFile]) -> dict[str, str]:
    sources = [*files]
    digests = {f"{each.signature}_{of}_sha256": digest for each in sources for of, digest in each.sha256.items()}
    producers = {f"{each.model.producer_name} {each.model.producer_version}".strip() for each in sources}
    return digests | {"producer": ", ".join(sorted(producers - {""})), "onnxruntime": runtime_version()}


FORM_CHECKS = (STRUCTURE, ONNX_CHECKER)
CHECKS: Sequence[Check[_Imported]] = (RANGES, TILES, BATCH_INVARIANCE)
