"""Layout of the image: the server, the bundle format, the stubs, and the list of packages that they need.

    python deploy/image.py FOLDER cpu|gpu

Nothing else of the repository is copied into the image. Uses only the standard library, because it runs in the build.
"""

import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("server", "bundle", "proto/autoencoder", "proto/inference", "proto/xds")
EXTRAS = ("server", "signatures", "rest", "tracing")


def lay_out(folder: Path, runtime: str) -> None:
    """Write FOLDER/app, for PYTHONPATH, and FOLDER/requirements.txt."""
    app = folder / "app"
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.proto", "*.pyi")
        shutil.copytree(ROOT / package, app / Path(package).name, ignore=ignored)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (folder / "requirements.txt").write_text("\n".join(requirements(project, runtime)) + "\n")
    metadata = app / f"{project['name']}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )


def requirements(project: dict, runtime: str) -> list[str]:
    """Packages of the server with all of its extras, for the CPU or the CUDA runtime."""
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in (*EXTRAS, runtime) for line in optional[extra])]


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2] not in {"cpu", "gpu"}:  # noqa: PLR2004 (two arguments)
        sys.exit("expected FOLDER and cpu or gpu")
    lay_out(Path(sys.argv[1]), sys.argv[2])
