"""The HTTP API but for models; what the OpenAPI document says of routes: `app.api.route_docs`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from app.api import route_docs
from app.api.classification import Question, labels_reply
from app.api.media_types import JSON
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
from app.errors import NotFound
from app.runtime.operations import EMBED, EMBED_IMAGES
from bundle.manifest import MAX_STAGES
from imaging.resize import Fit

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
