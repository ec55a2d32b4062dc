"""Operations that a trace sees, and the modules that they stand in."""

import torch
from torch import Tensor, nn

from export.modules.trace import Operation, traced
from tests.export.modules import user_modules as users

IMAGES = torch.rand(2, 1, 8, 8, dtype=torch.float64)


def test_the_module_of_a_float32_operation_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), users.SingleConstant()).double()
    assert traced(model, lambda: model(IMAGES)).imprecise == Operation("aten.mul.Tensor", "1")


def test_a_module_in_float64_shows_nothing() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.LazyLinear(8)
    ).double()
    attention = nn.MultiheadAttention(8, 2, batch_first=True).double()

    def run() -> Tensor:
        tokens = model.eval()(IMAGES)[None]
        return attention.eval()(tokens, tokens, tokens)[0]

    run()
    trace = traced(model, run)
    assert (trace.imprecise, trace.random, trace.data_dependent) == (None, None, None)


def test_shapes_of_content_and_numbers_of_content_are_seen() -> None:
    model = nn.Identity()
    assert str(traced(model, lambda: IMAGES[IMAGES > 0.5]).data_dependent).startswith("aten.index.Tensor in")
    assert traced(model, lambda: IMAGES[torch.tensor([1, 0])]).data_dependent is None
    assert traced(model, lambda: float(IMAGES.sum())).data_dependent == Operation(
        "aten._local_scalar_dense.default", ""
    )


def test_a_path_is_left_when_a_module_fails() -> None:
    class Failing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise ValueError(images)

    model = nn.ModuleList([Failing(), users.SingleConstant()])

    def run() -> Tensor:
        try:
            model[0](IMAGES)
        except ValueError:
            return model[1](IMAGES)
        raise AssertionError

    assert traced(model, run).imprecise == Operation("aten.mul.Tensor", "1")
