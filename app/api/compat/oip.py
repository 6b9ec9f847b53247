"""`/v2`: the Open Inference Protocol, for Triton's and KServe's clients.

Each loaded model is nine of the protocol's models: its four graphs as they are, named
`photo-f8.encoder`, `.quantizer`, `.decoder` and `.embedder`, and what they make up together,
`photo-f8.encode`, `.decode` and `.embed`, which take images of any size, and `.encode_image` and
`.embed_image`, which take encoded files. The bare name `photo-f8` means `photo-f8.encode`. Each of
its recognizers is four more, such as `photo-f8.recognizer.imagenette-10`, and `.classify`,
`.classify_image` and `.classify_codes`; without a name behind them, the first. Each of its further
decoders is two more, such as `photo-f8.decode.texture` and `photo-f8.decoder.texture`. All of it
runs through the same queue, limits and errors as the rest of the service.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter, Request, Response

from app.api.compat.oip_configuration import configuration
from app.api.compat.oip_inference import run
from app.api.compat.oip_inputs import Inputs
from app.api.compat.oip_models import Target
from app.api.compat.oip_tensors import (
    BINARY,
    HEADER,
    Tensor,
    check_outputs,
    json_length,
    read_inference,
    write_inference,
)
from app.api.compat.route_docs import operation
from app.api.compat.schemas import (
    V2Configuration,
    V2Index,
    V2InferBody,
    V2Inferred,
    V2Live,
    V2Model,
    V2ModelReady,
    V2Names,
    V2Ready,
    V2Server,
    V2Statistics,
)
from app.api.media_types import JSON
from app.api.openapi import reference
from app.api.request import HEAVY_NUMBERS, Call
from app.api.responses import json_response
from app.errors import CodeSpaceMismatch, InvalidParameter

if TYPE_CHECKING:
    from app.api.compat.oip_tensors import Inference

PROTOCOL = "Open Inference Protocol"

_FLOATS: dict[str, type[np.floating[Any]]] = {"FP16": np.float16, "FP32": np.float32}

_KEYED = ("unauthorized", "not_ready")
_NAMED = (*_KEYED, "model_not_found", "recognizer_not_found", "decoder_not_found")
_OF = partial(operation, PROTOCOL)
_SERVER_READY = _OF("Is the service ready?", V2Ready, ("not_ready",), open_to_all=True)
_METADATA = _OF("What a model takes and gives", V2Model, _NAMED)
_READY = _OF("Is a model ready?", V2ModelReady, _NAMED)
_CONFIGURATION = _OF("A model's configuration", V2Configuration, _NAMED)
_STATISTICS = _OF("What a model has done", V2Statistics, _NAMED)
_INFER = _OF(
    "Run a model",
    V2Inferred,
    (
        *("malformed_request", "unauthorized", "model_not_found", "not_acceptable"),
        *("code_space_mismatch", "body_too_large", "too_many_images", "image_too_large"),
        *("unsupported_media_type", "image_corrupt", "codes_invalid", "invalid_parameter"),
        *("overloaded", "internal", "not_ready", "deadline_exceeded", "recognizer_not_found"),
        "decoder_not_found",
    ),
    bodies={
        JSON: {"schema": reference(V2InferBody)},
        BINARY: {"schema": {"type": "string", "format": "binary"}},
    },
)

router = APIRouter(prefix="/v2")


# --- health and metadata -------------------------------------------------------------------


@router.get("", **_OF("What serves here", V2Server, ("unauthorized",)))
async def server_metadata(request: Request) -> Response:
    """Name, version and extensions."""
    return json_response(
        {
            "name": "tessera",
            "version": request.app.version,
            "extensions": [
                *("binary_tensor_data", "parameters", "model_repository"),
                *("model_configuration", "statistics"),
            ],
        }
    )


@router.get("/health/live", **_OF("Is the process alive?", V2Live, open_to_all=True))
async def server_live() -> Response:
    """As `/livez`."""
    return json_response({"live": True})


@router.get(
    "/health/ready", **_OF("Is the service ready?", V2Ready, ("not_ready",), open_to_all=True)
)
async def server_ready(request: Request) -> Response:
    """As `/readyz`."""
    request.app.state.service.check_ready()
    return json_response({"ready": True})


@router.get("/models", **_OF("Names of the models", V2Names, _KEYED))
async def model_names(request: Request) -> Response:
    """All that can be asked for."""
    return json_response({"models": [entry["name"] for entry in _index(request)]})


@router.post("/repository/index", **_OF("Models and versions", list[V2Index], _KEYED))
async def repository_index(request: Request) -> Response:
    """Triton's list of models."""
    return json_response(_index(request))


def _index(request: Request) -> list[dict[str, Any]]:
    return [
        {"name": target.name, "version": target.version, "state": "READY"}
        for model in request.app.state.service.models.by_name.values()
        for target in Target.all_of(model)
    ]


@router.get("/models/stats", **_OF("What all models have done", V2Statistics, _KEYED))
async def all_statistics(request: Request) -> Response:
    """Totals since the process started, of every model and version."""
    service = request.app.state.service
    targets = [
        target for model in service.models.by_name.values() for target in Target.all_of(model)
    ]
    stats = [service.inferences.of(target.name, target.version) for target in targets]
    return json_response({"model_stats": stats})


@router.get("/models/{name}", **_METADATA)
@router.get("/models/{name}/versions/{version}", name="version_metadata", **_METADATA)
async def model_metadata(request: Request, name: str, version: str | None = None) -> Response:
    """Inputs and outputs."""
    models = request.app.state.service.models
    target = Target.named(models, name, version)
    return json_response(
        {
            "name": name,
            "versions": models.versions(target.model.name),
            "platform": "onnx_onnxv1" if target.composed is None else "tessera_bundle",
            "inputs": [port.described() for port in target.inputs],
            "outputs": [port.described() for port in target.outputs],
        }
    )


@router.get("/models/{name}/ready", **_READY)
@router.get("/models/{name}/versions/{version}/ready", name="version_ready", **_READY)
async def model_ready(request: Request, name: str, version: str | None = None) -> Response:
    """It is loaded, and the service is ready."""
    service = request.app.state.service
    Target.named(service.models, name, version)
    service.check_ready()
    return json_response({"name": name, "ready": True})


@router.get("/models/{name}/config", **_CONFIGURATION)
@router.get("/models/{name}/versions/{version}/config", name="version_config", **_CONFIGURATION)
async def model_config(request: Request, name: str, version: str | None = None) -> Response:
    """Triton's configuration of a model: batch size, datatypes, and axes without the batch's."""
    service = request.app.state.service
    target = Target.named(service.models, name, version)
    return json_response({**configuration(target, service.limits), "name": name})


@router.get("/models/{name}/stats", **_STATISTICS)
@router.get("/models/{name}/versions/{version}/stats", name="version_statistics", **_STATISTICS)
async def model_statistics(request: Request, name: str, version: str | None = None) -> Response:
    """Totals since the process started: of one version, or of each that is loaded."""
    service = request.app.state.service
    target = Target.named(service.models, name, version)
    versions = [target.version]
    if version is None and "@" not in name:
        versions = service.models.versions(target.model.name)
    stats = [service.inferences.of(target.name, one, called=name) for one in versions]
    return json_response({"model_stats": stats})


# --- inference -----------------------------------------------------------------------------


@router.post("/models/{name}/infer", **_INFER)
@router.post("/models/{name}/versions/{version}/infer", name="version_infer", **_INFER)
async def model_infer(request: Request, name: str, version: str | None = None) -> Response:
    """Run a graph, or several composed. One bad item fails the request."""
    call = Call(request)
    target = Target.named(call.models, name, version)
    inferences = request.app.state.service.inferences
    failed = True
    try:
        async with call.body() as body, call.slots() as slots:
            size = json_length(request.headers.get(HEADER), len(body))
            asked = await call.parse(size, read_inference, body, size)
            floats = _floats(target, asked)
            limits = request.app.state.service.limits
            outputs = await run(call, slots, target, Inputs(target, asked, limits))
            with np.errstate(over="ignore"):  # too large for FP16 becomes infinite
                tensors = {
                    key: Tensor.of(array.astype(floats) if array.dtype.kind == "f" else array)
                    for key, array in outputs.items()
                }
            head = {
                "model_name": name,
                "model_version": target.version,
                "parameters": {
                    "code_space": target.model.manifest.code_space,
                    "precision": target.model.precision,
                },
            }
            heavy = sum(array.size for array in outputs.values()) > HEAVY_NUMBERS
            answer = await call.reply(write_inference, asked, head, tensors, heavy=heavy)
        failed = False
        return answer
    finally:
        inferences.add(target.name, target.version, call.context, failed=failed)


def _floats(target: Target, asked: Inference) -> type[np.floating[Any]]:
    """What floats of the answer are to be; and early, whether it can be given at all.

    Raises:
        InvalidParameter: an output that there isn't, or floats of another size.
        CodeSpaceMismatch: the codes are of another space than the model's.
    """
    check_outputs(asked, [port.name for port in target.outputs])
    floats = asked.parameters.get("float_datatype", "FP32")
    if floats not in _FLOATS:
        raise InvalidParameter("float_datatype must be FP16 or FP32")
    code_space = asked.parameters.get("code_space", target.model.manifest.code_space)
    if code_space != target.model.manifest.code_space:
        raise CodeSpaceMismatch("the codes are of another space than the model's")
    return _FLOATS[floats]
