"""How the graphs of a network of free sizes may be cut: the halo, the tile, and what the proof found."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from autoencoder.v1.model_pb2 import Signature, Tiling
from autoencoder.v1.shapes import Shapes, Size

from bundle import replay
from bundle.errors import quotable
from bundle.golden import Array, Arrays
from bundle.runtime_options import PROMISES_BITS, Device
from export.gate.checks import Check, Finding
from export.gate.images import beside
from export.gate.sandbox import Sandbox
from export.gate.tiling import control, halo, proof
from export.gate.tiling.axes import UntileableError
from export.gate.tiling.halo import Halo
from export.gate.tiling.proof import Proved, Trial
from export.graphs.tensor_specs import TILE, Facts, batch_buckets

# Memory grows with it: a float32 image of 64 channels takes 256 MiB.
_LARGEST_TILE = 4 * TILE


@dataclass(frozen=True)
class Tiled:
    """One graph: its tiling with the proof, or why it has none."""

    timed: Arrays
    """Inputs of one row as large as a tile."""
    buckets: list[int]
    """Batch sizes worth warming up, of tiles."""
    tiling: Tiling | None = None
    untileable: str = ""
    proved: Proved | None = None
    control: str = ""
    """Why the negative control shows nothing; empty where it fails as it must, and where there is no halo."""

    @property
    def problem(self) -> str:
        """Why the graph is refused; empty where it is not."""
        if self.tiling is None or self.proved is None:
            return ""
        if self.proved.sees_farther:
            return f"cells beyond the halo of {self.tiling.halo} change what it gives"
        if self.proved.difference.excess > 1:
            return f"tiles are off by {self.proved.difference.largest:.3g} from the whole image"
        return self.control

    @property
    def seen(self) -> str:
        """What was found of a graph that is not refused."""
        if self.tiling is None or self.proved is None:
            return f"no tiles: {self.untileable}"
        difference = self.proved.difference.largest
        bits = "the bits of the whole image" if difference == 0 else f"off by {difference:.3g} from the whole image"
        return f"halo {self.tiling.halo}, tiles of {self.tiling.tile} in multiples of {self.tiling.multiple}: {bits}"


class TiledBundle(Protocol):
    """Graphs that are checked, with how each may be cut."""

    @property
    def tiled(self) -> Mapping[str, Tiled]:
        """By signature; empty where sizes are not free."""
        ...


Picture: TypeAlias = Callable[[Size], Sequence[Array]]
"""Inputs of a graph, a row of each, for an image of this size in pixels."""


def tile(
    about: Facts,
    signature: Signature,
    graph: bytes,
    picture: Picture,
    sandbox: Sandbox,
    device: Device = "cpu",
    *,
    is_variant: bool = False,
) -> Tiled:
    """Derive the halo of a graph and prove it on a picture and on noise.

    A variant in fewer bits has no negative control: it has the operators of its float32 graph, which had one.

    Raises:
        BundleError: the size of a tensor cannot be known, or the runtime fails in the graph.
        CrashError: the runtime crashes in the graph.
    """
    shapes = about.shapes
    pixels = shapes.downsampling if signature.inputs[0].name == "latents" else 1
    try:
        found = halo.derive(graph, signature, shapes.multiple // pixels)
        side = tile_side(found, TILE // pixels, _LARGEST_TILE // pixels)
    except UntileableError as error:
        least = shapes.padded(TILE, TILE)[0] // pixels
        return Tiled(*_timing(about, signature, least, pixels), untileable=quotable(str(error)))
    tiling = Tiling(halo=found.halo, multiple=found.multiple, tile=side)
    trials = list(_trials(shapes, signature, picture, tiling, pixels))
    proved = sandbox.run(proof.prove, graph, signature, found, trials, device)
    tiling.exact = proved.difference.largest == 0 and device in PROMISES_BITS
    least = shapes.padded(shapes.minimum, 1)[0] // pixels
    controlled = found.halo and not is_variant
    shown = sandbox.run(control.problem, graph, signature, found, least) if controlled else ""
    return Tiled(*_timing(about, signature, side, pixels), tiling, proved=proved, control=shown)


def _timing(about: Facts, signature: Signature, side: int, pixels: int) -> tuple[Arrays, list[int]]:
    """Inputs of one row of this side, and the batch sizes of such rows."""
    arrays = [replay.noise(signature, (side, side)), *beside(about, signature, 1)]
    named = dict(zip([spec.name for spec in signature.inputs], arrays, strict=True))
    return named, batch_buckets(about.image_shape, side * pixels)


def tile_side(found: Halo, usual: int, largest: int) -> int:
    """Cells of a tile's side: doubled from the usual until half of its area is kept; of the largest, half of its side.

    Raises:
        UntileableError: the halo is too wide for the largest.
    """
    side, whole = usual, 0
    while side <= largest:
        whole = side // found.multiple * found.multiple
        if 2 * max(whole - 2 * found.halo, 0) ** 2 >= whole**2 > 0:
            return whole
        side *= 2
    if 4 * found.halo > whole:
        raise UntileableError(
            f"expected outputs that depend on at most {whole // 4} cells on each side, got {found.halo}"
        )
    return whole


def _trials(shapes: Shapes, signature: Signature, picture: Picture, tiling: Tiling, pixels: int) -> Iterator[Trial]:
    """Every size with a picture and with noise; the largest with the picture alone."""
    least = shapes.padded(shapes.minimum, 1)[0] // pixels
    sized = list(proof.cuts(tiling, max(least, tiling.multiple)))
    for number, (size, cut) in enumerate(sized):
        given, *others = picture((size[0] * pixels, size[1] * pixels))
        yield Trial([given, *others], cut)
        if number < len(sized) - 1:
            yield Trial([replay.noise(signature, size), *others], cut)


def _tiles(bundle: TiledBundle) -> Iterator[Finding]:
    for name, tiled in bundle.tiled.items():
        yield Finding(name, tiled.problem or tiled.seen, passed=not tiled.problem)


TILES = Check("tiles", _tiles)
"""Tiles give what the whole image gives, and with a halo that is too small they do not."""
