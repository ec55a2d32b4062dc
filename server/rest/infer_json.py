"""JSON of Open Inference Protocol requests and responses, with the binary tensor extension."""

import json
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from inference import open_inference_pb2 as pb
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.errors import InvalidArgumentError
from server.rest import json_arrays

_BINARY_SIZE = "binary_data_size"
# More inputs and outputs than any graph has.
_MAX_PARTS = 64
Parameters = dict[str, bool | int | float | str]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    name: str
    parameters: Parameters = Field(default_factory=dict[str, bool | int | float | str])


class _Input(_Part):
    datatype: str
    # No model has more axes, and the cost of checking a shape grows with its length.
    shape: list[int] = Field(max_length=32)
    data: Any = None


class _Document(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    id: str = ""
    parameters: Parameters = Field(default_factory=dict[str, bool | int | float | str])
    inputs: list[_Input] = Field(max_length=_MAX_PARTS)
    outputs: list[_Part] = Field(default_factory=list[_Part], max_length=_MAX_PARTS)


class InferDocument:
    """A parsed request: its message, and which outputs the response returns in binary."""

    def __init__(self, name: str, version: str, body: bytes, json_bytes: int | None) -> None:
        """Parse a request.

        Args:
            name: the model in the path.
            version: the version in the path; empty if there is none.
            body: JSON, followed by the data of binary inputs.
            json_bytes: size of the JSON; None without binary inputs.

        Raises:
            InvalidArgumentError: invalid JSON, wrong structure, wrong type of numbers, or sizes that do not match.
        """
        document = _read(body if json_bytes is None else body[:json_bytes])
        self.message = pb.ModelInferRequest(model_name=name, model_version=version, id=document.id)
        _copy_parameters("parameters", document.parameters, self.message)
        rest = memoryview(body)[len(body) if json_bytes is None else json_bytes :]
        for index, given in enumerate(document.inputs):
            rest = self._add(f"inputs[{index}]", given, rest)
        if len(rest):
            raise InvalidArgumentError(
                "inputs", f"expected as many bytes as the binary_data_size of the inputs, got {len(rest)} more"
            )
        for index, output in enumerate(document.outputs):
            added = self.message.outputs.add(name=output.name)
            _copy_parameters(f"outputs[{index}].parameters", output.parameters, added)
        default = document.parameters.get("binary_data_output", False) is True
        self._all_binary = default and not document.outputs
        self._binary = {output.name for output in document.outputs if output.parameters.get("binary_data", default)}

    def json_bytes(self, response: pb.ModelInferResponse) -> int:
        """Bytes of the outputs that are returned as numbers in JSON."""
        pairs = zip(response.outputs, response.raw_output_contents, strict=True)
        return sum(len(content) for output, content in pairs if not self.is_binary(output.name))

    def is_binary(self, output: str) -> bool:
        """Whether an output is returned as bytes after the JSON."""
        return self._all_binary or output in self._binary

    def _add(self, field: str, given: _Input, rest: memoryview) -> memoryview:
        # Sizes in a message have 64 bits; a larger one matches no model either.
        shape = [max(-1, min(size, 2**62)) for size in given.shape]
        tensor = self.message.inputs.add(name=given.name, datatype=given.datatype, shape=shape)
        size = given.parameters.pop(_BINARY_SIZE, None)
        _copy_parameters(f"{field}.parameters", given.parameters, tensor)
        if size is None:
            self.message.raw_input_contents.append(_data(field, given))
            return rest
        if type(size) is not int or not 0 <= size <= len(rest) or given.data is not None:
            raise InvalidArgumentError(
                f"{field}.parameters.{_BINARY_SIZE}",
                f"expected the size of this input's bytes and no further data, got {size} with {len(rest)} bytes left",
            )
        self.message.raw_input_contents.append(bytes(rest[:size]))
        return rest[size:]


def response_document(request: InferDocument, response: pb.ModelInferResponse) -> tuple[bytes, bytes]:
    """JSON and the binary data after it."""
    binary: list[bytes] = []
    outputs: list[str] = []
    for output, content in zip(response.outputs, response.raw_output_contents, strict=True):
        fields: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if request.is_binary(output.name):
            fields["parameters"] = {_BINARY_SIZE: len(content)}
            binary.append(content)
            outputs.append(json.dumps(fields))
        else:
            data = json_arrays.text(np.frombuffer(content, json_arrays.DTYPES[output.datatype]))
            outputs.append(f'{json.dumps(fields)[:-1]}, "data": [{data}]}}')
    document: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        document["id"] = response.id
    text = f'{json.dumps(document)[:-1]}, "outputs": [{", ".join(outputs)}]}}'
    return text.encode(), b"".join(binary)


def _read(body: bytes) -> _Document:
    """A document, the data of its inputs as lists, or as arrays if they are long."""
    short, texts = json_arrays.cut(body)
    document = _parse(short)
    for index, given in enumerate(document.inputs):
        _put_back(f"inputs[{index}].data", given, texts)
    return document


def _put_back(field: str, given: _Input, texts: Mapping[str, bytes]) -> None:
    """Parse the numbers that were cut out of an input."""
    data: object = given.data
    if isinstance(data, dict) and given.datatype in json_arrays.DTYPES:
        key = next(iter(cast("dict[str, object]", data)), "")
        if key in texts:
            given.data = json_arrays.from_text(field, given.datatype, texts[key], given.shape)


def _parse(body: bytes) -> _Document:
    try:
        return _Document.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"]) or "request"
        raise InvalidArgumentError(
            field, f"expected a request of the Open Inference Protocol: {problem['msg']}"
        ) from error


def _data(field: str, given: _Input) -> bytes:
    """Numbers of a JSON array, nested or flat, as bytes."""
    if given.datatype not in json_arrays.DTYPES:
        # The check against the graph's data type comes first and has a better message.
        return b""
    # Not kept: the message has a copy, and both are large.
    data: object
    data, given.data = given.data, None
    if isinstance(data, np.ndarray):
        return data.tobytes()
    if not isinstance(data, list):
        raise InvalidArgumentError(f"{field}.data", f"expected an array of numbers, or {_BINARY_SIZE}, got none")
    return json_arrays.from_list(f"{field}.data", given.datatype, cast("list[object]", data), given.shape).tobytes()


def _copy_parameters(
    field: str,
    parameters: Parameters,
    message: pb.ModelInferRequest
    | pb.ModelInferRequest.InferInputTensor
    | pb.ModelInferRequest.InferRequestedOutputTensor,
) -> None:
    for name, value in parameters.items():
        parameter = message.parameters[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int) and -(2**63) <= value < 2**63:
            parameter.int64_param = value
        elif isinstance(value, str):
            parameter.string_param = value
        else:
            parameter.double_param = _double(f"{field}.{name[:60]}", value)


def _double(field: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InvalidArgumentError(field, "expected a number within the range of a double, got a larger one") from None
