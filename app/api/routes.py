"""The HTTP API. What the OpenAPI document says of each route is in `app.api.route_docs`."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from app.api import route_docs
from app.api.classification import Question, labels_reply
from app.api.media_types import JSON, NPY
from app.api.model_info import describe_model
from app.api.negotiation import choose
from app.api.parsing import Codes
from app.api.picture_responses import picture_form, pictures_reply, reconstructions_reply
from app.api.request import HEAVY_NUMBERS, Call
from app.api.responses import (
    CODE_FORMS,
    CODED,
    VECTOR_FORMS,
    bits_reply,
    coded_reply,
    codes_reply,
    json_response,
    vectors_reply,
)
from app.codecs.grids import CodeGrid
from app.codecs.npy import write_npy
from app.errors import CardNotFound, InvalidParameter, NotFound, Unauthorized
from app.runtime.operations import EMBED, EMBED_IMAGES
from app.runtime.registry import ModelsRefused
from app.settings import SettingsError
from bundle import BundleError
from bundle.manifest import MAX_STAGES
from imaging.resize import Fit

MARKDOWN = "text/markdown"
_CARD = "MODEL_CARD.md"

if TYPE_CHECKING:
    from app.service.lifecycle import Service

# Items from which on making labels of scores leaves the event loop: about half a millisecond.
_MANY_LABELLED = 16

ModelName = Annotated[str | None, Query(description=route_docs.MODEL, examples=["photo-f8"])]
Size = Annotated[str | None, Query(description=route_docs.SIZE, examples=["256x256"])]
Fitting = Annotated[Fit, Query(description=route_docs.FIT)]
SampleBits = Annotated[int | None, Query(ge=9, le=16, description=route_docs.SAMPLE_BITS)]
Quality = Annotated[int, Query(ge=1, le=100, description=route_docs.QUALITY)]
Stages = Annotated[int | None, Query(ge=1, le=MAX_STAGES, description=route_docs.STAGES)]
FirstStages = Annotated[int | None, Query(ge=1, le=MAX_STAGES, description=route_docs.FIRST_STAGES)]
Decoder = Annotated[
    str | None, Query(description=route_docs.DECODER, examples=["default", "texture"])
]
Encoding = Annotated[
    Literal["float", "base64"],
    Query(description=route_docs.ENCODING),
]

router = APIRouter()


@router.post("/v1/encode", **route_docs.ENCODE)
async def encode(
    request: Request,
    model: ModelName = None,
    size: Size = None,
    fit: Fitting = "cover",
    sample_bits: SampleBits = None,
    stages: Stages = None,
) -> Response:
    """Images → codes: for each image a grid of integers, one for each patch of pixels."""
    call = Call(request)
    chosen, options = call.models.get(model), call.preprocessing(size, fit, sample_bits)
    wanted = chosen.stages(stages)
    form = choose(call.accept, CODE_FORMS)
    if form == CODED:
        # Before any work is done that couldn't be answered.
        chosen.prior_of(stages=wanted)
    async with call.body() as body, call.slots() as slots:
        images = await call.images(body, slots)
        runner = call.runner(chosen)
        items = await runner.encode(images, options, wanted)
        if form == CODED:
            coded = await runner.code(items)
            return await call.reply(coded_reply, chosen, coded, chosen.precision, heavy=False)
        numbers = sum(i.value.codes.size for i in items if isinstance(i.value, CodeGrid))
        return await call.reply(
            codes_reply, form, chosen, items, chosen.precision, heavy=numbers > HEAVY_NUMBERS
        )


@router.post("/v1/decode", **route_docs.DECODE)
async def decode(
    request: Request,
    model: ModelName = None,
    decoder: Decoder = None,
    stages: FirstStages = None,
    quality: Quality = 90,
) -> Response:
    """Codes → images: takes what encoding answered, in any of its forms, unchanged."""
    call = Call(request)
    async with call.body() as body, call.slots() as slots:
        codes = await call.codes(body, slots, model)
        picture_form(call.accept, len(codes), codes.model.samples)
        graph = codes.model.decoder(decoder)
        items = await call.runner(codes.model).decode(codes.grids, graph, stages)
        return await call.reply(pictures_reply, call.accept, items, codes.model.samples, quality)


@router.post("/v1/recode", **route_docs.RECODE)
async def recode(request: Request, model: ModelName = None, stages: FirstStages = None) -> Response:
    """Codes → the same codes in another form: plain or by their context, JSON, packed or npy."""
    call = Call(request)
    form = choose(call.accept, CODE_FORMS)
    async with call.body() as body, call.slots() as slots:
        given = await call.codes(body, slots, model)
        if form == CODED:
            given.model.prior_of()  # before any work is done that couldn't be answered
        runner = call.runner(given.model)
        items = await runner.plain(given.grids, stages)
        if form == CODED:
            coded = await runner.code(items)
            return await call.reply(coded_reply, given.model, coded, given.precision, heavy=False)
        return await call.reply(codes_reply, form, given.model, items, given.precision)


@router.post("/v1/reconstruct", **route_docs.RECONSTRUCT)
async def reconstruct(
    request: Request,
    model: ModelName = None,
    size: Size = None,
    fit: Fitting = "cover",
    sample_bits: SampleBits = None,
    decoder: Decoder = None,
    stages: Stages = None,
    quality: Quality = 90,
) -> Response:
    """Images → what encoding and decoding makes of them, and how near that is."""
    call = Call(request)
    chosen, options = call.models.get(model), call.preprocessing(size, fit, sample_bits)
    graph, wanted = chosen.decoder(decoder), chosen.stages(stages)
    async with call.body() as body, call.slots() as slots:
        images = await call.images(body, slots)
        picture_form(call.accept, len(images), chosen.samples)
        items = await call.runner(chosen).reconstruct(images, options, graph, wanted)
        return await call.reply(reconstructions_reply, call.accept, chosen, items, quality)


@router.post("/v1/embed", **route_docs.EMBED)
async def embed(
    request: Request,
    model: ModelName = None,
    size: Size = None,
    fit: Fitting = "cover",
    sample_bits: SampleBits = None,
    encoding_format: Encoding = "float",
) -> Response:
    """Images or codes → vectors of length 1; an image and its codes have the same one."""
    call = Call(request)
    form = choose(call.accept, VECTOR_FORMS)
    options = call.preprocessing(size, fit, sample_bits)
    async with call.body() as body, call.slots() as slots:
        given = await call.images_or_codes(body, slots, model)
        runner = call.runner(given.model)
        if isinstance(given, Codes):
            items = await runner.codes(EMBED, given.grids)
        else:
            items = await runner.images(EMBED_IMAGES, given.inputs, options)
        return await call.reply(
            vectors_reply, form, given.model, items, encoding_format, heavy=False
        )


@router.post("/v1/classify", **route_docs.CLASSIFY)
async def classify(
    request: Request,
    model: ModelName = None,
    size: Size = None,
    fit: Fitting = "cover",
    sample_bits: SampleBits = None,
    recognizer: Annotated[str | None, Query(description=route_docs.RECOGNIZER)] = None,
    k: Annotated[int, Query(ge=1, le=1000, description=route_docs.LABELS)] = 5,
    map: Annotated[bool, Query(description=route_docs.MAP)] = False,  # noqa: A002 (contract)
) -> Response:
    """Images or codes → labels, by a recognizer that the model's bundle carries."""
    call = Call(request)
    choose(call.accept, (JSON,))
    options = call.preprocessing(size, fit, sample_bits)
    async with call.body() as body, call.slots() as slots:
        given = await call.images_or_codes(body, slots, model)
        question = Question.to(given.model, recognizer, k, with_map=map)
        runner = call.runner(given.model)
        if isinstance(given, Codes):
            items = await runner.recognize_codes(question.graph, given.grids)
        else:
            items = await runner.recognize_images(question.graph, given.inputs, options)
        heavy = map or len(items) > _MANY_LABELLED
        return await call.reply(labels_reply, question, items, heavy=heavy)


@router.post("/v1/bits", **route_docs.BITS)
async def bits(
    request: Request,
    model: ModelName = None,
    size: Size = None,
    fit: Fitting = "cover",
    stages: Stages = None,
    map: Annotated[bool, Query(description=route_docs.BITS_MAP)] = False,  # noqa: A002 (contract)
) -> Response:
    """Images or codes → how many bits their codes take, coded by their context: surprise."""
    call = Call(request)
    choose(call.accept, (JSON,))
    options = call.preprocessing(size, fit)
    async with call.body() as body, call.slots() as slots:
        given = await call.images_or_codes(body, slots, model)
        given.model.prior_of()  # before any work is done that couldn't be answered
        runner = call.runner(given.model)
        if isinstance(given, Codes):
            items = await runner.bits(given.grids, stages)
        else:
            wanted = given.model.stages(stages)
            given.model.prior_of(stages=wanted)
            encoded = await runner.encode(given.inputs, options, wanted)
            items = await runner.bits([(item.index, item.value) for item in encoded])
        reply = partial(bits_reply, with_map=map)
        return await call.reply(reply, given.model, items, heavy=map)


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


@router.get("/livez", **route_docs.LIVEZ)
async def livez() -> Response:
    """The process answers."""
    return json_response({"status": "alive"})


@router.get("/readyz", **route_docs.READYZ)
async def readyz(request: Request) -> Response:
    """Every loaded model has lately run for real on its device."""
    service = request.app.state.service
    service.check_ready()
    return json_response({"status": "ready", "models": list(service.models.by_name)})


@router.get("/metrics", **route_docs.METRICS)
async def metrics(request: Request) -> Response:
    """What the service counts, for Prometheus."""
    service = request.app.state.service
    if service.settings.metrics_port is not None:
        raise NotFound("metrics have a port of their own here (TESSERA_METRICS_PORT)")
    return metrics_reply(service)


def metrics_reply(service: Service) -> Response:
    """Everything counted so far, as Prometheus text."""
    return Response(
        service.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8"
    )
