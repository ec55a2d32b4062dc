"""What is recorded of graphs made elsewhere by running them: golden vectors and statistics of latents."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from autoencoder.v1.model_pb2 import Detection, Signature
from autoencoder.v1.shapes import DTYPES, Size
from numpy.typing import NDArray

from bundle import latents, replay
from bundle.detection import Score, calibrate
from bundle.golden import ROWS, SEED, TEMPERATURE, Array, Case, Golden, SampleCase
from bundle.images.element_types import Images
from bundle.latents import LatentStatistics
from export.gate.checks import crash_refused
from export.gate.images import fed, golden_noise, golden_sizes, pixels, resized
from export.gate.parity import outputs
from export.gate.sandbox import Sandbox
from export.graphs.tensor_specs import Facts, signature
from export.publication.calibration import held_out_scores
from training.errors import UnavailableError

_ROWS_AT_ONCE = 32
# Statistics of fewer images would say nothing.
_LEAST_FITTED = 100


class Recorder:
    """Adapted graphs of one model, their runtime, and reference images (N, H, W, C) with their classes, or none."""

    def __init__(
        self,
        graphs: Mapping[str, bytes],
        about: Facts,
        sandbox: Sandbox,
        images: Array | None,
        classes: Sequence[str] = (),
    ) -> None:
        self._graphs = graphs
        self._about = about
        self._sandbox = sandbox
        self._images = images
        self._classes = classes

    def golden(self, statistics: LatentStatistics | None) -> Golden:
        """Golden vectors from the runtime's own outputs: there is no network to compute them."""
        cases: dict[str, tuple[Case, ...]] = {}
        for name in sorted(self._graphs):
            inputs = list(self._inputs(signature(name, self._about)))
            answers = self._run(name, inputs)
            cases[name] = tuple(Case(given, answer) for given, answer in zip(inputs, answers, strict=True))
        return Golden(cases, self._sample(statistics))

    def statistics(self, say: Callable[[str], None]) -> LatentStatistics | None:
        """Of the latents of the reference images, where there are enough."""
        if self._images is None or "encode" not in self._graphs:
            return None
        if (count := len(self._images)) < _LEAST_FITTED:
            say(f"no statistics of latents, so drift is not measured: they take {_LEAST_FITTED} images, got {count}")
            return None
        given = fed(self._images, signature("encode", self._about))
        codes = self._rows("encode", given, "latents")
        errors = np.zeros(len(given))
        if "reconstruct" in self._graphs:
            errors = np.square(self._rows("reconstruct", given, "reconstructions") - pixels(given))
            errors = errors.mean((1, 2, 3), np.float64)
        try:
            # scikit-learn takes a second to load.
            from training.evaluation.latent_statistics import fit_references  # noqa: PLC0415

            size, variational = self._about.shapes.numbers, self._about.variational
            return fit_references(codes, errors, size, self._classes, variational=variational)
        except UnavailableError as error:
            say(f"no statistics of latents, so drift is not measured: {error}")
            return None

    def detection(self, images: Sequence[Images], score: Score) -> Detection:
        """Thresholds of a detector, from what it gives for whole images.

        Raises:
            InputError: too few images, or of several sizes.
            GateError: the runtime fails in the graph.
        """
        spec = signature("detect", self._about)

        def detect(rows: Images) -> NDArray[np.float32]:
            return self._rows("detect", fed(rows, spec), "maps")

        return calibrate(held_out_scores(images, self._about.shapes, score, detect), score)

    def picture(self, name: str, size: Size) -> Sequence[Array]:
        """The input of a graph for an image of a size in pixels: a reference image, its latents, or noise."""
        spec = signature(name, self._about)
        if spec.inputs[0].name == "latents":
            cells = size[0] // self._about.downsampling, size[1] // self._about.downsampling
            return [replay.noise(spec, cells)]
        return [replay.noise(spec, size) if self._images is None else fed(resized(self._images[:1], size), spec)]

    def _inputs(self, spec: Signature) -> Iterator[dict[str, Array]]:
        """Zeros, noise from the project's own generator, and reference images; of free sizes of two sizes."""
        name, shapes = spec.inputs[0].name, self._about.shapes
        first, second = golden_sizes(shapes)
        zeros = np.zeros((ROWS, *shapes.sized(first).spec(name)[1:]), DTYPES[spec.inputs[0].data_type])
        yield {name: zeros}
        yield {name: golden_noise(spec, second, shapes)}
        if self._images is not None and (name != "latents" or "encode" in self._graphs):
            yield {name: self._real(spec, first)}

    def _real(self, spec: Signature, size: Size) -> Array:
        images = np.resize(resized(self._images, size), (ROWS, *size, self._about.image_shape[2]))  # pyright: ignore[reportArgumentType] (checked by the caller)
        if spec.inputs[0].name != "latents":
            return fed(images, spec)
        (answer,) = self._run("encode", [{"images": fed(images, signature("encode", self._about))}])
        return answer["latents"]

    def _sample(self, statistics: LatentStatistics | None) -> SampleCase | None:
        about = self._about
        if "decode" not in self._graphs or (about.shapes.free and not about.has_density(statistics is not None)):
            return None
        shape = about.shapes.sized(golden_sizes(about.shapes)[0]).spec("latents")[1:]
        drawn = latents.draw(about.family, shape, statistics, SEED, 0, ROWS, TEMPERATURE)
        if drawn is None:
            return None
        return SampleCase(SEED, ROWS, TEMPERATURE, drawn, self._run("decode", [{"latents": drawn}])[0]["images"])

    def _rows(self, name: str, given: Array, output: str) -> NDArray[np.float32]:
        parts = [{"images": given[start : start + _ROWS_AT_ONCE]} for start in range(0, len(given), _ROWS_AT_ONCE)]
        return np.concatenate([each[output] for each in self._run(name, parts)])

    def _run(self, name: str, inputs: Iterable[Mapping[str, Array]]) -> list[dict[str, Array]]:
        with crash_refused("numbers", name):
            return self._sandbox.run(outputs, self._graphs[name], [*inputs])
