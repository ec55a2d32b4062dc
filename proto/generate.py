"""Generates the Python stubs next to their .proto files; `--check` compares instead."""

import argparse
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
# google/ is vendored for other languages; its Python stubs come from PyPI.
PACKAGES = ("autoencoder", "inference", "xds")
PROTOS = sorted(path for package in PACKAGES for path in ROOT.glob(f"{package}/**/*.proto"))


def generate(out: Path) -> None:
    """Write messages, services and their types under `out`."""
    plugin = Path(sys.executable).with_name("protoc-gen-mypy_grpc")
    arguments = [
        "protoc",
        f"--proto_path={ROOT}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        f"--plugin=protoc-gen-mypy_grpc={plugin}",
        f"--mypy_grpc_out={out}",
        *(str(path) for path in PROTOS),
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc failed; see its message above")
    for path in PROTOS:
        if "service " not in path.read_text():
            for stub in out.glob(f"{path.relative_to(ROOT).with_suffix('')}_pb2_grpc.py*"):
                stub.unlink()


def differing(fresh: Path) -> list[str]:
    """Names of committed stubs that differ from those under `fresh`, and of missing or surplus ones."""

    def stubs(root: Path) -> dict[str, bytes]:
        paths = (path for package in PACKAGES for path in root.glob(f"{package}/**/*_pb2*.py*"))
        return {str(path.relative_to(root)): path.read_bytes() for path in paths if path.suffix in {".py", ".pyi"}}

    committed, generated = stubs(ROOT), stubs(fresh)
    return sorted(name for name in committed | generated if committed.get(name) != generated.get(name))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the committed stubs differ, write nothing")
    if not parser.parse_args().check:
        generate(ROOT)
        return
    with tempfile.TemporaryDirectory() as fresh:
        generate(Path(fresh))
        if names := differing(Path(fresh)):
            sys.exit(f"stubs differ from the .proto files, run `make proto`: {', '.join(names)}")


if __name__ == "__main__":
    main()
