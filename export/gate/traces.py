"""Watches the operations of a network in float64: choices that are nearly tied, and what is made of weights alone.

A graph may take the other of two codes that are equally near, and be as right as the network: what depends on such a
choice is left out of the comparison, and counted.
"""

from collections.abc import Iterable
from typing import Any

import torch
from autoencoder.v1.model_pb2 import Signature
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bundle.golden import Array
from export.graphs.build import examples
from export.graphs.methods import Method

# Of the largest number in a row: what the rounding of a sum of some hundred products in float32 may come to.
_NEARLY_TIED = 1e-5
_SIGNS = {torch.ops.aten.argmin.default: -1, torch.ops.aten.argmax.default: 1}


class Choices(TorchDispatchMode):
    """Watches what a network chooses; with `other`, it takes the second best wherever that is nearly tied."""

    def __init__(self, *, other: bool = False) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] (torch has no type there)
        self._other = other
        self.rows = 0
        self.tied = 0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 (as torch has it)
        types: object,
        args: Any = (),  # noqa: ANN401 (likewise)
        kwargs: Any = None,  # noqa: ANN401 (likewise)
    ) -> Any:  # noqa: ANN401 (likewise)
        """Run an operation, and look at it if it chooses along an axis."""
        result = func(*args, **(kwargs or {}))
        axis = args[1] if len(args) > 1 else None
        if func not in _SIGNS or axis is None or args[0].shape[axis] == 1:
            return result
        values: Tensor = args[0] * _SIGNS[func]
        best = values.topk(2, dim=axis)
        first, second = best.values.unbind(axis)
        tied = first - second <= _NEARLY_TIED * values.abs().amax(axis)
        self.rows += tied.numel()
        self.tied += int(tied.sum())
        if not self._other:
            return result
        return torch.where(tied.view_as(result), best.indices.select(axis, 1).view_as(result), result)


class _Computed(TorchDispatchMode):
    """Keeps what no input has gone into."""

    def __init__(self, inputs: Iterable[Tensor]) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] (likewise)
        # Kept alive, so that no two have one identity.
        self._given: dict[int, Tensor] = {id(each): each for each in inputs}
        self.found: list[Tensor] = []

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 (as torch has it)
        types: object,
        args: Any = (),  # noqa: ANN401 (likewise)
        kwargs: Any = None,  # noqa: ANN401 (likewise)
    ) -> Any:  # noqa: ANN401 (likewise)
        """Run an operation, and sort its results by where they come from."""
        result = func(*args, **(kwargs or {}))
        made = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        if any(id(each) in self._given for each in tree_leaves((args, kwargs))):
            self._given.update({id(each): each for each in made})
        else:
            self.found += made
        return result


def made_of_weights(method: Method, signature: Signature) -> list[Array]:
    """What a method computes whatever its input is, as squared codes of a vector quantiser."""
    inputs = examples(method, signature)
    trace = _Computed(inputs)
    with torch.no_grad(), trace:
        method(*inputs)
    return [each.numpy() for each in trace.found if not each.is_conj()]
