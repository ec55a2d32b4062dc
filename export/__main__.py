"""Command line of export.

python -m export CHECKPOINT --repository DIR     export a checkpoint as a new version, through the gate
python -m export verify BUNDLE                   check a version again, on any machine
python -m export inspect BUNDLE                  show what is inside a version
python -m export diff BUNDLE BUNDLE              show the differences between two versions
python -m export module PACKAGE.MODULE:BUILD …   export a PyTorch module of your own, through the gate
python -m export import FILE …                   import ONNX files made elsewhere as a new version
python -m export table REPOSITORY                print the table of results: sizes, errors, latencies
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bundle.detection import SCORES
from bundle.graph import MAX_RUN_BYTES
from bundle.runtime_options import DEVICES
from export.errors import ExportError, InputError
from export.graphs import scaling
from export.publication.publish import Place


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 on success, 1 when a check refused, 2 when the input is unusable."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Commands import what they need: torch takes seconds, and most commands do without it.
    command = _COMMANDS.get(given[0]) if given else None
    try:
        code = _export(given) if command is None else command(given[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader closed the pipe, as `head` does; what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("export: interrupted", file=sys.stderr)
        return 130
    except ExportError as error:
        print(f"export: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(f"export: this needs {error.name}: pip install '.[export]' in a checkout", file=sys.stderr)
        return 2
    return code


def _export(given: list[str]) -> int:
    parser = _parser("", (__doc__ or "").split("\n", 1)[1])
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="folder of a checkpoint, or of a run (its best one)",
    )
    _add_place(parser)
    parser.add_argument("--precision", choices=_PRECISIONS, default="float32", help=_PRECISION_HELP)
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where a variant must be faster")
    options = parser.parse_args(given)
    from export import exporter  # noqa: PLC0415
    from export.gate import report  # noqa: PLC0415

    place = Place(options.repository, options.name, options.version, options.sign_key)
    done = exporter.export(options.checkpoint, place, options.precision, options.device)
    print(report.table(done.model, done.result))
    print(f"{done.model.name} version {done.model.version} in {done.folder} after {done.seconds:.1f} s")
    return 0


def _verify(given: list[str]) -> int:
    parser = _parser(
        "verify", "Check a version again: hashes, structure, golden vectors, batch invariance. Needs no torch."
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="<repository>/<name>/<version>")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="device to run the graphs on")
    parser.add_argument("--public-key", type=Path, metavar="PEM", help="also check that this key signed the version")
    _add_memory(parser)
    options = parser.parse_args(given)
    from export import text_table  # noqa: PLC0415
    from export.inspection import verify  # noqa: PLC0415

    found = verify.verify(options.bundle, options.device, options.public_key, options.max_run_bytes)
    rows = [("ok" if each.passed else "FAILED", each.check, each.subject, str(each)) for each in found]
    print("\n".join(text_table.aligned(rows)))
    return 0 if all(each.passed for each in found) else 1


def _inspect(given: list[str]) -> int:
    parser = _parser("inspect", "Print what is inside a version.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="<repository>/<name>/<version>")
    options = parser.parse_args(given)
    from export.inspection import show  # noqa: PLC0415

    print(show.describe(options.bundle))
    return 0


def _diff(given: list[str]) -> int:
    parser = _parser("diff", "Print the differences between two versions: facts, weights, golden outputs.")
    parser.add_argument("first", type=Path, metavar="BUNDLE")
    parser.add_argument("second", type=Path, metavar="BUNDLE")
    options = parser.parse_args(given)
    from export.inspection.diff import Version, differences  # noqa: PLC0415

    found = differences(Version.read(options.first), Version.read(options.second))
    print("\n".join(found or ["no differences except name and version"]))
    return 0


def _table(given: list[str]) -> int:
    parser = _parser("table", "Print a Markdown table of the newest version of every model in a repository.")
    parser.add_argument("repository", type=Path, metavar="REPOSITORY")
    options = parser.parse_args(given)
    from export.inspection import results_table  # noqa: PLC0415

    print(results_table.results(options.repository))
    return 0


def _import(given: list[str]) -> int:
    parser = _parser("import", "Import ONNX files made elsewhere as a version that the server can serve.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="encoder.onnx, decoder.onnx, …, or encode=FILE, …")
    parser.add_argument("--labels", default="", metavar="A,B,…", help="class names of a classifier")
    parser.add_argument("--image-shape", type=scaling.image_shape, metavar="HxWxC", help="where the files do not say")
    scaling.add_scaling(parser)
    parser.add_argument("--clip", action="store_true", help="cut the images that graphs give to 0 … 1")
    parser.add_argument("--reference", type=Path, nargs="+", default=[], metavar="IMAGES", help=_REFERENCE_HELP)
    parser.add_argument("--multiple", type=scaling.positive, default=0, metavar="N", help=_MULTIPLE_HELP)
    parser.add_argument("--minimum", type=scaling.positive, default=0, metavar="N", help=_MINIMUM_HELP)
    parser.add_argument("--detection-score", choices=SCORES, default="max", help=_SCORE_HELP)
    _add_memory(parser)
    _add_place(parser, recipe=False)
    options = parser.parse_args(scaling.joined(given))
    from export.importing import importer  # noqa: PLC0415

    place = Place(options.repository, options.name, options.version, options.sign_key)
    about = importer.Options(
        labels=[label for label in options.labels.split(",") if label],
        images=options.image_shape,
        scaling=scaling.chosen_scaling(options),
        clip=options.clip,
        multiple=options.multiple,
        minimum=options.minimum,
        reference=options.reference,
        detection_score=options.detection_score,
        max_run_bytes=options.max_run_bytes,
    )
    model = importer.import_files(options.files, place, about)
    print(f"{model.name} version {model.version} serves {', '.join(model.methods)}")
    return 0


def _module(given: list[str]) -> int:
    from export.gate import report  # noqa: PLC0415
    from export.modules import command  # noqa: PLC0415

    parser = _parser("module", "Export a PyTorch module of your own as a new version, through the gate.")
    command.add_arguments(parser)
    _add_place(parser, recipe=False)
    options = parser.parse_args(scaling.joined(given))
    place = Place(options.repository, options.name, options.version, options.sign_key)
    done = command.run(options, place)
    print(report.table(done.model, done.result))
    print(f"{done.model.name} version {done.model.version} in {done.folder} after {done.seconds:.1f} s")
    return 0


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"python -m export {command}".rstrip(),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-run-bytes",
        type=int,
        default=MAX_RUN_BYTES,
        metavar="N",
        help="maximum estimated memory of a graph with its largest batch; as the server's setting",
    )


def _add_place(parser: argparse.ArgumentParser, *, recipe: bool = True) -> None:
    parser.add_argument("--repository", type=Path, required=True, metavar="DIR", help="model repository to write to")
    default = "; by default that of the recipe" if recipe else ""
    parser.add_argument("--name", required=not recipe, help=f"name of the model{default}")
    parser.add_argument("--version", type=int, help="version number, from 1; by default the next free one")
    parser.add_argument("--sign-key", type=Path, metavar="PEM", help="sign the version with this elliptic-curve key")


_EXTRA = frozenset({"torch", "onnx", "onnxscript", "safetensors", "sklearn", "PIL"})
_PRECISIONS = ("float32", "float16", "bfloat16", "int8")
_PRECISION_HELP = "of the graphs; a variant in fewer bits is refused unless it keeps the quality and is faster"
_REFERENCE_HELP = (
    "images that a network made elsewhere is tried on, and detect is calibrated on: a folder, files, or a .npz or .npy "
    "file"
)
_SCORE_HELP = "how an image's score comes from a detector's map"
_MULTIPLE_HELP = "of free height and width: pad them to a multiple; by default found by trying"
_MINIMUM_HELP = "of free height and width: the smallest; by default found by trying"
_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "verify": _verify,
    "inspect": _inspect,
    "diff": _diff,
    "import": _import,
    "module": _module,
    "table": _table,
}


if __name__ == "__main__":
    sys.exit(main())
