"""Whatever a request holds, reading it ends in tensors or in one of our errors."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.api.compat.oip_tensors import (
    Inference,
    Tensor,
    json_length,
    read_inference,
    write_inference,
)
from app.errors import InvalidParameter, MalformedRequest

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["codes", "pixels", 1]),
        "shape": st.lists(st.integers(-1, 4), max_size=4) | JSON,
        "datatype": st.sampled_from(["UINT8", "INT8", "INT64", "FP16", "FP32", "BOOL", "BYTES"]),
        "data": JSON,
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data_size": st.integers(-1, 20), "classification": JSON}
        ),
    },
)


@given(
    st.fixed_dictionaries({}, optional={"inputs": st.lists(ENTRY, max_size=3) | JSON, "id": JSON}),
    st.binary(max_size=20),
)
@example({"inputs": [{"name": "a", "shape": [1], "datatype": "FP32", "data": [1e300]}]}, b"")
@example({"inputs": [{"name": "a", "shape": [1], "datatype": "INT64", "data": [2**64 - 1]}]}, b"")
def test_any_request_is_read_or_refused(values, after):
    """Nothing but our own errors, and every tensor as long as its shape says."""
    head = orjson.dumps(values)
    try:
        asked = read_inference(head + after, len(head))
    except (MalformedRequest, InvalidParameter):
        return
    for tensor in asked.inputs.values():
        assert isinstance(tensor.values, (np.ndarray, list))


@given(st.binary(max_size=40), st.text(max_size=4))
def test_any_bytes_are_read_or_refused(body, header):
    """And any header."""
    with pytest.raises(MalformedRequest):
        read_inference(body, json_length(header, len(body)))


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "u4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("binary", [True, False])
def test_what_is_written_can_be_read(dtype, binary):
    """Every datatype there and back, FP16 as binary alone; big-endian comes out little."""
    array = np.arange(6).reshape(2, 3).astype(dtype)
    swapped = array.astype(array.dtype.newbyteorder(">"))
    asked = Inference("mine", {}, {"a": binary}, binary=False, parameters={})
    outputs = {"a": Tensor.of(swapped)}
    if dtype == "f2" and not binary:
        with pytest.raises(InvalidParameter, match="no JSON form"):
            write_inference(asked, {}, outputs)
        return
    response = write_inference(asked, {"model_name": "m"}, outputs)
    size = response.headers.get("inference-header-content-length")
    head = orjson.loads(response.body[: json_length(size, len(response.body))])
    assert head["id"] == "mine"
    again = orjson.dumps({"inputs": head["outputs"]})
    rest = response.body[len(response.body) if size is None else int(size) :]
    (back,) = read_inference(again + rest, len(again)).inputs.values()
    assert back.values.dtype == array.dtype
    assert np.array_equal(back.values, array)


def test_null_means_absent():
    """Of parameters as a whole, of one of them, of the id and of the outputs."""
    entry = {"name": "x", "shape": [1], "datatype": "INT32", "data": [7], "parameters": None}
    body = {"id": None, "parameters": None, "inputs": [entry], "outputs": None}
    for parameters in (None, {"binary_data_output": None, "code_space": None}):
        text = orjson.dumps(body | {"parameters": parameters})
        asked = read_inference(text, len(text))
        assert (asked.id, asked.outputs, dict(asked.parameters)) == (None, None, {})
        assert asked.inputs["x"].values.tolist() == [7]
    entry["parameters"] = {"binary_data_size": None, "shared_memory_region": None}
    text = orjson.dumps(body)
    assert read_inference(text, len(text)).inputs["x"].values.tolist() == [7]
