"""An inference as gRPC sends it, and as `/v2/models/{name}/infer` takes and answers it.

Over HTTP tensors go by the binary extension: the JSON of the request, then the bytes of its
tensors. Raw contents of gRPC are those bytes as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from app.api.compat.oip_tensors import BYTES
from app.errors import MalformedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


def request_body(request: Any) -> tuple[bytes, int]:
    """A `ModelInferRequest` as the body of a request over HTTP.

    Returns:
        The body, and how many bytes of it are JSON.

    Raises:
        MalformedRequest: there are not as many raw contents as inputs, or a tensor's contents have
            no field for its datatype.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise MalformedRequest("raw_input_contents must be as many as inputs, or none")
    inputs, chunks = [], []
    for index, tensor in enumerate(request.inputs):
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "parameters": _values(tensor.parameters),
        }
        if raw or tensor.datatype == BYTES:
            chunk = raw[index] if raw else _joined(tensor.contents.bytes_contents)
            entry["parameters"]["binary_data_size"] = len(chunk)
            chunks.append(chunk)
        elif tensor.datatype in _CONTENTS:
            entry["data"] = list(getattr(tensor.contents, _CONTENTS[tensor.datatype]))
        else:
            raise MalformedRequest(
                f"contents have these datatypes: {', '.join(_CONTENTS)}; send others as "
                "raw_input_contents"
            )
        inputs.append(entry)
    asked = {
        "parameters": {**_values(request.parameters), "binary_data_output": True},
        "inputs": inputs,
        "outputs": [
            {"name": wanted.name, "parameters": {**_values(wanted.parameters), "binary_data": True}}
            for wanted in request.outputs
        ],
        **({"id": request.id} if request.id else {}),
    }
    head = orjson.dumps(asked)
    return b"".join([head, *chunks]), len(head)


def fill_response(response: Any, body: bytes, json_bytes: int) -> None:
    """Fill a `ModelInferResponse` from the body of an answer over HTTP, tensors as raw contents.

    Args:
        response: the message, empty.
        body: the whole body.
        json_bytes: how many bytes of it are JSON.
    """
    head = orjson.loads(body[:json_bytes])
    response.model_name, response.model_version = head["model_name"], head["model_version"]
    response.id = head.get("id", "")
    for name, value in head["parameters"].items():
        response.parameters[name].string_param = value
    at = json_bytes
    for tensor in head["outputs"]:
        response.outputs.add(
            name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"]
        )
        end = at + tensor["parameters"]["binary_data_size"]
        response.raw_output_contents.append(body[at:end])
        at = end


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: getattr(value, chosen)
        for name, value in parameters.items()
        if (chosen := value.WhichOneof("parameter_choice")) is not None
    }


def _joined(elements: Iterable[bytes]) -> bytes:
    """Elements of BYTES as the binary extension has them: each behind its length."""
    return b"".join(
        part for element in elements for part in (len(element).to_bytes(4, "little"), element)
    )
