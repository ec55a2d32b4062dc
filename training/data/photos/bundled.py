"""Colour photographs that come with scikit-image and scikit-learn, for a first model without any files."""

from importlib.util import find_spec
from pathlib import Path

from training.config import Data
from training.data import image_files
from training.data.split import Source, Split, ragged
from training.errors import DataError

# Whole photographs are held out; what is in their packages beside these is no photograph of a scene, or grey.
_SPLITS = {
    "train": ("astronaut.png", "coffee.png", "motorcycle_left.png", "china.jpg"),
    "validation": ("rocket.jpg",),
    "test": ("chelsea.png", "flower.jpg"),
}
_FOLDERS = (("skimage", "data"), ("sklearn", "datasets/images"))


def read_bundled(data: Data) -> Source:
    """Four photographs for training, one for validation, two for test.

    Raises:
        DataError: scikit-image is not installed, or came without them.
    """
    splits = {role: _read([_find(name) for name in names], data) for role, names in _SPLITS.items()}
    return Source(splits["train"], splits["validation"], splits["test"])


def _read(paths: list[Path], data: Data) -> Split:
    images, conversions = image_files.read_all(paths, data)
    return Split(ragged(images), None, conversions=conversions)


def _find(name: str) -> Path:
    for package, folder in _FOLDERS:
        # Importing scikit-image would take longer than reading them.
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(place) / folder / name
            if path.is_file():
                return path
    raise DataError(f"--data photographs needs {name} of scikit-image: pip install 'scikit-image>=0.24'")
