"""Subcommands of the command line: one function each, a client and arguments in, a result out.

Files go to `arguments.files` as they come.
"""

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from autoencoder.v1 import png
from numpy.typing import NDArray

from hourglass_client import answers
from hourglass_client.cli.calls import answers_to, facts_of, model_named, output_paths, target
from hourglass_client.cli.inputs import BATCH_ITEMS, UsageError, batches, is_array, read_end, read_latents
from hourglass_client.cli.overlays import beside
from hourglass_client.cli.pictures import note_resized, shown_shapes, shows_bar, with_profile_of
from hourglass_client.cli.results import Result, check_new, npy
from hourglass_client.client import Client
from hourglass_client.errors import InvalidArgumentError

_MAX_SAMPLES = 100_000


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
    for batch, answer in answers_to(client, client.encode, arguments, posterior=posterior, seed=arguments.seed):
        facts = facts_of(answer.info)
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
    if arguments.out:
        arguments.files.add(arguments.out, npy(np.concatenate(found)))
    return Result(facts, rows)


def decode(client: Client, arguments: Namespace) -> Result:
    """Latents to images."""
    size = {"height": arguments.height, "width": arguments.width}
    return _drawn(client.decode, arguments, **size, progress=shows_bar())


def reconstruct(client: Client, arguments: Namespace) -> Result:
    """Images through the bottleneck and back."""
    rows: list[Mapping[str, object]] = []
    facts: dict[str, object] = {}
    for batch, answer in answers_to(client, client.reconstruct, arguments):
        facts = facts_of(answer.info)
        errors = answer.squared_errors.tolist()
        rows += [{"image": name, "squared_error": error} for name, error in zip(batch.names, errors, strict=True)]
        if arguments.out:
            _place(arguments, batch.names, answer.files)
    return Result(facts, rows)


def denoise(client: Client, arguments: Namespace) -> Result:
    """Noisy images to clean ones."""
    facts: dict[str, object] = {}
    for batch, answer in answers_to(client, client.denoise, arguments, noise_level=arguments.noise_level):
        facts = facts_of(answer.info)
        for index, (name, clean) in enumerate(zip(batch.names, answer.files, strict=True)):
            drawn = [png.encode(beside(batch, index, clean))] if arguments.compare else []
            contents = [with_profile_of(batch.images, index, file) for file in [clean, *drawn]]
            arguments.files.add_all(output_paths(arguments, name), contents)
    return Result(facts)


def sample(client: Client, arguments: Namespace) -> Result:
    """New images."""
    if arguments.count > _MAX_SAMPLES:
        raise UsageError(f"--count: expected at most {_MAX_SAMPLES} images, got {arguments.count}")
    paths = _numbered(arguments.out, "sample", arguments.count)
    facts: dict[str, object] = {"seed": arguments.seed}
    # At least one request: the server says what is wrong with the count.
    for first in range(0, max(1, arguments.count), BATCH_ITEMS):
        answer = client.sample(
            min(arguments.count - first, BATCH_ITEMS),
            **model_named(arguments),
            # Without --seed, the one that the server drew for the first batch.
            seed=cast("int | None", facts["seed"]),
            temperature=arguments.temperature,
            first_index=first,
            height=arguments.height or 0,
            width=arguments.width or 0,
            image_format=arguments.format or "png",
        )
        facts = {**facts_of(answer.info), "seed": answer.seed, "noise_scheme": answer.noise_scheme}
        arguments.files.add_all(paths[first : first + BATCH_ITEMS], answer.files)
    return Result(facts)


def interpolate(client: Client, arguments: Namespace) -> Result:
    """Images along the path from one image, or the latents of one, to another."""
    model_of = cache(partial(client.get_model, **model_named(arguments)))
    ends = {"from": read_end(arguments.start, model_of), "to": read_end(arguments.stop, model_of)}
    answer = client.interpolate(
        **{f"{word}_{kind}": end for word, (kind, end) in ends.items()},
        steps=arguments.steps,
        **target(arguments),
        interpolation="spherical" if arguments.spherical else "linear",
        image_format=arguments.format or "png",
    )
    if arguments.resize:
        note_resized([path for path in (arguments.start, arguments.stop) if not is_array(path)], model_of())
    arguments.files.add_all(_numbered(arguments.out, "step", len(answer.files)), answer.files)
    return Result(facts_of(answer.info))


def edit(client: Client, arguments: Namespace) -> Result:
    """Images or latents moved along attributes."""
    facts: dict[str, object] = {}
    if bool(arguments.images) == bool(arguments.latents):
        raise UsageError("expected either images or --latents")
    if arguments.latents:
        return _drawn(client.edit, arguments, shifts=dict(arguments.shift))
    for batch, answer in answers_to(client, client.edit, arguments, shifts=dict(arguments.shift)):
        facts = facts_of(answer.info)
        _place(arguments, batch.names, answer.files)
    return Result(facts)


def classify(client: Client, arguments: Namespace) -> Result:
    """The likeliest class of each image."""
    rows: list[Mapping[str, object]] = []
    facts: dict[str, object] = {}
    for batch, answer in answers_to(client, client.classify, arguments):
        facts = facts_of(answer.info)
        for name, row in zip(batch.names, answer.probabilities, strict=True):
            best = int(row.argmax())
            every = dict(zip(answer.labels, row.tolist(), strict=True)) if arguments.json else {}
            rows.append(
                {"image": name, "label": answer.labels[best], "probability": float(row[best])}
                | ({"probabilities": every} if every else {})
            )
    return Result(facts, rows)


def score(client: Client, arguments: Namespace) -> Result:
    """Log-likelihoods of images, in nats."""
    rows: list[Mapping[str, object]] = []
    facts: dict[str, object] = {"seed": arguments.seed}

    def call(**given: Any) -> answers.Scored:  # noqa: ANN401 (what `answers_to` passes on)
        # Without --seed, the one that the server drew for the first batch.
        seed = cast("int | None", facts["seed"])
        return client.score(**given, samples=arguments.samples, seed=seed, first_index=len(rows))

    for batch, answer in answers_to(client, call, arguments):
        facts |= {**facts_of(answer.info), "seed": answer.seed}
        values = answer.log_likelihoods.tolist()
        rows += [{"image": name, "nats": value} for name, value in zip(batch.names, values, strict=True)]
    mean = float(np.mean([cast("float", row["nats"]) for row in rows])) if rows else None
    return Result({**facts, "images": len(rows), "mean_nats": mean}, rows)


def _drawn(call: Callable[..., answers.Decoded | answers.Edited], arguments: Namespace, **more: object) -> Result:
    """Images of the latents of the command line."""
    latents = read_latents(arguments.latents)
    paths = iter(_numbered(arguments.out, "latent", len(latents)))
    facts: dict[str, object] = {}
    for some in batches(latents):
        answer = call(latents=some, **model_named(arguments), **more, image_format=arguments.format or "png")
        facts = facts_of(answer.info)
        arguments.files.add_all(islice(paths, len(some)), answer.files)
    return Result(facts)


def _shown(latents: NDArray[Any], arguments: Namespace) -> object:
    """Numbers; of spatial latents their shape, except in JSON."""
    return latents.tolist() if arguments.json or latents.ndim == 1 else "x".join(map(str, latents.shape))


def _place(arguments: Namespace, names: Sequence[str], files: Sequence[bytes]) -> None:
    arguments.files.add_all((arguments.out / f"{name}.png" for name in names), files)


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
