"""Arguments of `python -m export module`, and what they declare of a module."""

import argparse
import json
from pathlib import Path
from typing import Any, Literal, cast

from bundle.detection import SCORES
from export.exporter import Exported
from export.graphs.scaling import add_scaling, chosen_scaling, image_shape, numbers, positive
from export.modules.adapter import METHODS
from export.modules.export_module import Declaration, export_module
from export.modules.source import build_module
from export.modules.weights import load_weights
from export.publication.publish import Place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says of a module what its code does not."""
    add = parser.add_argument
    add("build", metavar="PACKAGE.MODULE:BUILD", help="class or function that returns the torch.nn.Module")
    add("--weights", type=Path, required=True, metavar="FILE", help=".safetensors, .pt, .pth or .npz, tensors by name")
    add("--reference", type=Path, required=True, nargs="+", metavar="IMAGES", help=_REFERENCE_HELP)
    add("--arguments", type=_arguments, default={}, metavar="JSON", help="arguments of BUILD, as a JSON object")
    add("--as", dest="forward_is", choices=METHODS, help="the method that the module's forward is")
    add("--image-shape", type=_image_shape, metavar="HxWxC|free", help="by default that of the reference images")
    add("--multiple", type=positive, default=1, metavar="N", help="of free sizes: pad height and width to a multiple")
    add("--minimum", type=positive, default=1, metavar="N", help="of free sizes: smallest height and width")
    add_scaling(parser)
    add("--noise-level", type=_noise_level, metavar="MIN:MAX[:DEFAULT]", help=_NOISE_HELP)
    add("--labels", default="", metavar="A,B,…", help="class names of classify")
    add("--detection-score", choices=SCORES, help="how an image's score comes from its map; by default max")
    add("--reference-precision", choices=("float64", "float32"), default="float64", help=_PRECISION_HELP)


def run(options: argparse.Namespace, place: Place) -> Exported:
    """Build the module, load its weights, export it.

    Raises:
        InputError: an input is unusable.
        GateError: a check refused.
        ExportError: the repository could not be written.
    """
    place.check()
    module = build_module(options.build, options.arguments)
    load_weights(module, options.weights)
    declared = Declaration(
        forward_is=options.forward_is,
        image_shape=options.image_shape,
        multiple=options.multiple,
        minimum=options.minimum,
        scaling=chosen_scaling(options),
        noise_level=options.noise_level,
        labels=tuple(label for label in options.labels.split(",") if label),
        detection_score=options.detection_score,
        reference_precision=options.reference_precision,
        provenance={"module": options.build, "arguments": json.dumps(options.arguments, sort_keys=True)},
    )
    return export_module(module.eval(), options.reference, place, declared)


def _arguments(text: str) -> dict[str, Any]:
    try:
        found: object = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a JSON object, got {text!r}: {error}") from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'expected a JSON object as in {{"depth": 12}}, got {text!r}')
    return cast("dict[str, Any]", found)


def _image_shape(text: str) -> tuple[int, int, int] | Literal["free"]:
    return "free" if text == "free" else image_shape(text)


def _noise_level(text: str) -> tuple[float, float, float]:
    values = numbers(text.replace(":", ","))
    lowest, highest, default = (*values, 0.0)[:3] if len(values) in {2, 3} else (1.0, 0.0, 0.0)
    if not 0 <= lowest <= highest or not 0 <= default <= highest:
        raise argparse.ArgumentTypeError(f"expected MIN:MAX or MIN:MAX:DEFAULT from 0 as in 0:0.3, got {text!r}")
    return lowest, highest, default


_REFERENCE_HELP = (
    "images that the module is judged on, and detect is calibrated on: a folder, files, or a .npz or .npy file"
)
_NOISE_HELP = (
    "denoise takes standard deviations (N,) too, in pixel values of 0 … 1; without a default callers must give one"
)
_PRECISION_HELP = "what graphs are compared with; float32, the weaker claim, where float64 is not possible"
