from pathlib import Path

import bundles
import numpy as np
import pytest

from bundle import layout
from bundle.errors import BundleError
from export.gate import session
from export.gate.session import open_session

FOLDER = bundles.GOLDEN / "fc-ae/1"
GRAPH = (FOLDER / "decode.onnx").read_bytes()


def test_rows_in_outputs_out() -> None:
    opened = open_session(GRAPH)
    latents = np.ones((3, layout.read_model(FOLDER).latent_size), np.float32)
    by_name, by_rows = opened.run({"latents": latents}), opened.run_rows(latents)
    assert by_name.keys() == by_rows.keys() == {"images"}
    assert by_name["images"].shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(by_name["images"], by_rows["images"])


def test_what_the_runtime_refuses_is_a_bundle_error() -> None:
    with pytest.raises(BundleError, match="onnxruntime refuses the graph on cpu"):
        open_session(GRAPH[:-100])
    with pytest.raises(BundleError, match="onnxruntime fails in the graph"):
        open_session(GRAPH).run_rows(np.ones((3, 1), np.float32))


def test_telemetry_is_off() -> None:
    source = Path(session.__file__).read_text()
    assert source.index('"ORT_DISABLE_TELEMETRY", "1"') < source.index("import onnxruntime")
