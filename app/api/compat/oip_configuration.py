"""A model's configuration, as Triton's extension of the Open Inference Protocol has it.

Tools such as `perf_analyzer` ask for it beside the metadata: how many items a request may hold, and
that requests are batched by the server. Its fields are those of Triton's `ModelConfig`.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_configuration.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.api.compat.oip_tensors import BYTES

if TYPE_CHECKING:
    from app.api.compat.oip_models import Port, Target
    from app.service.preprocessing import Limits

PLATFORM_OF_GRAPH = "onnxruntime_onnx"
PLATFORM_OF_COMPOSED = "tessera_bundle"


def configuration(target: Target, limits: Limits) -> dict[str, Any]:
    """The configuration of a model.

    Args:
        target: the protocol's model.
        limits: limits of one request; its images are the batch that a client may send.
    """
    on_gpu = target.model.graphs.device.kind != "cpu"
    return {
        "name": target.name,
        "platform": PLATFORM_OF_GRAPH if target.composed is None else PLATFORM_OF_COMPOSED,
        "backend": "onnxruntime" if target.composed is None else "tessera",
        "version_policy": {"all": {}},
        # The first axis of every tensor is the batch, and `dims` leave it out.
        "max_batch_size": limits.images,
        "input": [
            {
                **_tensor(port),
                "format": "FORMAT_NONE",
                "allow_ragged_batch": False,
                "optional": False,
            }
            for port in target.inputs
        ],
        "output": [{**_tensor(port), "label_filename": ""} for port in target.outputs],
        # Requests are gathered while a run is on; none waits for a timer.
        "dynamic_batching": {
            "preferred_batch_size": [],
            "max_queue_delay_microseconds": 0,
            "preserve_ordering": False,
        },
        "instance_group": [
            {
                "name": target.name,
                "kind": "KIND_GPU" if on_gpu else "KIND_CPU",
                "count": 1,
                "gpus": [],
            }
        ],
        "model_transaction_policy": {"decoupled": False},
        "parameters": {
            name: {"string_value": value}
            for name, value in (
                ("code_space", target.model.manifest.code_space),
                ("precision", target.model.precision),
            )
        },
    }


def _tensor(port: Port) -> dict[str, Any]:
    return {
        "name": port.name,
        "data_type": "TYPE_STRING" if port.datatype == BYTES else f"TYPE_{port.datatype}",
        "dims": port.shape[1:],
        "is_shape_tensor": False,
    }
