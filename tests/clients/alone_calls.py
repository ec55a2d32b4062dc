"""Our own client, installed by pip without the rest: `python alone_calls.py HOST:PORT`; prints JSON."""

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
from hourglass_client import Client

IMAGES = (np.arange(3 * 64, dtype=np.uint32) * 7 % 256).astype(np.uint8).reshape(3, 8, 8, 1)


def run(address: str) -> dict:
    with Client(address) as client:
        encoded = client.encode(IMAGES, model="vae")
        answers = client.map(lambda image: client.encode(image, model="vae").latents, IMAGES[:, np.newaxis])
        mapped = np.concatenate(list(answers))
    hourglass = Path(sys.executable).with_name("hourglass")
    listed = subprocess.run([hourglass, "models", "--address", address, "--json"], check=True, capture_output=True)
    return {
        "installed": sorted(found.name.lower().replace("_", "-") for found in distributions()),
        "latents": encoded.latents.tolist(),
        "mapped": mapped.tolist(),
        "models": sorted(item["model"] for item in json.loads(listed.stdout)["items"]),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(sys.argv[1])) + "\n")
