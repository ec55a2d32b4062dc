"""`python -m bench.gpu.fill_memory DEVICE [LIMIT_MIB]`: holds all memory of a device until stdin closes."""

import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import onnxruntime as ort

LARGEST_MIB = 1024


def main(device: str, limit_mib: int) -> int:
    """Blocks of a GiB, then of half as much, down to one MiB."""
    if device == "cuda":
        ort.preload_dlls()
    blocks, taken, size = [], 0, LARGEST_MIB
    while size and taken < limit_mib:
        size = min(size, limit_mib - taken)
        try:
            blocks.append(ort.OrtValue.ortvalue_from_shape_and_type([size * 2**20], np.uint8, device, 0))
        except Exception as error:  # noqa: BLE001 (onnxruntime raises many kinds)
            reason = str(error)
            size //= 2
        else:
            reason, taken = "limit", taken + size
    print(f"{taken} {reason.splitlines()[0][:200]}", flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else sys.maxsize))  # noqa: PLR2004
