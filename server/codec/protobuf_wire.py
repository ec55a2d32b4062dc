"""Protocol Buffers wire format, for parts of messages that are too slow to build again for every request.

Protocol Buffers, "Encoding": https://protobuf.dev/programming-guides/encoding/. Serialised parts of a message may
follow one another in any order.
"""

from collections.abc import Sequence
from functools import lru_cache

from autoencoder.v1.autoencoder_pb2 import Tensor
from autoencoder.v1.model_pb2 import DataType

_DATA = Tensor.DESCRIPTOR.fields_by_name["data"].number


def field_header(number: int, size: int) -> bytes:
    """Tag and length that precede the `size` bytes of a field that holds bytes, text or a message."""
    return _varint(number << 3 | 2) + _varint(size)


def length_delimited(number: int, content: bytes) -> bytes:
    """Serialise a field that holds bytes, text or a serialised message."""
    return field_header(number, len(content)) + content


@lru_cache(maxsize=4096)
def tensor_header(path: Sequence[int], data_type: DataType, shape: tuple[int, ...], size: int) -> bytes:
    """Bytes that precede the `size` bytes of a Tensor's data; `path` leads from the response to the Tensor."""
    head = Tensor(data_type=data_type, shape=shape).SerializeToString() + field_header(_DATA, size)
    for number in reversed(path):
        head = field_header(number, len(head) + size) + head
    return head


def _varint(number: int) -> bytes:
    if number <= 0x7F:  # noqa: PLR2004 (seven bits a byte)
        return bytes((number,))
    parts = bytearray()
    while number > 0x7F:  # noqa: PLR2004 (seven bits a byte)
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
