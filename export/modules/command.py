"""Arguments of `python -m export module`, and what they declare of a module."""

import argparse
import json
import re
from pathlib import Path
from typing import Any, Literal, cast

from export.errors import InputError
from export.exporter import Exported
from export.modules.adapter import METHODS, Scaling
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
    add("--multiple", type=_positive, default=1, metavar="N", help="of free sizes: pad height and width to a multiple")
    add("--minimum", type=_positive, default=1, metavar="N", help="of free sizes: smallest height and width")
    add("--range", type=_range, metavar="LOW:HIGH", help="pixels that the module was trained on; by default 0:1")
    add("--mean", type=_numbers, metavar="M[,M,M]", help="subtracted from pixels in 0 … 1, for each channel")
    add("--std", type=_numbers, metavar="S[,S,S]", help="divides them after that")
    add("--noise-level", type=_noise_level, metavar="MIN:MAX[:DEFAULT]", help=_NOISE_HELP)
    add("--labels", default="", metavar="A,B,…", help="class names of classify")
    add("--reference-precision", choices=("float64", "float32"), default="float64", help=_PRECISION_HELP)


def joined(given: list[str]) -> list[str]:
    """Join options with values that begin with a minus, which argparse takes for another option."""
    words = list(given)
    for place in range(len(words) - 2, -1, -1):
        if words[place] in {"--range", "--mean"} and re.match(r"-[\d.]", words[place + 1]):
            words[place : place + 2] = [f"{words[place]}={words[place + 1]}"]
    return words


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
        scaling=_scaling(options),
        noise_level=options.noise_level,
        labels=tuple(label for label in options.labels.split(",") if label),
        reference_precision=options.reference_precision,
        provenance={"module": options.build, "arguments": json.dumps(options.arguments, sort_keys=True)},
    )
    return export_module(module.eval(), options.reference, place, declared)


def _scaling(options: argparse.Namespace) -> Scaling:
    if options.range is not None:
        if options.mean is not None or options.std is not None:
            raise InputError("expected --range, or --mean and --std, got both")
        return Scaling.of_range(*options.range)
    return Scaling(options.mean or (0.0,), options.std or (1.0,))


def _arguments(text: str) -> dict[str, Any]:
    try:
        found: object = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a JSON object, got {text!r}: {error}") from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'expected a JSON object as in {{"depth": 12}}, got {text!r}')
    return cast("dict[str, Any]", found)


def _image_shape(text: str) -> tuple[int, int, int] | Literal["free"]:
    if text == "free":
        return "free"
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([13])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected free, or HxWxC with 1 or 3 channels as in 28x28x1, got {text!r}")
    height, width, channels = map(int, match.groups())
    return height, width, channels


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(f"expected a number of pixels from 1, got {text!r}")
    return int(text)


def _range(text: str) -> tuple[float, float]:
    ends = _numbers(text.replace(":", ","))
    if len(ends) != 2 or not ends[0] < ends[1]:  # noqa: PLR2004 (both ends)
        raise argparse.ArgumentTypeError(f"expected LOW:HIGH as in -1:1, got {text!r}")
    return ends[0], ends[1]


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(each) for each in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(abs(each) < float("inf") for each in found):
        raise argparse.ArgumentTypeError(f"expected numbers as in 0.5 or 0.485,0.456,0.406, got {text!r}")
    return found


def _noise_level(text: str) -> tuple[float, float, float]:
    values = _numbers(text.replace(":", ","))
    lowest, highest, default = (*values, 0.0)[:3] if len(values) in {2, 3} else (1.0, 0.0, 0.0)
    if not 0 <= lowest <= highest or not 0 <= default <= highest:
        raise argparse.ArgumentTypeError(f"expected MIN:MAX or MIN:MAX:DEFAULT from 0 as in 0:0.3, got {text!r}")
    return lowest, highest, default


_REFERENCE_HELP = "images that the module is judged on: a folder, files, or a .npz or .npy file"
_NOISE_HELP = (
    "denoise takes standard deviations (N,) too, in pixel values of 0 … 1; without a default callers must give one"
)
_PRECISION_HELP = "what graphs are compared with; float32, the weaker claim, where float64 is not possible"
