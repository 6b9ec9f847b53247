"""Runs the Open Inference Protocol's models: inputs to outputs, through the service's queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from app.api.classification import probabilities_of
from app.api.compat.oip_models import CLASSIFY
from app.api.responses import whole
from app.errors import NotAcceptable
from app.runtime.operations import EMBED, EMBED_IMAGES, LATENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.api.compat.oip_inputs import Inputs
    from app.api.compat.oip_models import Target
    from app.api.request import Call
    from app.batching.admission import Slots
    from app.service.results import Recognition


async def run(call: Call, slots: Slots, target: Target, inputs: Inputs) -> dict[str, NDArray[Any]]:
    """Run what a request asks of one of the protocol's models, all of its items.

    Args:
        call: the request.
        slots: its slots in the queue; one more is taken for each item.
        target: the protocol's model.
        inputs: the request's inputs.

    Returns:
        The outputs by name, each of as many rows as there are items.

    Raises:
        TesseraError: an item can't be run; or NotAcceptable, as results differ in size.
    """
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
            decoded = await runner.decode(grids, target.decoder, inputs.stages)
            return {target.outputs[0].name: _stacked(whole(decoded))}
        if graph is not None:
            return _recognized(target, whole(await runner.recognize_codes(graph, grids)))
        return {target.outputs[0].name: _stacked(whole(await runner.codes(EMBED, grids)))}
    images = inputs.images()
    slots.take_up_to(len(images))
    options = call.preprocessing(None, "cover")
    if task == "encode":
        made = whole(await runner.encode(images, options, inputs.stages))
        sizes = np.array([(grid.width, grid.height) for grid in made], np.int32)
        codes = _stacked([grid.codes for grid in made])
        if codes.ndim < len(target.outputs[0].shape):
            codes = codes[:, None]  # the axis of stages, where one was asked for of several
        return {"codes": codes, "size": sizes}
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
