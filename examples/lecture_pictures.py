"""The lecture's pictures from a running server alone: no checkpoint, no data set, no torch.

    python -m examples.lecture_pictures --address 127.0.0.1:8001 --out pictures

Draws what the loaded models allow: latent vectors as a scatter, the decoded plane, denoising, interpolation and a sweep
along each attribute (`python -m training attributes` fits them), or along the leading axes of models without any. The
server also provides the images, by Sample, unless `--images FILE.npy` does (uint8 (N, H, W, C) or (N, H, W));
`--labels FILE.npy` (N,) colours the scatter, otherwise a model with Classify does.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import matplotlib as mpl
import numpy as np
from autoencoder.v1.model_pb2 import Model
from hourglass_client import Client, HourglassError
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from examples.lecture_drawing import FAINT, INK, heading, mosaic, show, strip
from examples.lecture_numbers import dissimilar_pairs, principal, project, psnr

POINTS = 2000
BATCH = 500
COLUMNS = 10
PLANE = 20
NOISE = 0.5
SWEEP = 3.0
AXES = 5
SEED = 7


class PictureError(Exception):
    """The requested pictures cannot be drawn."""


@dataclass(frozen=True)
class Scene:
    """A server's models of one image shape, and images for them."""

    client: Client
    models: list[Model]
    images: NDArray[np.uint8]
    """(N, H, W, C)."""
    labels: NDArray[np.int64] | None

    def first(self, method: str) -> Model | None:
        """A model that serves a method, preferably with two latents."""
        return next((model for model in self.models if method in model.methods), None)

    def richest(self, method: str) -> Model | None:
        """The model with the most latents that serves a method, preferably with a prior."""
        able = [model for model in self.models if method in model.methods]
        return max(able, key=lambda model: (model.family != "ae", model.latent_size), default=None)


# %% Models and images


def survey(client: Client, images: Path | None, labels: Path | None) -> Scene:
    """Choose models of one image shape, and images of that shape."""
    models = sorted(client.list_models(), key=lambda model: model.latent_size != 2)  # noqa: PLR2004 (a plane)
    drawn = _load(images) if images else _sample(client, models)
    fitting = [model for model in models if (model.height, model.width, model.channels) == drawn.shape[1:]]
    if not fitting:
        raise PictureError(f"no model takes images of shape {drawn.shape[1:]}")
    scene = Scene(client, fitting, drawn, None)
    known = np.load(labels, allow_pickle=False)[:POINTS] if labels else _classes(scene)
    return Scene(client, fitting, drawn, known)


def _load(path: Path) -> NDArray[np.uint8]:
    images = np.load(path, allow_pickle=False)[:POINTS]
    return images if images.ndim == 4 else images[..., np.newaxis]  # noqa: PLR2004 (N, H, W, C)


def _sample(client: Client, models: list[Model]) -> NDArray[np.uint8]:
    """Samples of the most suitable model."""
    shapes = Counter((model.height, model.width, model.channels) for model in models)
    able = [model for model in models if "Sample" in model.methods]
    if not able:
        raise PictureError("no loaded model can sample: give --images")

    def suits(model: Model) -> tuple[int, bool, int]:
        return shapes[model.height, model.width, model.channels], model.family != "ae", model.latent_size

    model = max(able, key=suits)
    parts = [client.sample(BATCH, model=model.name, seed=SEED, first_index=first) for first in range(0, POINTS, BATCH)]
    return np.concatenate([part.images for part in parts])


def _classes(scene: Scene) -> NDArray[np.int64] | None:
    model = scene.first("Classify")
    if model is None:
        return None
    parts = [scene.client.classify(part, model=model.name).probabilities for part in batches(scene.images)]
    return np.concatenate(parts).argmax(axis=1)


def batches(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Batches of a size that fits in one request."""
    for first in range(0, len(images), BATCH):
        yield images[first : first + BATCH]


# %% Latent space: encoded images, and the decoded plane between them


def scatter(scene: Scene) -> Figure | None:
    """Latent vectors in two dimensions, coloured by class."""
    model = scene.first("Encode")
    if model is None:
        return None
    flat, axes_are = project(encode(scene, model))
    figure = Figure(figsize=(7.2, 6.4), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    colours = mpl.colormaps["tab10"]
    kinds = [None] if scene.labels is None else [int(label) for label in np.unique(scene.labels)]
    for kind in kinds:
        chosen = slice(None) if kind is None or scene.labels is None else scene.labels == kind
        colour = INK if kind is None else colours(kind % 10)
        axes.scatter(*flat[chosen].T, s=9, color=colour, alpha=0.75, linewidths=0, label=str(kind))
    if len(kinds) > 1:
        axes.legend(frameon=False, markerscale=2.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title(f"{model.name}: where {len(flat)} images lie", loc="left", color=INK, fontsize=13)
    axes.set_xlabel(f"{axes_are} 1", color=FAINT)
    axes.set_ylabel(f"{axes_are} 2", color=FAINT)
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=FAINT)
    return figure


def plane(scene: Scene) -> Figure | None:
    """A grid of points of the latent plane, decoded: Kingma and Welling 2014, figure 4."""
    model = scene.first("Decode")
    if model is None:
        return None
    latents = encode(scene, model)
    if model.latent_size == 2 and model.family != "ae":  # noqa: PLR2004 (a plane)
        steps = np.array([NormalDist().inv_cdf(share) for share in np.linspace(0.02, 0.98, PLANE)])
        across, down, subtitle = steps, steps, "quantiles of the normal prior"
        axes, middle = np.eye(2), np.zeros(2)
    else:
        axes, middle = principal(latents)
        flat = (latents - middle) @ axes.T
        across, down = (np.linspace(*np.percentile(flat[:, axis], (2, 98)), PLANE) for axis in range(2))
        subtitle = "the plane of the two leading axes"
    grid = np.array([(x, y) for y in down[::-1] for x in across]) @ axes + middle
    images = scene.client.decode(grid.astype(np.float32), model=model.name, image_format="float32").images
    figure = Figure(figsize=(7.2, 7.6), facecolor="white")
    picture = figure.add_axes((0.02, 0.02, 0.96, 0.9), xticks=[], yticks=[])
    show(picture, mosaic(images.reshape(PLANE, PLANE, *images.shape[1:])))
    heading(figure, f"{model.name}: the plane, decoded", subtitle)
    return figure


def encode(scene: Scene, model: Model) -> NDArray[np.float32]:
    """(N, D) of all images."""
    return np.concatenate([scene.client.encode(part, model=model.name).latents for part in batches(scene.images)])


# %% Rows of images: denoising, interpolation, attributes


def denoising(scene: Scene) -> Figure | None:
    """Clean, noisy, denoised."""
    model = scene.first("Denoise")
    if model is None:
        return None
    clean = scene.images[:COLUMNS].astype(np.float32) / 255
    noisy = np.clip(clean + np.random.default_rng(SEED).normal(0, NOISE, clean.shape), 0, 1).astype(np.float32)
    denoised = scene.client.denoise(noisy, model=model.name, image_format="float32").images
    rows = {"clean": clean, f"noise {NOISE:g}": noisy, "denoised": denoised}
    notes = ["", *(f"{psnr(clean, images):.1f} dB" for images in (noisy, denoised))]
    return strip(f"{model.name}: noise in, digits out", rows, notes)


def interpolation(scene: Scene) -> Figure | None:
    """Interpolations between pairs of images."""
    model = scene.richest("Interpolate")
    if model is None:
        return None
    form = "linear" if model.family == "ae" else "spherical"
    rows = {}
    for pair, (start, stop) in enumerate(dissimilar_pairs(scene.images[:50], 5)):
        answer = scene.client.interpolate(
            from_images=start[np.newaxis],
            to_images=stop[np.newaxis],
            steps=COLUMNS,
            model=model.name,
            interpolation=form,
            image_format="float32",
        )
        rows[f"pair {pair + 1}"] = answer.images
    return strip(f"{model.name}: from one image to another, {form}", rows)


def attributes(scene: Scene) -> Figure | None:
    """One image moved along each attribute, or along the leading axes if none were fitted."""
    model = scene.richest("Edit")
    if model is None:
        return leading_axes(scene)
    amounts = np.linspace(-SWEEP, SWEEP, COLUMNS - 1)
    rows = {}
    for name in model.attributes[:12]:
        answers = [
            scene.client.edit(
                {name: float(amount)}, images=scene.images[:1], model=model.name, image_format="float32"
            ).images
            for amount in amounts
        ]
        rows[name] = np.concatenate(answers)
    return strip(f"{model.name}: attributes from minus to plus {SWEEP:g} standard deviations", rows)


def leading_axes(scene: Scene) -> Figure | None:
    """One image moved along the axes on which images differ most, for models without attributes."""
    model = scene.richest("Decode")
    if model is None:
        return None
    latents = encode(scene, model)
    axes, middle = principal(latents, AXES)
    spreads = ((latents - middle) @ axes.T).std(axis=0)
    rows = {}
    for number, (axis, spread) in enumerate(zip(axes, spreads, strict=True), 1):
        points = latents[0] + np.linspace(-SWEEP, SWEEP, COLUMNS - 1)[:, np.newaxis] * spread * axis
        answer = scene.client.decode(points.astype(np.float32), model=model.name, image_format="float32")
        rows[f"axis {number}"] = answer.images
    return strip(f"{model.name}: leading axes from minus to plus {SWEEP:g} standard deviations", rows)


# %% All pictures

PICTURES: tuple[Callable[[Scene], Figure | None], ...] = (scatter, plane, denoising, interpolation, attributes)


def draw(scene: Scene, out: Path) -> list[Path]:
    """Write every picture that the models allow."""
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for picture in PICTURES:
        figure = picture(scene)
        if figure is None:
            print(f"{picture.__name__}: skipped, no loaded model can do it")
            continue
        written.append(out / f"{picture.__name__}.png")
        FigureCanvasAgg(figure).print_png(str(written[-1]), metadata={"Software": None})
        print(written[-1])
    return written


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 on success, 1 if the server failed, 2 if nothing can be drawn."""
    parser = argparse.ArgumentParser("python -m examples.lecture_pictures", description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1:8001", metavar="HOST:PORT", help="server (127.0.0.1:8001)")
    parser.add_argument("--out", type=Path, default=Path("pictures"), metavar="DIR", help="folder (pictures)")
    parser.add_argument("--images", type=Path, metavar="FILE.npy", help="images instead of samples")
    parser.add_argument("--labels", type=Path, metavar="FILE.npy", help="classes of the images")
    given = parser.parse_args(arguments)
    try:
        with Client(given.address) as client:
            draw(survey(client, given.images, given.labels), given.out)
    except (PictureError, OSError, ValueError) as error:
        print(f"lecture_pictures: {error}", file=sys.stderr)
        return 2
    except HourglassError as error:
        print(f"lecture_pictures: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
