"""`/v2`: the Open Inference Protocol, for Triton's and KServe's clients.

Each loaded model is seven of the protocol's models: its four graphs as they are, named
`photo-f8.encoder`, `.quantizer`, `.decoder` and `.embedder`, and what they make up together,
`photo-f8.encode`, `.decode` and `.embed`, which take images of any size, also as encoded files.
The bare name `photo-f8` means `photo-f8.encode`. Each of its recognizers is two more, such as
`photo-f8.recognizer.imagenette-10` and `photo-f8.classify.imagenette-10`; without a name behind
them, the first. All of it runs through the same queue, limits and errors as the rest of the
service.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter, Request, Response

from app.api.classification import probabilities_of
from app.api.compat.oip_models import CLASSIFY, COMPOSED, GRAPHS, RECOGNIZER, Inputs, Target
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
    V2Index,
    V2InferBody,
    V2Inferred,
    V2Live,
    V2Model,
    V2ModelReady,
    V2Names,
    V2Ready,
    V2Server,
)
from app.api.media_types import JSON
from app.api.openapi import reference
from app.api.request import HEAVY_NUMBERS, Call
from app.api.responses import json_response, whole
from app.errors import (
    CodeSpaceMismatch,
    InvalidParameter,
    NotAcceptable,
)
from app.runtime.operations import EMBED, EMBED_IMAGES, LATENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.batching.admission import Slots
    from app.service.results import Recognition


PROTOCOL = "Open Inference Protocol"

_FLOATS = {"FP16": np.float16, "FP32": np.float32}

_KEYED = ("unauthorized", "not_ready")
_NAMED = (*_KEYED, "model_not_found", "recognizer_not_found")
_OF = partial(operation, PROTOCOL)
_SERVER_READY = _OF("Is the service ready?", V2Ready, ("not_ready",), open_to_all=True)
_METADATA = _OF("What a model takes and gives", V2Model, _NAMED)
_READY = _OF("Is a model ready?", V2ModelReady, _NAMED)
_INFER = _OF(
    "Run a model",
    V2Inferred,
    (
        *("malformed_request", "unauthorized", "model_not_found", "not_acceptable"),
        *("code_space_mismatch", "body_too_large", "too_many_images", "image_too_large"),
        *("unsupported_media_type", "image_corrupt", "codes_invalid", "invalid_parameter"),
        *("overloaded", "internal", "not_ready", "deadline_exceeded", "recognizer_not_found"),
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
            "extensions": ["binary_tensor_data", "parameters", "model_repository"],
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
        {"name": f"{model.name}.{task}", "version": model.manifest.version, "state": "READY"}
        for model in request.app.state.service.models.by_name.values()
        for task in (
            *(*GRAPHS, *COMPOSED),
            *(
                f"{t}.{r}"
                for t in (RECOGNIZER, CLASSIFY)
                for r in sorted(model.manifest.recognizers)
            ),
        )
    ]


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
            "platform": "onnx_onnxv1" if target.task in {*GRAPHS, RECOGNIZER} else "tessera_bundle",
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


# --- inference -----------------------------------------------------------------------------


@router.post("/models/{name}/infer", **_INFER)
@router.post("/models/{name}/versions/{version}/infer", name="version_infer", **_INFER)
async def model_infer(request: Request, name: str, version: str | None = None) -> Response:
    """Run a graph, or several composed. One bad item fails the request."""
    call = Call(request)
    target = Target.named(call.models, name, version)
    async with call.body() as body, call.slots() as slots:
        size = json_length(request.headers.get(HEADER), len(body))
        asked = await call.parse(size, read_inference, body, size)
        check_outputs(asked, [port.name for port in target.outputs])
        floats = asked.parameters.get("float_datatype", "FP32")
        if floats not in _FLOATS:
            raise InvalidParameter("float_datatype must be FP16 or FP32")
        code_space = asked.parameters.get("code_space", target.model.manifest.code_space)
        if code_space != target.model.manifest.code_space:
            raise CodeSpaceMismatch("the codes are of another space than the model's")
        limits = request.app.state.service.limits
        outputs = await _run(call, slots, target, Inputs(target, asked, limits))
        with np.errstate(over="ignore"):  # too large for FP16 becomes infinite
            tensors = {
                key: Tensor.of(array.astype(_FLOATS[floats]) if array.dtype.kind == "f" else array)
                for key, array in outputs.items()
            }
        head = {
            "model_name": name,
            "model_version": target.model.manifest.version,
            "parameters": {
                "code_space": target.model.manifest.code_space,
                "precision": target.model.precision,
            },
        }
        numbers = sum(array.size for array in outputs.values())
        heavy = numbers > HEAVY_NUMBERS
        return await call.reply(write_inference, asked, head, tensors, heavy=heavy)


async def _run(call: Call, slots: Slots, target: Target, inputs: Inputs) -> dict[str, NDArray[Any]]:
    runner, task = call.runner(target.model), target.task
    if task == "quantizer":
        latents = inputs.latents()
        slots.take_up_to(len(latents))
        return {target.outputs[0].name: _stacked(whole(await runner.latents(latents)))}
    graph = target.recognizer.graph if target.recognizer else None
    if inputs.has("codes"):
        grids = list(enumerate(inputs.grids()))
        slots.take_up_to(len(grids))
        if task in {"decode", "decoder"}:
            return {target.outputs[0].name: _stacked(whole(await runner.decode(grids)))}
        if graph is not None:
            return _recognized(target, whole(await runner.recognize_codes(graph, grids)))
        return {target.outputs[0].name: _stacked(whole(await runner.codes(EMBED, grids)))}
    images = inputs.images()
    slots.take_up_to(len(images))
    options = call.preprocessing(None, "cover")
    if task == "encode":
        made = whole(await runner.encode(images, options))
        sizes = np.array([(grid.width, grid.height) for grid in made], np.int32)
        return {"codes": _stacked([grid.codes for grid in made]), "size": sizes}
    if graph is not None:
        return _recognized(target, whole(await runner.recognize_images(graph, images, options)))
    operation = LATENTS if task == "encoder" else EMBED_IMAGES
    items = await runner.images(operation, images, options)
    return {target.outputs[0].name: _stacked(whole(items))}


def _recognized(target: Target, found: list[Recognition]) -> dict[str, NDArray[Any]]:
    logits = _stacked([one.logits for one in found])
    names = [port.name for port in target.outputs]
    if target.task == CLASSIFY:
        return {names[0]: probabilities_of(logits).astype(np.float32)}
    maps = [one.maps for one in found if one.maps is not None]
    return dict(zip(names, (logits, _stacked(maps)) if maps else (logits,), strict=True))


def _stacked(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    if len({array.shape for array in arrays}) != 1:
        raise NotAcceptable("one tensor holds only results of one size: ask for each by itself")
    return np.stack(arrays)
