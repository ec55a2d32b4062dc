"""What each command does with a client: one function each, arguments in, result out."""

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hourglass_client.answers import ServingInfo
from hourglass_client.cli.inputs import ImageBatch, UsageError, image_batches, read_latents
from hourglass_client.cli.results import Result, check_new, npy
from hourglass_client.client import Client

if TYPE_CHECKING:
    from numpy.typing import NDArray


def models(client: Client, arguments: Namespace) -> Result:
    """Every loaded version."""
    del arguments
    rows = [
        {
            "model": model.name,
            "version": model.version,
            "family": model.family,
            "image": f"{model.height}x{model.width}x{model.channels}",
            "latent": model.latent_size,
            "methods": list(model.methods),
            "attributes": list(model.attributes),
        }
        for model in client.list_models()
    ]
    return Result({"models": len(rows)}, rows)


def encode(client: Client, arguments: Namespace) -> Result:
    """Images to latent vectors."""
    _check_suffix(arguments.out, ".npy")
    rows: list[Mapping[str, object]] = []
    found: list[NDArray[Any]] = []
    facts: dict[str, object] = {}
    posterior = "sample" if arguments.sample else "mean"
    for batch in _batches(arguments):
        answer = client.encode(batch.images, **_target(arguments), posterior=posterior, seed=arguments.seed)
        facts = _facts(answer.info)
        if answer.seed is not None:
            facts["seed"] = answer.seed
        found.append(answer.latents)
        rows += [
            {"image": name, "latents": row.tolist()} for name, row in zip(batch.names, answer.latents, strict=True)
        ]
    files = {arguments.out: npy(np.concatenate(found))} if arguments.out else {}
    return Result(facts, rows, files)


def decode(client: Client, arguments: Namespace) -> Result:
    """Latent vectors to images."""
    latents = read_latents(arguments.latents)
    answer = client.decode(latents, **_model(arguments), image_format="png")
    return Result(_facts(answer.info), (), _named(arguments.out, "latent", answer.files))


def reconstruct(client: Client, arguments: Namespace) -> Result:
    """Images through the bottleneck and back."""
    rows: list[Mapping[str, object]] = []
    files: dict[Path, bytes] = {}
    facts: dict[str, object] = {}
    form = "png" if arguments.out else "none"
    for batch in _batches(arguments):
        answer = client.reconstruct(batch.images, **_target(arguments), image_format=form)
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
    for batch in _batches(arguments):
        answer = client.denoise(batch.images, **_target(arguments), image_format="png")
        facts = _facts(answer.info)
        files |= _placed(arguments.out, batch.names, answer.files)
    return Result(facts, (), files)


def sample(client: Client, arguments: Namespace) -> Result:
    """New images."""
    answer = client.sample(
        arguments.count,
        **_model(arguments),
        seed=arguments.seed,
        temperature=arguments.temperature,
        image_format="png",
    )
    facts = {**_facts(answer.info), "seed": answer.seed, "noise_scheme": answer.noise_scheme}
    return Result(facts, (), _named(arguments.out, "sample", answer.files))


def interpolate(client: Client, arguments: Namespace) -> Result:
    """Images on the way from one to another."""
    answer = client.interpolate(
        from_images=[_file(arguments.start)],
        to_images=[_file(arguments.stop)],
        steps=arguments.steps,
        **_model(arguments),
        interpolation="spherical" if arguments.spherical else "linear",
        image_format="png",
    )
    return Result(_facts(answer.info), (), _named(arguments.out, "step", answer.files))


def edit(client: Client, arguments: Namespace) -> Result:
    """Images moved along attributes."""
    files: dict[Path, bytes] = {}
    facts: dict[str, object] = {}
    for batch in _batches(arguments):
        answer = client.edit(dict(arguments.shift), images=batch.images, **_target(arguments), image_format="png")
        facts = _facts(answer.info)
        files |= _placed(arguments.out, batch.names, answer.files)
    return Result(facts, (), files)


def classify(client: Client, arguments: Namespace) -> Result:
    """The likeliest class of each image."""
    rows: list[Mapping[str, object]] = []
    facts: dict[str, object] = {}
    for batch in _batches(arguments):
        answer = client.classify(batch.images, **_target(arguments))
        facts = _facts(answer.info)
        for name, row in zip(batch.names, answer.probabilities, strict=True):
            best = int(row.argmax())
            every = dict(zip(answer.labels, row.tolist(), strict=True)) if arguments.json else {}
            rows.append(
                {"image": name, "label": answer.labels[best], "probability": float(row[best])}
                | ({"probabilities": every} if every else {})
            )
    return Result(facts, rows)


def _batches(arguments: Namespace) -> Iterator[ImageBatch]:
    """Images of the command line; the files to come must not be there before the first request."""
    batches = list(image_batches(arguments.images))
    if arguments.command in {"reconstruct", "denoise", "edit"} and arguments.out:
        check_new([arguments.out / f"{name}.png" for batch in batches for name in batch.names])
    return iter(batches)


def _model(arguments: Namespace) -> dict[str, Any]:
    return {"model": arguments.model, "version": arguments.version}


def _target(arguments: Namespace) -> dict[str, Any]:
    return {**_model(arguments), "resize": arguments.resize}


def _facts(info: ServingInfo) -> dict[str, object]:
    return {"model": info.model_name, "version": info.model_version}


def _placed(folder: Path, names: Sequence[str], files: Sequence[bytes]) -> dict[Path, bytes]:
    return {folder / f"{name}.png": content for name, content in zip(names, files, strict=True)}


def _named(folder: Path, word: str, files: Sequence[bytes]) -> dict[Path, bytes]:
    return _placed(folder, [f"{word}-{index:04}" for index in range(len(files))], files)


def _file(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"{path}: wanted an image file, found none there")
    return path


def _check_suffix(path: Path | None, suffix: str) -> None:
    if path is not None and path.suffix != suffix:
        raise UsageError(f"--out: wanted a file ending in {suffix}, got {path}")
