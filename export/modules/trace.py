"""Traces a module, operation by operation: which precision it computes in, whether it draws random numbers."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_IMPRECISE = frozenset({torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex32})


@dataclass(frozen=True)
class Operation:
    """An operation of PyTorch's, and the path of the module that it stands in."""

    name: str
    module: str

    def __str__(self) -> str:
        return f"{self.name} in {f'module {self.module}' if self.module else 'the module itself'}"


class Trace(TorchDispatchMode):
    """Watches every operation, below autograd and below what modules are made of."""

    def __init__(self) -> None:
        super().__init__()
        self._path = [""]
        self.imprecise: Operation | None = None
        """The first that gives fewer than 64 bits to a floating-point number."""
        self.random: Operation | None = None
        """The first that draws random numbers."""
        self.data_dependent: Operation | None = None
        """The first that makes shapes or Python's numbers of a tensor's content."""

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 (as torch has it)
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 (likewise)
        """Run an operation, and look at it."""
        before = torch.get_rng_state()
        result = func(*args, **(kwargs or {}))
        here = Operation(str(func), self._path[-1])
        if self.random is None and not torch.equal(before, torch.get_rng_state()):
            self.random = here
        if self.data_dependent is None and _is_data_dependent(func, args):
            self.data_dependent = here
        if self.imprecise is None and any(_is_imprecise(each) for each in tree_leaves((args, kwargs, result))):
            self.imprecise = here
        return result

    @contextmanager
    def following(self, model: nn.Module) -> Generator[None]:
        """While this is open, know which of a model's modules is at work."""
        handles = [
            handle
            for name, module in cast("Any", model).named_modules()
            for handle in (
                module.register_forward_pre_hook(self._entered(name)),
                module.register_forward_hook(self._left, always_call=True),
            )
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entered(self, name: str) -> Callable[..., None]:
        return lambda *_: self._path.append(name)

    def _left(self, *_: object) -> None:
        self._path.pop()


def traced(model: nn.Module, run: Callable[[], object]) -> Trace:
    """What a run of a model did; exceptions of the model's are raised."""
    trace = Trace()
    with torch.no_grad(), trace.following(model), trace:
        run()
    return trace


def _is_data_dependent(func: Any, args: tuple[Any, ...]) -> bool:  # noqa: ANN401 (an operation of torch's)
    if not {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
        return False
    # Places chosen by numbers are as many as there are numbers; by booleans, as many as are true.
    by_numbers = func is torch.ops.aten.index.Tensor
    return not by_numbers or any(isinstance(each, Tensor) and each.dtype == torch.bool for each in tree_leaves(args))


def _is_imprecise(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype in _IMPRECISE and value.numel() > 0
