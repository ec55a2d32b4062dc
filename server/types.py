"""Type aliases that the whole server shares."""

from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
# Rows of a graph or their bytes on the wire, C-contiguous.
Buffer: TypeAlias = bytes | memoryview
