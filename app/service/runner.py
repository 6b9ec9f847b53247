"""Runs what requests ask for: images to codes, codes to images, either to vectors."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from app.batching.work import Work
from app.codecs.code_file import CodedGrid
from app.codecs.context_coder import coded_grid, decoded_grid
from app.codecs.grids import CodeGrid, first_stages, grid_shape
from app.runtime.operations import ENCODE, QUANTIZE, Operation
from app.service.context_coding import ContextCoding
from app.service.items import each_by_itself
from app.service.preprocessing import LIGHT_PIXELS, TINY_PIXELS, is_small_jpeg, preprocess
from app.service.results import Bits, Item, Recognition, Reconstruction
from bundle.manifest import MAIN_DECODER
from imaging.resize import crop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from numpy.typing import NDArray

    from app.batching.batcher import Batcher
    from app.batching.work import Done
    from app.errors import TesseraError
    from app.observability.request_context import RequestContext
    from app.runtime.model import Model
    from app.service.preprocessing import ImageInput, PreprocessingOptions
    from imaging.convert import ImageWarning
    from imaging.decode import DecodedImage

_T = TypeVar("_T")

# Codes as they are sent: plain, or coded by their context.
AnyGrid: TypeAlias = CodeGrid | CodedGrid


@dataclass(frozen=True, slots=True, eq=False)
class _Numbered:
    index: int
    image: ImageInput

    @property
    def name(self) -> str | None:
        return self.image.name


class Runner:
    """Runs the items of one request through the queue.

    Args:
        batcher: the queue.
        model: the model that runs all of the items.
        context: the request's context, for its stage times.
    """

    def __init__(self, batcher: Batcher, model: Model, context: RequestContext) -> None:
        self._batcher = batcher
        self._model = model
        self._context = context

    async def encode(
        self,
        images: Sequence[ImageInput],
        options: PreprocessingOptions,
        stages: int | None = None,
    ) -> list[Item[CodeGrid]]:
        """Images → codes of so many stages; None for what the model's manifest says.

        Raises:
            InvalidParameter: the model hasn't so many stages.
            TesseraError: every item failed; the error of the first.
        """
        # The quantizer makes all stages at once, so that any number of them runs together.
        wanted = self._model.stages(stages)

        def made(image: ImageInput, original: NDArray[np.uint8], codes: Any) -> CodeGrid:
            height, width, _ = original.shape
            return CodeGrid(first_stages(codes, wanted), width, height, image.name)

        return await self._each_image(ENCODE, images, options, made)

    async def reconstruct(
        self,
        images: Sequence[ImageInput],
        options: PreprocessingOptions,
        decoder: str = MAIN_DECODER,
        stages: int | None = None,
    ) -> list[Item[Reconstruction]]:
        """Images → what encoding, and decoding by that decoder's graph, makes of them, in one run.

        Raises:
            InvalidParameter: the model hasn't so many stages.
            TesseraError: every item failed; the error of the first.
        """
        wanted = self._model.stages(stages)
        operation = Operation("pixels", "pixels", decoder, wanted)

        def made(_: ImageInput, original: NDArray[np.uint8], decoded: Any) -> Reconstruction:
            height, width, _ = original.shape
            return Reconstruction(original, crop(decoded, width, height), wanted)

        return await self._each_image(operation, images, options, made)

    async def images(
        self, operation: Operation, images: Sequence[ImageInput], options: PreprocessingOptions
    ) -> list[Item[Any]]:
        """Images → whatever the operation of the model makes of their codes.

        Raises:
            TesseraError: every item failed; the error of the first.
        """
        return await self._each_image(operation, images, options, lambda _, __, result: result)

    async def recognize_images(
        self, graph: str, images: Sequence[ImageInput], options: PreprocessingOptions
    ) -> list[Item[Recognition]]:
        """Images → what that recognizer's graph makes of their codes, in one run.

        Raises:
            TesseraError: every item failed; the error of the first.
        """
        operation = Operation("pixels", "scores", graph)

        def made(_: ImageInput, original: NDArray[np.uint8], found: Any) -> Recognition:
            height, width, _ = original.shape
            logits, maps = found
            return Recognition(logits, maps, width, height)

        return await self._each_image(operation, images, options, made)

    async def recognize_codes(
        self, graph: str, grids: Sequence[tuple[int, AnyGrid | TesseraError]]
    ) -> list[Item[Recognition]]:
        """Codes → what that recognizer's graph makes of them.

        Raises:
            TesseraError: every item failed; the error of the first.
        """
        operation = Operation("codes", "scores", graph)

        async def one(grid: AnyGrid) -> Recognition:
            logits, maps = await self._codes(operation, grid, 1)
            return Recognition(logits, maps, grid.width, grid.height)

        return await self._each(one, grids)

    async def decode(
        self,
        grids: Sequence[tuple[int, AnyGrid | TesseraError]],
        decoder: str = MAIN_DECODER,
        stages: int | None = None,
    ) -> list[Item[NDArray[np.uint8]]]:
        """Codes → images by that decoder's graph, cropped to their true size.

        Of the codes the first stages are decoded, all that they have for None.

        Raises:
            TesseraError: every item failed; the error of the first.
        """
        operation = Operation("codes", "pixels", decoder)

        async def one(grid: AnyGrid) -> NDArray[np.uint8]:
            return crop(await self._codes(operation, grid, stages), grid.width, grid.height)

        return await self._each(one, grids)

    async def codes(
        self, operation: Operation, grids: Sequence[tuple[int, AnyGrid | TesseraError]]
    ) -> list[Item[Any]]:
        """Codes → whatever the operation of the model makes of their first stage.

        Raises:
            TesseraError: every item failed; the error of the first.
        """

        async def one(grid: AnyGrid) -> Any:
            return await self._codes(operation, grid, 1)

        return await self._each(one, grids)

    async def code(self, items: Sequence[Item[CodeGrid]]) -> list[Item[CodedGrid]]:
        """Codes that were made → the same coded by their context; what failed stays so.

        Raises:
            PriorNotFound: the model has no prior.
            TesseraError: every item failed; the error of the first.
        """
        self._model.prior_of()

        async def one(grid: CodeGrid) -> CodedGrid:
            prior = self._model.prior_of(stages=grid.stages)
            data = await self._run(ContextCoding.CODE, grid.codes.shape, grid.codes)
            return coded_grid(prior, grid, data)

        return await self._each(one, [(item.index, item.value) for item in items])

    async def plain(
        self, grids: Sequence[tuple[int, AnyGrid | TesseraError]], stages: int | None = None
    ) -> list[Item[CodeGrid]]:
        """Codes as they came → their first stages, decoded where they are coded by their context.

        Raises:
            TesseraError: every item failed; the error of the first.
        """

        async def one(grid: AnyGrid) -> CodeGrid:
            return await self._decoded(grid, stages)

        return await self._each(one, grids)

    async def bits(
        self, grids: Sequence[tuple[int, AnyGrid | TesseraError]], stages: int | None = None
    ) -> list[Item[Bits]]:
        """Codes → what each of them costs, coded by its context, in their first stages.

        Raises:
            PriorNotFound: the model has no prior.
            TesseraError: every item failed; the error of the first.
        """
        self._model.prior_of()

        async def one(grid: AnyGrid) -> Bits:
            plain = await self._decoded(grid, stages)
            codes = plain.codes
            self._model.prior_of(stages=plain.stages)
            bits = await self._run(ContextCoding.BITS, codes.shape, codes)
            return Bits(bits, grid.width, grid.height)

        return await self._each(one, grids)

    async def latents(self, latents: Sequence[NDArray[np.float32]]) -> list[Item[NDArray[Any]]]:
        """Latents `[d, rows, columns]` → codes.

        Raises:
            TesseraError: every item failed; the error of the first.
        """

        async def one(given: NDArray[np.float32]) -> NDArray[Any]:
            pixels = math.prod(given.shape[1:]) * self._model.manifest.stride**2
            work = Work((self._model, QUANTIZE, given.shape), given, pixels)
            done = await self._batcher.submit_prepared(work)
            self._note(done)
            self._context.codes += math.prod(given.shape[1:])
            codes: NDArray[Any] = done.result
            return codes

        return await self._each(one, list(enumerate(latents)))

    async def _each_image(
        self,
        operation: Operation,
        images: Sequence[ImageInput],
        options: PreprocessingOptions,
        made: Callable[[ImageInput, NDArray[np.uint8], Any], _T],
    ) -> list[Item[_T]]:
        """Run each image; `made` turns it, its pixels and the operation's result into a value."""
        warnings: dict[int, tuple[ImageWarning, ...]] = {}

        async def one(given: _Numbered) -> _T:
            original, result = await self._image(operation, given.image, options)
            warnings[given.index] = original.warnings
            return made(given.image, original.pixels, result)

        numbered = [_Numbered(*pair) for pair in enumerate(images)]
        items = await self._each(one, [(given.index, given) for given in numbered])
        for index, found in sorted(warnings.items()):
            if found:
                items[index] = replace(items[index], warnings=found)
                self._context.warn(index, (warning.code for warning in found))
        return items

    async def _image(
        self, operation: Operation, image: ImageInput, options: PreprocessingOptions
    ) -> tuple[DecodedImage, Any]:
        """The image as it went in, and what the operation made of it."""
        tiny = self._context.images == 1 and is_small_jpeg(image)
        most = TINY_PIXELS if tiny else LIGHT_PIXELS
        prepare = partial(preprocess, self._model, operation, image, options, most)
        done = await self._batcher.submit(prepare, at_once=tiny)
        self._note(done)
        height, width, _ = done.original.pixels.shape
        self._context.codes += math.prod(grid_shape(width, height, self._model.manifest.stride))
        return done.original, done.result

    async def _codes(self, operation: Operation, grid: AnyGrid, stages: int | None) -> Any:
        """What the operation makes of the first stages of codes; of all of them for None."""
        codes = (await self._decoded(grid, stages)).codes
        result = await self._run(operation, codes.shape, codes)
        self._context.codes += math.prod(grid.shape)
        return result

    async def _decoded(self, grid: AnyGrid, stages: int | None = None) -> CodeGrid:
        """The grid's first stages; where it came coded by its context, decoded first."""
        if isinstance(grid, CodedGrid):
            self._model.prior_of(grid.prior, grid.stages)
            shape = (grid.stages, *grid.shape)
            grid = decoded_grid(grid, await self._run(ContextCoding.DECODE, shape, grid))
        return grid if stages is None else grid.first(stages)

    async def _run(
        self, operation: Operation | ContextCoding, shape: tuple[int, ...], payload: Any
    ) -> Any:
        # All stages together make up one image.
        pixels = math.prod(shape[-2:]) * self._model.manifest.stride**2
        work = Work((self._model, operation, shape), payload, pixels)
        done = await self._batcher.submit_prepared(work)
        self._note(done)
        return done.result

    async def _each(
        self, one: Callable[[Any], Awaitable[_T]], inputs: Sequence[tuple[int, Any]]
    ) -> list[Item[_T]]:
        self._context.images = len(inputs)
        return await each_by_itself(one, inputs)

    def _note(self, done: Done) -> None:
        """Of several items, the slowest tells the time of a stage."""
        end = time.perf_counter()
        self._context.runs.append((done.batch_items, done.run_s))
        for stage, seconds in (
            ("infer", done.run_s),
            ("queue", done.queue_s),
            ("decode", done.prepare_s),
        ):
            self._context.add_stage(stage, end - seconds, end)
            end -= seconds
