"""What a module shows of itself before it is exported, and what is refused in a sentence."""

import re

import pytest
import torch
from torch import nn

from export.errors import InputError
from export.modules.adapter import AdaptedModule, methods_of
from export.modules.probe import probe
from export.modules.statistics import as_pixels
from tests.export.modules import user_modules as users


def adapted(module: nn.Module, *, free: bool = False, **options: object) -> AdaptedModule:
    torch.manual_seed(0)
    model = AdaptedModule(module, methods_of(module, options.pop("forward_is", None)), **options).eval()
    model.image_shape = (0, 0, 1) if free else (users.SIDE, users.SIDE, 1)
    return model


PIXELS = as_pixels(users.images(3))

REFUSED = {
    "float32 constant": (users.WithConstant(), r"got float32 from aten\.mul\.Tensor in module constant: register"),
    "random numbers": (users.Random(), r"draws no random numbers, got aten\.randn_like\.default in the module itself"),
    "dropout": (users.StubbornDropout(), "draws no random numbers, got aten"),
    "random numbers of NumPy": (users.NumpyRandom(), "expected the same answer to the same images"),
    "a buffer that changes": (users.Counting(), "keeps no state between calls, got another calls after a call"),
    "an attribute that changes": (users.Remembering(), "expected the same answer to the same images"),
    "another shape": (users.Smaller(), r"denoise: expected the shape \(3, 1, 8, 8\), got \(3, 1, 8, 7\)"),
    "another range": (users.Unbounded(), r"expected images in 0 … 1, got \d+% of the pixels outside, .* --range -1:1"),
    "three outputs": (users.ThreeOutputs(), "one tensor or two, got Tensor, Tensor, Tensor"),
    "probabilities": (users.Softmax(), r"expected the shape \(3, 0\), got \(3, 3\): give --labels"),
    "maps below 0": (users.SignedDetector(), r"detect: expected maps of numbers from 0, larger where stranger, got -"),
    "no maps": (users.ScoresAlone(), r"detect: expected the shape \(3, 1, 8, 8\), got \(3,\)"),
    "noise levels undeclared": (users.NoiseLevel(), "denoise: the module failed on float32 images .*noise_levels"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_no_graph_could_keep_is_refused_in_a_sentence(why: str) -> None:
    module, sentence = REFUSED[why]
    with pytest.raises(InputError) as refusal:
        probe(adapted(module), PIXELS)
    assert re.search(sentence, str(refusal.value)), refusal.value
    assert "\n" not in str(refusal.value)


def test_training_mode_is_refused_by_the_module_that_is_in_it() -> None:
    model = adapted(users.Denoiser())
    model.module.body.train()
    with pytest.raises(InputError, match=r"got module\.body in training mode"):
        probe(model, PIXELS)


def test_scores_after_a_softmax_are_refused() -> None:
    model = adapted(users.Softmax())
    model.labels = ("a", "b", "c")
    with pytest.raises(InputError, match="before the softmax"):
        probe(model, PIXELS)


def test_the_weaker_claim_lets_a_float32_constant_pass() -> None:
    assert probe(adapted(users.WithConstant(), reference_precision="float32"), PIXELS) is None


def test_a_decision_by_the_pixels_is_found_for_whoever_explains_a_refusal() -> None:
    found = probe(adapted(users.Branching()), PIXELS)
    assert found is not None
    assert found.name.startswith("aten._local_scalar_dense")


def test_latents_of_a_fixed_size_are_learnt() -> None:
    model = adapted(users.Spatial())
    probe(model, PIXELS)
    assert (model.variational, model.latent_shape, model.latent_size) == (True, (4, 4, 2), 0)


def test_latents_of_free_sizes_follow_the_image() -> None:
    model = adapted(users.Spatial(), free=True)
    model.multiple = 2
    probe(model, PIXELS)
    assert (model.latent_shape, model.downsampling) == ((0, 0, 2), 2)


def test_a_module_is_left_as_it_is() -> None:
    module = users.Counting().eval()
    with pytest.raises(InputError):
        probe(adapted(module), PIXELS)
    assert module.body[0].weight.dtype == torch.float32
