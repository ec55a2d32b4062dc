"""The messages of the Open Inference Protocol that a request needs, built at run time.

The peers' stubs register the same names as ours; this descriptor pool is separate from both.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

METHOD = "/inference.GRPCInferenceService/ModelInfer"

_TENSOR = (
    ("name", 1, Field.TYPE_STRING, False),
    ("datatype", 2, Field.TYPE_STRING, False),
    ("shape", 3, Field.TYPE_INT64, True),
)
_REQUEST = (("model_name", 1, Field.TYPE_STRING, False), ("raw_input_contents", 7, Field.TYPE_BYTES, True))
_RESPONSE = (("model_name", 1, Field.TYPE_STRING, False), ("raw_output_contents", 6, Field.TYPE_BYTES, True))


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="bench_inference.proto", package="inference", syntax="proto3")
    for name, fields, tensors in (
        ("InferTensor", _TENSOR, None),
        ("ModelInferRequest", _REQUEST, ("inputs", 5)),
        ("ModelInferResponse", _RESPONSE, ("outputs", 5)),
    ):
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            message.field.add(name=field, number=number, type=kind, label=_label(repeated=repeated))
        if tensors:
            message.field.add(
                name=tensors[0],
                number=tensors[1],
                type=Field.TYPE_MESSAGE,
                type_name=".inference.InferTensor",
                label=_label(repeated=True),
            )
    return file


def _label(*, repeated: bool) -> Field.Label:
    return Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())
ModelInferRequest = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("inference.ModelInferRequest"))
ModelInferResponse = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("inference.ModelInferResponse"))
