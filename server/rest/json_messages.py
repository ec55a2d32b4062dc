"""Protobuf messages to JSON: all fields except unset oneofs, .proto field names, 64-bit integers as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from google.protobuf.message import Message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.protobuf.descriptor import FieldDescriptor


def to_dict(message: Message) -> dict[str, object]:
    """A dictionary for json.dumps; protobuf's own JSON writes 64-bit integers as strings."""
    # The descriptor type has two implementations with the same attributes.
    fields = cast("Sequence[FieldDescriptor]", message.DESCRIPTOR.fields)
    return {
        field.name: _field(field, getattr(message, field.name))
        for field in fields
        if field.containing_oneof is None or message.HasField(field.name)
    }


def _field(field: FieldDescriptor, value: object) -> object:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entries = cast("Mapping[str, object]", value)
        return {key: to_dict(entry) if isinstance(entry, Message) else entry for key, entry in entries.items()}
    if field.is_repeated:
        return [_value(field, item) for item in cast("Sequence[object]", value)]
    return _value(field, value)


def _value(field: FieldDescriptor, value: object) -> object:
    if isinstance(value, Message):
        return to_dict(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[cast("int", value)].name
    return value
