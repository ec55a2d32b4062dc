"""Calls of a command to the server: one for each batch of images, with a progress bar and errors that name the file."""

import re
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hourglass_client.answers import ServingInfo
from hourglass_client.cli.inputs import BATCH_ITEMS, ImageBatch, ModelOf, UsageError, image_batches
from hourglass_client.cli.overlays import check_drawable
from hourglass_client.cli.pictures import keeps_sixteen_bits, note_resized, shows_bar, written_as
from hourglass_client.cli.results import check_new
from hourglass_client.client import Client
from hourglass_client.errors import InvalidArgumentError
from hourglass_client.images import ImageFormat
from hourglass_client.pipelines import Bar, progress_bar

Answer = TypeVar("Answer")
# Commands that ask for images, those that write a file for each image, and those that send large images in bands.
_FORMATTED = {"reconstruct", "denoise", "edit"}
_DRAWING = _FORMATTED | {"detect"}
# Of all images of a request together; as many as the server takes where none are asked for.
_SAMPLES_AT_ONCE = 65_536
_DEFAULT_SAMPLES = 64
_IN_BANDS = {"encode", "reconstruct", "denoise", "detect"}


def answers_to(
    client: Client, call: Callable[..., Answer], arguments: Namespace, **more: object
) -> Iterator[tuple[ImageBatch, Answer]]:
    """Answers to the images of the command line.

    Raises:
        UsageError: a file that cannot be read, that the server refuses, or whose output exists already.
    """
    model_of = cache(partial(client.get_model, **model_named(arguments)))
    every = _batches(arguments, model_of)
    if arguments.command in _IN_BANDS:
        more["progress"] = len(every) == 1 and shows_bar()
    with _bar(every) as bar:
        for batch in every:
            if arguments.command in _FORMATTED:
                more["image_format"] = _format(arguments, batch, model_of)
            try:
                yield batch, call(images=batch.images, **target(arguments), **more)
            except InvalidArgumentError as error:
                raise _naming_file(error, batch) from error
            bar.update(len(batch.names))
    if arguments.resize:
        note_resized([path for batch in every if batch.array is None for path in batch.images], model_of())


def model_named(arguments: Namespace) -> dict[str, Any]:
    """Which model to call."""
    return {"model": arguments.model, "version": arguments.version}


def target(arguments: Namespace) -> dict[str, Any]:
    """Which model to call, and how images of other sizes become those that it takes."""
    return {**model_named(arguments), "resize": arguments.resize}


def facts_of(info: ServingInfo) -> dict[str, object]:
    """What answered."""
    return {"model": info.model_name, "version": info.model_version}


def output_paths(arguments: Namespace, name: str) -> list[Path]:
    """The files to write for an image: the answer, and with --compare both images side by side."""
    endings = [".png", "-compare.png"] if getattr(arguments, "compare", False) else [".png"]
    return [arguments.out / f"{name}{ending}" for ending in endings]


def _bar(every: Sequence[ImageBatch]) -> AbstractContextManager[Bar]:
    """Of images; a single request has one of its own, of bands."""
    images = sum(len(batch.names) for batch in every)
    return progress_bar(progress=len(every) > 1 and shows_bar(), total=images, unit="image")


def _batches(arguments: Namespace, model_of: ModelOf) -> Sequence[ImageBatch]:
    """Images of the command line; no output file may exist before the first request."""
    every = list(image_batches(arguments.images, model_of, _images_at_once(arguments)))
    if arguments.command in _DRAWING and arguments.out:
        check_new([path for batch in every for name in batch.names for path in output_paths(arguments, name)])
        if arguments.command == "detect" or getattr(arguments, "compare", False):
            check_drawable(every)
    return every


def _images_at_once(arguments: Namespace) -> int:
    """Most images of a request: with many samples of each only few, so that it is answered in seconds."""
    if arguments.command != "score":
        return BATCH_ITEMS
    return max(1, min(BATCH_ITEMS, _SAMPLES_AT_ONCE // (arguments.samples or _DEFAULT_SAMPLES)))


def _format(arguments: Namespace, batch: ImageBatch, model_of: ModelOf) -> ImageFormat:
    if not arguments.out:
        return "none"
    return arguments.format or written_as(batch.images, keeps=keeps_sixteen_bits(model_of(), arguments.command))


def _naming_file(error: InvalidArgumentError, batch: ImageBatch) -> Exception:
    """The same error with the name of the file at fault; the server knows only its index."""
    for violation in error.violations:
        number = re.search(r"files\[(\d+)\]", violation.field)
        if number and not isinstance(batch.images, np.ndarray):
            return UsageError(f"{batch.images[int(number[1])]}: {violation.description}")
    return UsageError(f"{batch.array or batch.images[0]}: {error.message}") if len(batch.images) == 1 else error
