"""The HTTP API's models: which there are, what is known of each, its code vectors, its card."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from app.api import route_docs
from app.api.media_types import JSON, NPY
from app.api.model_info import describe_model
from app.api.negotiation import choose
from app.api.responses import json_response
from app.codecs.npy import write_npy
from app.errors import CardNotFound, InvalidParameter, Unauthorized
from app.runtime.registry import ModelsRefused
from app.settings import SettingsError
from bundle import BundleError
from bundle.manifest import MAX_STAGES

MARKDOWN = "text/markdown"
_CARD = "MODEL_CARD.md"

router = APIRouter()


@router.get("/v1/models", **route_docs.MODELS)
async def list_models(request: Request) -> Response:
    """The loaded models, and which is the default."""
    choose(request.headers.get("accept"), (JSON,))
    models = request.app.state.service.models
    data = [describe_model(model, models.aliases(model)) for model in models.by_name.values()]
    return json_response({"object": "list", "default": models.default_name, "data": data})


@router.post("/v1/models:reload", **route_docs.RELOAD)
async def reload_models(request: Request) -> Response:
    """Load the models folder anew and serve it, if all of it is good. Needs keys to be set."""
    service = request.app.state.service
    if not service.keys:
        raise Unauthorized("reloading over HTTP needs TESSERA_API_KEYS to be set; or send SIGHUP")
    try:
        models = await service.reload()
    except (ModelsRefused, SettingsError) as error:
        raise InvalidParameter(f"not reloaded, what was loaded goes on serving: {error}") from error
    return json_response({"default": models.default_name, "models": list(models.by_name)})


@router.get("/v1/models/{name}", **route_docs.MODEL_OF_NAME)
async def get_model(
    request: Request, name: Annotated[str, Path(description=route_docs.MODEL_NAME)]
) -> Response:
    """What a model's manifest says of it, and how it runs here."""
    choose(request.headers.get("accept"), (JSON,))
    models = request.app.state.service.models
    model = models.get(name)
    return json_response(describe_model(model, models.aliases(model)))


@router.get("/v1/models/{name}/codebook", **route_docs.CODEBOOK)
async def get_codebook(
    request: Request,
    name: Annotated[str, Path(description=route_docs.MODEL_NAME)],
    stage: Annotated[int, Query(ge=1, le=MAX_STAGES, description=route_docs.STAGE)] = 1,
) -> Response:
    """The code vectors of a stage: float32, one row for each code."""
    model = request.app.state.service.models.get(name)
    if stage > len(model.codebooks):
        raise InvalidParameter(f"stage: the model has {len(model.codebooks)}")
    vectors = await asyncio.to_thread(model.code_vectors, stage - 1)
    if choose(request.headers.get("accept"), (JSON, NPY)) == NPY:
        return Response(write_npy(vectors.astype("<f4")), media_type=NPY)
    return json_response(
        {
            "model": model.name,
            "code_space": model.manifest.code_space,
            "codebook_size": len(vectors),
            "codebook_width": model.manifest.codebook_width,
            "vectors": vectors,
        }
    )


@router.get("/v1/models/{name}/card", **route_docs.CARD)
async def get_card(
    request: Request, name: Annotated[str, Path(description=route_docs.MODEL_NAME)]
) -> Response:
    """The model card: what it was trained on, how good it is, what it is not for."""
    form = choose(request.headers.get("accept"), (MARKDOWN, "text/plain"))
    bundle = request.app.state.service.models.get(name).bundle
    if _CARD not in bundle.manifest.files:
        raise CardNotFound("this model's bundle has no MODEL_CARD.md")
    try:
        text = await asyncio.to_thread(bundle.read, _CARD)
    except BundleError as error:
        raise CardNotFound("the card has changed since the model was loaded: reload") from error
    return Response(text, media_type=f"{form}; charset=utf-8")
