"""Subcommands of the command line: one function each, a client and arguments in, a result out."""

import re
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from hourglass_client import answers
from hourglass_client.answers import ServingInfo
from hourglass_client.cli.inputs import (
    BATCH_ITEMS,
    ImageBatch,
    ModelOf,
    UsageError,
    batches,
    image_batches,
    is_array,
    read_end,
    read_latents,
)
from hourglass_client.cli.pictures import keeps_sixteen_bits, note_resized, shown_shapes, shows_bar, written_as
from hourglass_client.cli.results import Result, check_new, npy
from hourglass_client.client import Client
from hourglass_client.errors import InvalidArgumentError
from hourglass_client.images import ImageFormat

Answer = TypeVar("Answer")
# They are kept in memory until all are there.
_MAX_SAMPLES = 100_000
# Commands that write an image for each image, and those that send large images in bands.
_DRAWING = {"reconstruct", "denoise", "edit"}
_IN_BANDS = {"encode", "reconstruct", "denoise"}


def models(client: Client, arguments: Namespace) -> Result:
    """Every loaded version."""
    del arguments
    loaded = client.list_models()
    if not loaded:
        # An error with the server's reason: it is starting, or its repository is empty.
        with suppress(InvalidArgumentError):
            client.get_model()
        loaded = client.list_models()
    rows = [
        {
            "model": model.name,
            "version": model.version,
            "family": model.family,
            **shown_shapes(model),
            "methods": list(model.methods),
            "attributes": list(model.attributes),
        }
        for model in loaded
    ]
    return Result({"models": len(rows)}, rows)


def encode(client: Client, arguments: Namespace) -> Result:
    """Images to latents."""
    _check_array(arguments.out)
    rows: list[Mapping[str, object]] = []
    found: list[NDArray[Any]] = []
    facts: dict[str, object] = {}
    posterior = "sample" if arguments.sample else "mean"
    for batch, answer in _answers(client, client.encode, arguments, posterior=posterior, seed=arguments.seed):
        facts = _facts(answer.info)
        if answer.seed is not None:
            facts["seed"] = answer.seed
        found.append(answer.latents)
        if arguments.out and answer.latents.shape[1:] != found[0].shape[1:]:
            shapes = f"{found[0].shape[1:]} and, of {batch.names[0]}, {answer.latents.shape[1:]}"
            raise UsageError(f"--out: expected latents of one shape, got {shapes}: encode each size apart")
        rows += [
            {"image": name, "latents": _shown(row, arguments)}
            for name, row in zip(batch.names, answer.latents, strict=True)
        ]
    files = {arguments.out: npy(np.concatenate(found))} if arguments.out else {}
    return Result(facts, rows, files)


def decode(client: Client, arguments: Namespace) -> Result:
    """Latents to images."""
    size = {"height": arguments.height, "width": arguments.width}
    return _drawn(client.decode, arguments, **size, progress=shows_bar())


def reconstruct(client: Client, arguments: Namespace) -> Result:
    """Images through the bottleneck and back."""
    rows: list[Mapping[str, object]] = []
    files: dict[Path, bytes] = {}
    facts: dict[str, object] = {}
    for batch, answer in _answers(client, client.reconstruct, arguments):
        facts = _facts(answer.info)
        errors = answer.squared_errors.tolist()
        rows += [{"image": name, "squared_error": error} for name, error in zip(batch.names, errors, strict=True)]
        if arguments.out:
            files |= _placed(arguments.out, batch.names, answer.files)
    return Result(facts, rows, files)


def denoise(client: Client, arguments: Namespace) -> Result:
    """Noisy images to clean ones."""
    files: dict[Path, bytes] = {}
    facts: dict[str, object] = {}
    for batch, answer in _answers(client, client.denoise, arguments, noise_level=arguments.noise_level):
        facts = _facts(answer.info)
        files |= _placed(arguments.out, batch.names, answer.files)
    return Result(facts, (), files)


def sample(client: Client, arguments: Namespace) -> Result:
    """New images."""
    if arguments.count > _MAX_SAMPLES:
        raise UsageError(f"--count: expected at most {_MAX_SAMPLES} images, got {arguments.count}")
    paths = _numbered(arguments.out, "sample", arguments.count)
    files: list[bytes] = []
    facts: dict[str, object] = {"seed": arguments.seed}
    # At least one request: the server says what is wrong with the count.
    for first in range(0, max(1, arguments.count), BATCH_ITEMS):
        answer = client.sample(
            min(arguments.count - first, BATCH_ITEMS),
            **_model(arguments),
            # Without --seed, the one that the server drew for the first batch.
            seed=cast("int | None", facts["seed"]),
            temperature=arguments.temperature,
            first_index=first,
            height=arguments.height or 0,
            width=arguments.width or 0,
            image_format=arguments.format or "png",
        )
        facts = {**_facts(answer.info), "seed": answer.seed, "noise_scheme": answer.noise_scheme}
        files += answer.files
    return Result(facts, (), dict(zip(paths, files, strict=True)))


def interpolate(client: Client, arguments: Namespace) -> Result:
    """Images along the path from one image, or the latents of one, to another."""
    model_of = cache(partial(client.get_model, **_model(arguments)))
    ends = {"from": read_end(arguments.start, model_of), "to": read_end(arguments.stop, model_of)}
    answer = client.interpolate(
        **{f"{word}_{kind}": end for word, (kind, end) in ends.items()},
        steps=arguments.steps,
        **_target(arguments),
        interpolation="spherical" if arguments.spherical else "linear",
        image_format=arguments.format or "png",
    )
    if arguments.resize:
        note_resized([path for path in (arguments.start, arguments.stop) if not is_array(path)], model_of())
    paths = _numbered(arguments.out, "step", len(answer.files))
    return Result(_facts(answer.info), (), dict(zip(paths, answer.files, strict=True)))


def edit(client: Client, arguments: Namespace) -> Result:
    """Images or latents moved along attributes."""
    files: dict[Path, bytes] = {}
    facts: dict[str, object] = {}
    if bool(arguments.images) == bool(arguments.latents):
        raise UsageError("expected either images or --latents")
    if arguments.latents:
        return _drawn(client.edit, arguments, shifts=dict(arguments.shift))
    for batch, answer in _answers(client, client.edit, arguments, shifts=dict(arguments.shift)):
        facts = _facts(answer.info)
        files |= _placed(arguments.out, batch.names, answer.files)
    return Result(facts, (), files)


def classify(client: Client, arguments: Namespace) -> Result:
    """The likeliest class of each image."""
    rows: list[Mapping[str, object]] = []
    facts: dict[str, object] = {}
    for batch, answer in _answers(client, client.classify, arguments):
        facts = _facts(answer.info)
        for name, row in zip(batch.names, answer.probabilities, strict=True):
            best = int(row.argmax())
            every = dict(zip(answer.labels, row.tolist(), strict=True)) if arguments.json else {}
            rows.append(
                {"image": name, "label": answer.labels[best], "probability": float(row[best])}
                | ({"probabilities": every} if every else {})
            )
    return Result(facts, rows)


def _drawn(call: Callable[..., answers.Decoded | answers.Edited], arguments: Namespace, **more: object) -> Result:
    """Images of the latents of the command line."""
    latents = read_latents(arguments.latents)
    paths = _numbered(arguments.out, "latent", len(latents))
    files: list[bytes] = []
    facts: dict[str, object] = {}
    for some in batches(latents):
        answer = call(latents=some, **_model(arguments), **more, image_format=arguments.format or "png")
        facts = _facts(answer.info)
        files += answer.files
    return Result(facts, (), dict(zip(paths, files, strict=True)))


def _batches(arguments: Namespace, model_of: ModelOf) -> Sequence[ImageBatch]:
    """Images of the command line; no output file may exist before the first request."""
    every = list(image_batches(arguments.images, model_of))
    if arguments.command in _DRAWING and arguments.out:
        check_new([arguments.out / f"{name}.png" for batch in every for name in batch.names])
    return every


def _answers(
    client: Client, call: Callable[..., Answer], arguments: Namespace, **more: object
) -> Iterator[tuple[ImageBatch, Answer]]:
    """Answers to the images of the command line."""
    model_of = cache(partial(client.get_model, **_model(arguments)))
    every = _batches(arguments, model_of)
    if arguments.command in _IN_BANDS:
        more["progress"] = shows_bar()
    for batch in every:
        if arguments.command in _DRAWING:
            more["image_format"] = _format(arguments, batch, model_of)
        try:
            yield batch, call(images=batch.images, **_target(arguments), **more)
        except InvalidArgumentError as error:
            raise _naming_file(error, batch) from error
    if arguments.resize:
        note_resized([path for batch in every if batch.array is None for path in batch.images], model_of())


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


def _shown(latents: NDArray[Any], arguments: Namespace) -> object:
    """Numbers; of spatial latents their shape, except in JSON."""
    return latents.tolist() if arguments.json or latents.ndim == 1 else "x".join(map(str, latents.shape))


def _model(arguments: Namespace) -> dict[str, Any]:
    return {"model": arguments.model, "version": arguments.version}


def _target(arguments: Namespace) -> dict[str, Any]:
    return {**_model(arguments), "resize": arguments.resize}


def _facts(info: ServingInfo) -> dict[str, object]:
    return {"model": info.model_name, "version": info.model_version}


def _placed(folder: Path, names: Sequence[str], files: Sequence[bytes]) -> dict[Path, bytes]:
    return {folder / f"{name}.png": content for name, content in zip(names, files, strict=True)}


def _numbered(folder: Path, word: str, count: int) -> list[Path]:
    """Paths of `count` files, numbered so that they sort; none of them may exist."""
    digits = max(4, len(str(count - 1)))
    paths = [folder / f"{word}-{index:0{digits}}.png" for index in range(count)]
    check_new(paths)
    return paths


def _check_array(path: Path | None) -> None:
    """Refuse another suffix, and a file that exists or cannot be written."""
    if path is None:
        return
    if path.suffix != ".npy":
        raise UsageError(f"--out: expected a file ending in .npy, got {path}")
    check_new([path])
