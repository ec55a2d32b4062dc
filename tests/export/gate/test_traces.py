"""Nearly tied choices are found and left out; what a network makes of its weights alone is known as such."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.gate.inputs import _of_kinds, answer, undecided
from export.gate.traces import Choices, made_of_weights
from export.graphs import methods, tensor_specs
from export.modules.adapter import AdaptedModule


class Quantiser(nn.Module):
    """Each pixel becomes the nearest of three greys."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.tensor([0.0, 0.5, 1.0]))

    def denoise(self, images: Tensor) -> Tensor:
        distances = images.unsqueeze(-1) ** 2 - 2 * images.unsqueeze(-1) * self.codes + self.codes**2
        return self.codes[distances.argmin(-1)]


@pytest.fixture
def method() -> methods.Method:
    model = AdaptedModule(Quantiser(), ("denoise",)).eval().double()
    model.image_shape = (2, 2, 1)
    return methods.methods(model)[0]


def test_what_depends_on_a_nearly_tied_choice_is_left_out(method: methods.Method) -> None:
    signature = tensor_specs.signature("denoise", methods.facts(method.model))
    rows = np.array([0.1, 0.25, 0.75 + 1e-7, 0.9], np.float32).reshape(1, 2, 2, 1)
    seen = Choices()
    expected = answer(method, rows, signature, choices=seen)
    assert (seen.rows, seen.tied) == (4, 2)
    left_out = undecided(method, rows, signature, expected)
    assert left_out["denoised"].ravel().tolist() == [False, True, True, False]
    (tried,) = _of_kinds(method, signature, {"greys": rows})
    assert (tried.choices, tried.tied) == (4, 2)
    np.testing.assert_array_equal(tried.undecided["denoised"], left_out["denoised"])


def test_squared_codes_are_made_of_weights(method: methods.Method) -> None:
    signature = tensor_specs.signature("denoise", methods.facts(method.model))
    found = made_of_weights(method, signature)
    assert any(each.tolist() == [0, 0.25, 1] for each in found)
    assert not any(each.shape[:1] == (2,) for each in found)
