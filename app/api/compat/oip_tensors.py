"""Tensors as the Open Inference Protocol sends them: JSON, and the binary extension.

Sent as JSON, a tensor's `data` is its elements in row-major order, flat or nested. Sent as binary,
its bytes follow the JSON of the whole request or answer, in the order of the tensors, each as long
as its `binary_data_size` says; the header `Inference-Header-Content-Length` says how long the
JSON is. Numbers are little-endian; an element of BYTES is its length in 4 bytes, then itself.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from starlette.responses import Response

from app.api.media_types import JSON
from app.api.parsing import json_object
from app.errors import InvalidParameter, MalformedRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

HEADER = "inference-header-content-length"
BINARY = "application/octet-stream"
BYTES = "BYTES"

_DTYPES = {
    "BOOL": np.dtype("?"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
_DATATYPES = {dtype: name for name, dtype in _DTYPES.items()}
_MAX_AXES = 8
# Parameters of extensions that are not spoken here; to ignore them would give a wrong answer.
_REFUSED = ("shared_memory_region", "classification", "sequence_id")


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One input or output.

    Attributes:
        datatype: datatype, as the protocol names it.
        values: the elements, shaped; of BYTES a flat list, each `bytes` if it came as binary and
            `str` if it came as JSON.
    """

    datatype: str
    values: NDArray[Any] | list[bytes | str]

    @classmethod
    def of(cls, values: NDArray[Any]) -> Tensor:
        """A tensor of numbers."""
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        return cls(_DATATYPES[little.dtype], np.ascontiguousarray(little))


@dataclass(frozen=True, slots=True)
class Inference:
    """What a request asks.

    Attributes:
        id: the client's id of the request, which the answer repeats.
        inputs: input tensors by name.
        outputs: names of the outputs asked for, and whether each comes as binary; None for all of
            them.
        binary: whether outputs come as binary unless they say otherwise.
        parameters: parameters of the request.
    """

    id: str | None
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, bool] | None
    binary: bool
    parameters: Mapping[str, Any]


def datatype_of(dtype: str) -> str:
    """The protocol's name of a NumPy dtype."""
    return _DATATYPES[np.dtype(dtype).newbyteorder("<")]


def json_length(header: str | None, body_bytes: int) -> int:
    """How many bytes of a body are JSON.

    Args:
        header: the request's `Inference-Header-Content-Length`, if it has one that isn't empty.
        body_bytes: bytes of the whole body.

    Raises:
        MalformedRequest: not a number, or more than there are.
    """
    if not header:
        return body_bytes
    if not (header.isascii() and header.isdecimal()) or int(header) > body_bytes:
        raise MalformedRequest("Inference-Header-Content-Length is not within the body")
    return int(header)


def read_inference(body: bytes, json_bytes: int) -> Inference:
    """Read a request.

    Args:
        body: all of it.
        json_bytes: how many of them are JSON.

    Raises:
        MalformedRequest: it isn't as the protocol says.
        InvalidParameter: it uses an extension that isn't spoken here.
    """
    values = json_object(body[:json_bytes])
    parameters = _parameters(values)
    given_id = values.get("id")
    if given_id is not None and not isinstance(given_id, str):
        raise MalformedRequest("id must be a string")
    rest = memoryview(body)[json_bytes:]
    inputs: dict[str, Tensor] = {}
    for entry in _entries(values, "inputs"):
        inputs[entry["name"]], rest = _read(entry, rest)
    if rest:
        raise MalformedRequest(f"{len(rest)} bytes follow the last binary tensor")
    if not inputs:
        raise MalformedRequest("the request has no inputs")
    binary = parameters.get("binary_data_output") is True
    outputs = None
    if values.get("outputs"):
        outputs = {
            entry["name"]: _parameters(entry).get("binary_data", binary) is True
            for entry in _entries(values, "outputs")
        }
    return Inference(given_id, inputs, outputs, binary, parameters)


def _entries(values: dict[str, Any], what: str) -> list[dict[str, Any]]:
    entries = values.get(what)
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries
    ):
        raise MalformedRequest(f"{what} must be a list of objects with a name")
    if len({entry["name"] for entry in entries}) != len(entries):
        raise MalformedRequest(f"{what} has one name twice")
    return entries


def _parameters(values: dict[str, Any]) -> dict[str, Any]:
    given = values.get("parameters")
    if given is not None and not isinstance(given, dict):
        raise MalformedRequest("parameters must be an object")
    # null means absent, of each of them and of all.
    parameters = {name: value for name, value in (given or {}).items() if value is not None}
    for name in _REFUSED:
        if parameters.get(name):
            raise InvalidParameter(f"the extension that {name} belongs to is not supported")
    return parameters


def _read(entry: dict[str, Any], rest: memoryview) -> tuple[Tensor, memoryview]:
    """A tensor, and what is left of the binary part."""
    shape, datatype = entry.get("shape"), entry.get("datatype")
    if (
        not isinstance(shape, list)
        or len(shape) > _MAX_AXES
        or not all(type(side) is int and 0 <= side < 2**40 for side in shape)
    ):
        raise MalformedRequest("an input's shape must be a list of whole numbers")
    if not isinstance(datatype, str) or datatype not in {*_DTYPES, BYTES}:
        raise MalformedRequest(f"an input's datatype must be one of {', '.join(_DTYPES)}, {BYTES}")
    count = math.prod(shape)
    size = _parameters(entry).get("binary_data_size")
    if size is None:
        return Tensor(datatype, _from_json(entry.get("data"), datatype, shape, count)), rest
    if type(size) is not int or not 0 <= size <= len(rest):
        raise MalformedRequest("binary_data_size is more than what follows the JSON")
    chunk, rest = rest[:size], rest[size:]
    if datatype == BYTES:
        return Tensor(datatype, _split(chunk, count)), rest
    dtype = _DTYPES[datatype]
    if count * dtype.itemsize != size:
        raise MalformedRequest("an input's bytes are not what shape and datatype need")
    # A copy of its own where the bytes may lie at an odd address; pixels can't.
    array = np.frombuffer(chunk, dtype).reshape(shape)
    return Tensor(datatype, array if dtype.itemsize == 1 else array.copy()), rest


def _split(chunk: memoryview, count: int) -> list[bytes | str]:
    found: list[bytes | str] = []
    at = 0
    while at < len(chunk):
        length = int.from_bytes(chunk[at : at + 4], "little")
        if at + 4 + length > len(chunk):
            raise MalformedRequest("an element of BYTES is longer than the tensor")
        found.append(bytes(chunk[at + 4 : at + 4 + length]))
        at += 4 + length
    if len(found) != count:
        raise MalformedRequest("a tensor of BYTES has not as many elements as its shape says")
    return found


def _from_json(
    data: Any, datatype: str, shape: list[int], count: int
) -> NDArray[Any] | list[bytes | str]:
    if not isinstance(data, list):
        raise MalformedRequest("an input has neither data nor binary_data_size")
    if datatype == "FP16":
        raise MalformedRequest("FP16 has no JSON form: send the tensor as binary")
    if datatype == BYTES:
        # Some clients have kept TensorFlow Serving's form of binary strings.
        flat = [
            one["b64"] if isinstance(one, dict) and list(one) == ["b64"] else one
            for one in _flat(data)
        ]
        if len(flat) != count or not all(isinstance(text, str) for text in flat):
            raise MalformedRequest("data of BYTES must be as many strings as the shape says")
        return flat
    try:
        array = np.array(data)
    except ValueError as error:
        raise MalformedRequest("an input's data is ragged") from error
    kinds = {"B": "b", "U": "iu", "I": "iu", "F": "iuf"}[datatype[0]]
    if array.size != count or (count and array.dtype.kind not in kinds):
        raise MalformedRequest("an input's data is not what its shape and datatype say")
    dtype = _DTYPES[datatype]
    with np.errstate(over="ignore", invalid="ignore"):  # too large becomes infinite
        made = array.astype(dtype).reshape(shape)
    if kinds == "iu" and not np.array_equal(made.reshape(-1), array.reshape(-1)):
        raise MalformedRequest(f"an element is out of {datatype}'s range")
    return made


def _flat(data: list[Any]) -> list[Any]:
    while any(isinstance(element, list) for element in data):
        if not all(isinstance(element, list) for element in data):
            raise MalformedRequest("an input's data is ragged")
        data = [inner for element in data for inner in element]
    return data


def write_inference(
    asked: Inference, head: Mapping[str, Any], outputs: Mapping[str, Tensor]
) -> Response:
    """Write an answer.

    Args:
        asked: the request, parsed.
        head: model name, version and parameters of the answer.
        outputs: all outputs, by name.

    Raises:
        InvalidParameter: an output is asked for that there isn't, or FP16 as JSON.
    """
    wanted = dict.fromkeys(outputs, asked.binary) if asked.outputs is None else asked.outputs
    entries: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for name, binary in wanted.items():
        values = outputs[name].values
        assert isinstance(values, np.ndarray)  # noqa: S101  (no output is BYTES)
        entry: dict[str, Any] = {
            "name": name,
            "datatype": outputs[name].datatype,
            "shape": values.shape,
        }
        if binary:
            chunks.append(values.tobytes())
            entry["parameters"] = {"binary_data_size": len(chunks[-1])}
        elif entry["datatype"] == "FP16":
            raise InvalidParameter("FP16 has no JSON form: ask for binary_data")
        else:
            entry["data"] = values.reshape(-1)
        entries.append(entry)
    answer = {**head, **({} if asked.id is None else {"id": asked.id}), "outputs": entries}
    text = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if not chunks:
        return Response(text, media_type=JSON)
    return Response(b"".join([text, *chunks]), media_type=BINARY, headers={HEADER: str(len(text))})


def check_outputs(asked: Inference, there: Sequence[str]) -> None:
    """Refuse early what can't be answered.

    Raises:
        InvalidParameter: an output is asked for that there isn't.
    """
    for name in asked.outputs or ():
        if name not in there:
            raise InvalidParameter(f"there is no such output; there are: {', '.join(there)}")
