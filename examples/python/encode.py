"""Encode, decode and sample with the Python client.

pip install ./client && python examples/python/encode.py 127.0.0.1:8001 vae
"""

import sys

import numpy as np
from hourglass_client import Client, HourglassError


def main(address: str = "127.0.0.1:8001", model: str = "vae") -> None:
    """Call a server that has a generative model."""
    with Client(address) as client:
        about = client.get_model(model)
        images = np.random.default_rng(0).integers(0, 256, (4, about.height, about.width, about.channels), np.uint8)

        encoded = client.encode(images, model=model)
        print(f"{model} version {encoded.info.model_version}: latents {encoded.latents.shape}")

        decoded = client.decode(encoded.latents, model=model)
        print(f"decoded: {decoded.images.shape} {decoded.images.dtype}")

        first, again = (client.sample(8, model=model, seed=7) for _ in range(2))
        print(f"sampled: {first.images.shape}, the same again: {np.array_equal(first.images, again.images)}")

        try:
            client.encode(images[:, 1:], model=model)
        except HourglassError as error:
            print(f"refused: {error.message}")


if __name__ == "__main__":
    main(*sys.argv[1:])
