"""Find anomalous images, and where they are so, with the Python client.

pip install ./client && python examples/python/detect.py 127.0.0.1:8001 detector part-1.png part-2.png
"""

import sys

from hourglass_client import Client


def main(address: str, model: str, *paths: str) -> None:
    """Print the verdict on each image, and the boxes of its regions."""
    with Client(address) as client:
        found = client.detect(paths, model=model)
        for index, path in enumerate(paths):
            verdict = "anomalous" if found.anomalous[index] else "normal"
            print(f"{path}: {verdict}, score {found.scores[index]:.4g}, threshold {found.threshold:.4g}")
            for region in found.regions:
                if region.image == index:
                    box = f"{region.height} x {region.width} at row {region.top}, column {region.left}"
                    print(f"  {box}: up to {region.score:.4g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
