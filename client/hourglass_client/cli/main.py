"""`hourglass COMMAND …`: exit code 0 for success, 1 if the server failed, 2 for wrong usage, 10 for anomalies."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from hourglass_client.channels import Tls
from hourglass_client.cli import commands
from hourglass_client.cli.detection import ANOMALOUS, detect
from hourglass_client.cli.inputs import UsageError, noise_level, shift, sigma
from hourglass_client.cli.load_test import bench
from hourglass_client.cli.results import OutputFiles, Result
from hourglass_client.client import Client
from hourglass_client.errors import (
    FailedPreconditionError,
    HourglassError,
    InvalidArgumentError,
    NotFoundError,
    UnimplementedError,
)

Command: TypeAlias = Callable[[Client, argparse.Namespace], Result]
_AddParser: TypeAlias = Callable[..., argparse.ArgumentParser]

_USAGE_ERRORS = (InvalidArgumentError, NotFoundError, FailedPreconditionError, UnimplementedError)
# As a shell reports SIGINT and SIGPIPE.
_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command."""
    given = _parser().parse_args(arguments)
    try:
        result = _run(given)
        _print(f"{result.as_json() if given.json else result.as_text()}\n")
    except (UsageError, *_USAGE_ERRORS) as error:
        return _fail(error, 2)
    except UnicodeEncodeError as error:
        return _fail(f"expected names of models and attributes in UTF-8, got {error.object!r}", 2)
    except BrokenPipeError:
        # The reader, such as `head`, has ended; Python would complain when it flushes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (HourglassError, OSError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _INTERRUPTED
    return result.exit_code


def _print(text: str) -> None:
    """Print; what the terminal cannot show, such as a file name that is not UTF-8, as escapes."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _run(given: argparse.Namespace) -> Result:
    run: Command = given.run
    with OutputFiles() as given.files:
        with Client(given.address, timeout_seconds=given.timeout, tls=_tls(given), token=_token(given)) as client:
            result = run(client, given)
        return replace(result, files=given.files.place())


def _fail(error: object, code: int) -> int:
    sys.stderr.write(f"hourglass: {error}\n")
    return code


def _tls(given: argparse.Namespace) -> Tls | None:
    if given.ca is not None:
        return Tls(root_certificates=_read(given.ca))
    return Tls() if given.tls else None


def _token(given: argparse.Namespace) -> str | None:
    """The token of the file, which may begin with a byte order mark and end with line ends of any kind."""
    if given.token_file is None:
        return None
    try:
        return _read(given.token_file).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"{given.token_file}: expected UTF-8 text, got other bytes: save it as UTF-8") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("hourglass", description="Calls an autoencoder server.")
    every = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser
    _add(every, "models", commands.models, "list loaded models")
    encode = _add(every, "encode", commands.encode, "images to latent vectors", images="+")
    encode.add_argument("--sample", action="store_true", help="draw from the posterior instead of taking its mean")
    encode.add_argument("--seed", type=int, help="seed of the draw")
    encode.add_argument("--out", type=Path, metavar="FILE.npy", help="write the latents, (N, D) or (N, h, w, c)")
    decode = _add(every, "decode", commands.decode, "latent vectors to images")
    decode.add_argument("latents", type=Path, help=".npy (N, D) or (N, h, w, c), or .csv (N, D)")
    _add_size(decode, "crop the images to this {}: latents are those of the padded image")
    _add_folder(decode)
    rebuild = _add(every, "reconstruct", commands.reconstruct, "images through the bottleneck and back", images="+")
    _add_folder(rebuild, required=False)
    clean = _add(every, "denoise", commands.denoise, "noisy images to clean ones", images="+")
    levels = clean.add_mutually_exclusive_group()
    text = "standard deviation of the noise in pixel values of 0 to 1, as 0.1 or 25/255; for models that take one"
    levels.add_argument("--noise-level", type=noise_level, metavar="LEVEL", help=text)
    text = "the same on the scale of 0 to 255, such as 25"
    levels.add_argument("--sigma", type=sigma, dest="noise_level", metavar="LEVEL", help=text)
    text = "also write NAME-compare.png, the image before and after, side by side"
    clean.add_argument("--compare", action="store_true", help=text)
    _add_folder(clean)
    _add_drawing(every)
    edit = _add(every, "edit", commands.edit, "images or latent vectors moved along attributes", images="*")
    edit.add_argument("--latents", type=Path, metavar="FILE", help="instead of images: .npy or .csv")
    edit.add_argument(
        "--shift", type=shift, action="append", required=True, metavar="NAME=SD", help="in standard deviations"
    )
    _add_folder(edit)
    _add(every, "classify", commands.classify, "classes of images", images="+")
    _add_detect(every)
    score = _add(every, "score", commands.score, "log-likelihoods of images in nats, as lower bounds", images="+")
    score.add_argument(
        "--samples", type=_positive, default=0, help="importance samples an image (64): more are tighter"
    )
    score.add_argument("--seed", type=int, help="seed of the samples: the same seed gives the same bounds")
    _add_bench(every)
    return parser


def _add_drawing(every: _AddParser) -> None:
    sample = _add(every, "sample", commands.sample, "new images")
    sample.add_argument("--count", type=int, default=16, help="number of images (16)")
    sample.add_argument("--seed", type=int, help="the same seed gives the same images")
    sample.add_argument("--temperature", type=float, help="factor on the standard deviation (1)")
    _add_size(sample, "{} of the images, for models of any size")
    _add_folder(sample)
    path = _add(every, "interpolate", commands.interpolate, "images along the path from one to another")
    path.add_argument("start", type=Path, metavar="FROM", help="image file, or .npy or .csv of its latents")
    path.add_argument("stop", type=Path, metavar="TO", help="like FROM")
    path.add_argument("--steps", type=int, default=10, help="number of images, both ends included (10)")
    _add_resize(path)
    path.add_argument("--spherical", action="store_true", help="along a great circle instead of a straight line")
    _add_folder(path)


def _add_detect(every: _AddParser) -> None:
    found = _add(every, "detect", detect, "anomalous images and their regions", images="+")
    found.epilog = f"Exit code: 0 all are normal, {ANOMALOUS} some are anomalous, 1 the server failed, 2 wrong usage."
    chosen = found.add_mutually_exclusive_group()
    text = "images whose score is above it are anomalous; by default the one calibrated for the model's default rate"
    chosen.add_argument("--threshold", type=_number, metavar="SCORE", help=text)
    text = "share of normal images that may be taken for anomalous, such as 0.01: thresholds calibrated for it"
    chosen.add_argument("--false-alarm-rate", type=_rate, metavar="RATE", help=text)
    text = "pixels whose map is above it belong to regions; by default calibrated like the threshold"
    found.add_argument("--map-threshold", type=_number, metavar="VALUE", help=text)
    text = "folder for PNG files: each image with its heat map and a box around each region"
    found.add_argument("--out", type=Path, metavar="DIR", help=text)


def _add_bench(every: _AddParser) -> None:
    load = _add(every, "bench", bench, "quick load test with percentiles; bound by its Python callers, not the server")
    methods = ("encode", "decode", "reconstruct", "denoise", "sample", "classify", "detect", "score")
    load.add_argument("--method", choices=methods, default="encode", help="(encode)")
    load.add_argument("--callers", type=_positive, default=8, help="concurrent callers (8)")
    load.add_argument("--rows", type=_positive, default=1, help="images or latents per request (1)")
    load.add_argument("--seconds", type=_seconds, default=5.0, help="duration of the test (5)")


def _add(
    every: _AddParser,
    name: str,
    run: Command,
    text: str,
    *,
    images: Literal["", "+", "*"] = "",
) -> argparse.ArgumentParser:
    parser = every(name, help=text, description=text.capitalize() + ".")
    parser.set_defaults(run=run)
    server = os.environ.get("HOURGLASS_ADDRESS", "127.0.0.1:8001")
    shown = f"server, or several by commas ({server.replace('%', '%%')}; HOURGLASS_ADDRESS)"
    parser.add_argument("--address", default=server, metavar="HOST:PORT", help=shown)
    parser.add_argument("--model", default="", help="model; optional when only one is loaded")
    parser.add_argument("--version", default="", help="number or label; by default the newest that works")
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")
    parser.add_argument("--timeout", type=_seconds, default=30.0, metavar="SECONDS", help="per request (30)")
    parser.add_argument("--tls", action="store_true", help="TLS with the system's certificates")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="TLS with these certificates (PEM)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file that holds a bearer token")
    if images:
        text = "image files, folders of them with their subfolders, .npy arrays"
        parser.add_argument("images", type=Path, nargs=images, help=text)
        _add_resize(parser)
    return parser


def _add_folder(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--out", type=Path, required=required, metavar="DIR", help="folder for the PNG files")
    text = "PNG files of 8 or 16 bits; by default 16 for input of 16 bits, if the model keeps them, else 8"
    parser.add_argument("--format", choices=("png", "png16"), help=text)


def _add_size(parser: argparse.ArgumentParser, text: str) -> None:
    for axis in ("height", "width"):
        parser.add_argument(f"--{axis}", type=_positive, metavar="PIXELS", help=text.format(axis))


def _add_resize(parser: argparse.ArgumentParser) -> None:
    text = (
        "scale images of another size to the model's, whatever their aspect ratio; images written have that size, and "
        "the files read stay as they are"
    )
    parser.add_argument("--resize", action="store_true", help=text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return number


def _rate(text: str) -> float:
    number = _number(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a rate between 0 and 1, such as 0.01, got {text!r}")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text!r}")
    return number
