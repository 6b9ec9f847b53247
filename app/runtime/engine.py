"""A bundle's graphs on a device.

Sessions are called from several threads at once (`app.batching.batcher`); ONNX Runtime
allows that, and nothing else here changes once it is made.

**A batch gives what its items give alone, bit for bit**, on a CPU and in the same precision: a
promise of the service, so images that happen to arrive together can't change each other's codes.
Measured with ONNX Runtime 1.32 on an AVX-512 processor, 1 and 2 threads, ten sizes from 8 × 8 to
256 × 256, batches of 2 to 16, presets `tiny` and `photo-f8`: convolutions and the quantizer's
matrix product are equal to the last bit whatever the batch, and whatever the tile. Reductions
are not: `ReduceMean` over a batch of one takes another path and differs in the last bit from
24 × 40 pixels on. So what reduces, the embedder and recognizers, runs item by item; they take
microseconds.

What stacking brings on a CPU is the cost of a call, and nothing once images are large (one
thread, µs per image, encoder + quantizer, 64 × 64):

    batch       1      2      4      8     16     32
    tiny       75     60     59     62     55     94
    photo-f8 2526   2493   2571   2615   2569   2582

At 256 × 256 a batch of 8 is 15 % to 45 % *slower* per image than one: it falls out of the cache.
Hence `max_batch_pixels` of 65,536 on a CPU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from app.errors import ImageTooLarge, Internal
from app.runtime.sessions import load_graph
from app.runtime.tiling import in_tiles
from bundle.manifest import MAIN_DECODER

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from app.runtime.device import Device
    from app.runtime.sessions import Precision
    from bundle import Bundle

# Pixels of one run: on a CPU as measured above; on CUDA what fills a GPU of the last years.
BATCH_PIXELS = {"cpu": 65_536, "cuda": 4_194_304}

# Pixels of one tile of a larger image. It bounds a run's memory, 110 MiB a megapixel to encode
# and 160 to decode with photo-f8. 2048 × 2048 with its halos: four make up a 4096 × 4096 image, and
# 8 % of what they compute is halo (in tiles of 2048 × 2048 at most it took six, and 12 %).
TILE_PIXELS = 2160**2

# Runs above this many pixels give their memory back, or a few large images would keep what they
# took for as long as the process lives. It costs 5 to 10 % of such a run.
_LARGE_RUN_PIXELS = 2**20

# Latents that the quantizer sees at once on a CPU: their distances to 4096 codes take 8 MiB and
# stay in the cache, which is 20 % faster than 64 MiB; of a megapixel they would take 256 MiB.
_QUANTIZER_LATENTS = 512

# What ONNX Runtime says where there is too little memory: its arena, C++, CUDA and its arena.
_OUT_OF_MEMORY = (
    "Failed to allocate memory",
    "bad_alloc",
    "out of memory",
    "smaller than requested bytes",
)


class Graphs:
    """A bundle's graphs, loaded on a device.

    Args:
        bundle: the opened bundle; each graph's bytes are checked again as they are loaded.
        device: device that all of them run on.
        precision: precision of encoder and decoder; a graph that lacks it runs in fp32.
        tile_pixels: larger images run in tiles of at most so many pixels, where the manifest
            says how far the graph reaches.

    Attributes:
        manifest: of the bundle.

    Raises:
        GraphRefused: a graph can't be loaded, or isn't what the manifest says.
        BundleError: a file changed since the bundle was opened.
    """

    def __init__(
        self, bundle: Bundle, device: Device, precision: Precision, tile_pixels: int = TILE_PIXELS
    ) -> None:
        self.device = device
        self.precision = precision
        self._tile_pixels = tile_pixels
        self.manifest = bundle.manifest
        prior = bundle.manifest.prior
        elsewhere = {n for s in prior.stages for n in (s.groups, s.members)} if prior else set()
        self._sessions = {
            name: load_graph(bundle, name, precision, device)
            for name in bundle.manifest.graphs
            if name not in elsewhere  # `app.runtime.prior` loads them
        }

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Codes of images.

        Args:
            pixels: uint8 `[n, h, w, 3]`, or what the manifest says of them, h and w multiples
                of the stride.

        Returns:
            int64 `[n, h/s, w/s]`; `[n, stages, h/s, w/s]` of a model of several stages.

        Raises:
            Internal: the encoder gave latents that are not finite.
        """
        if self.device.kind == "cpu":
            return self.quantize(self.latents(pixels))
        codes = self._in_tiles("encoder", pixels, self._encode_on_device)
        return np.moveaxis(codes, -1, 1) if codes.ndim == 4 else codes

    def latents(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the encoder alone makes of images, as `encode` takes them: `[n, d, h/s, w/s]`.

        Raises:
            Internal: they are not finite.
        """

        def run(tile: NDArray[np.uint8], options: Any) -> NDArray[np.float32]:
            made = self._run("encoder", tile, options)[0]
            return np.moveaxis(_check_finite(made, "latents"), 1, -1)

        return np.moveaxis(self._in_tiles("encoder", pixels, run), -1, 1)

    def quantize(self, latents: NDArray[np.float32]) -> NDArray[Any]:
        """Codes of latents `[n, d, h/s, w/s]`, as `encode` gives them."""
        n, _, rows, columns = latents.shape
        port = self.manifest.graphs["quantizer"].inputs[0]
        latents = latents.astype(port.dtype, copy=False)
        if self.device.kind != "cpu" or n * rows * columns <= _QUANTIZER_LATENTS:
            return self._run("quantizer", latents)[0]
        # Each latent's code depends on no other (bundle/FORMAT.md), so any division will do.
        together, band = 1, max(1, _QUANTIZER_LATENTS // columns)
        if rows <= band:
            together, band = max(1, _QUANTIZER_LATENTS // (rows * columns)), rows
        return np.concatenate(
            [
                np.concatenate(
                    [
                        self._run(
                            "quantizer", latents[first : first + together, :, row : row + band]
                        )[0]
                        for row in range(0, rows, band)
                    ],
                    axis=-2,
                )
                for first in range(0, n, together)
            ]
        )

    def decode(self, codes: NDArray[Any], graph: str = MAIN_DECODER) -> NDArray[np.uint8]:
        """Images of codes.

        Args:
            codes: integers `[n, h/s, w/s]`; of a model of several stages also
                `[n, stages, h/s, w/s]`, of the first ones.
            graph: name of the decoder's graph.

        Returns:
            uint8 `[n, h, w, 3]`.
        """

        def run(tile: NDArray[Any], options: Any) -> NDArray[np.uint8]:
            return self._run(graph, np.moveaxis(tile, -1, 1) if staged else tile, options)[0]

        staged = self.manifest.stages > 1
        if staged:
            # Tiles are cut from the axes behind the first one, so stages are the last one there.
            codes = np.moveaxis(codes[:, None] if codes.ndim == 3 else codes, 1, -1)
        return self._in_tiles(graph, codes, run)

    def embed(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Vectors of codes, of their first stage: float32 `[n, e]`, each of length 1.

        Args:
            codes: as `decode` takes them.

        Raises:
            Internal: the embedder gave a vector that is not finite.
        """
        vectors = [self._run("embedder", one[None])[0] for one in first_stage(codes)]
        return _check_finite(np.concatenate(vectors).astype(np.float32, copy=False), "embeddings")

    def recognize(
        self, graph: str, codes: NDArray[Any]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32] | None]]:
        """Class scores of codes, of their first stage.

        Args:
            graph: name of the recognizer's graph.
            codes: as `decode` takes them.

        Returns:
            For each item logits float32 `[classes]`, and class activation maps float32
            `[classes, h/s, w/s]` where the graph has a second output.

        Raises:
            Internal: a score or a map is not finite.
        """
        results = []
        for one in first_stage(codes):
            logits, *maps = self._run(graph, one[None])
            found = _check_finite(maps[0][0], "activation maps") if maps else None
            results.append((_check_finite(logits[0], "scores"), found))
        return results

    def _in_tiles(
        self, graph: str, values: NDArray[Any], run: Callable[[NDArray[Any], Any], NDArray[Any]]
    ) -> NDArray[Any]:
        """Encoder or a decoder, in one run or, if the image is large, in one for each tile."""
        stride = self.manifest.stride
        scale = (stride, 1) if graph == "encoder" else (1, stride)
        pixels = math.prod(values.shape[:3]) * scale[1] ** 2
        reach = self.manifest.graphs[graph].reach
        if reach is None or pixels <= self._tile_pixels:
            return run(values, self._options(pixels))
        most = self._tile_pixels // stride**2 // len(values)
        # Between its tiles an image keeps the memory that it will need again.
        return in_tiles(
            values, scale, reach, most, lambda tile, last: run(tile, self._options(pixels * last))
        )

    def _encode_on_device(self, pixels: NDArray[np.uint8], options: Any) -> NDArray[Any]:
        """Encoder and quantizer on a GPU, the latents staying there; stages are the last axis."""
        encoder, quantizer = self._sessions["encoder"], self._sessions["quantizer"]
        first = encoder.io_binding()
        first.bind_cpu_input(encoder.get_inputs()[0].name, np.ascontiguousarray(pixels))
        first.bind_output(encoder.get_outputs()[0].name, self.device.kind, self.device.index)
        encoder.run_with_iobinding(first, options)
        (latents,) = first.get_outputs()
        _check_finite(latents.numpy(), "latents")  # a copy of a byte or so for each pixel
        second = quantizer.io_binding()
        second.bind_ortvalue_input(quantizer.get_inputs()[0].name, latents)
        second.bind_output(quantizer.get_outputs()[0].name, "cpu")
        quantizer.run_with_iobinding(second, options)
        codes = np.asarray(second.get_outputs()[0].numpy())
        return np.moveaxis(codes, 1, -1) if codes.ndim == 4 else codes

    def _run(self, graph: str, values: NDArray[Any], options: Any = None) -> list[NDArray[Any]]:
        run = self._sessions[graph]
        dtype = self.manifest.graphs[graph].inputs[0].dtype
        feed = np.ascontiguousarray(values, dtype=dtype)
        try:
            outputs: list[NDArray[Any]] = run.run(None, {run.get_inputs()[0].name: feed}, options)
        except Exception as error:
            # ONNX Runtime has no class of its own for it.
            if any(sign in str(error) for sign in _OUT_OF_MEMORY):
                raise ImageTooLarge(
                    "there isn't enough memory here and now for an item of this size: "
                    "send a smaller one, or ask again later"
                ) from error
            raise
        return outputs

    def _options(self, pixels: int) -> Any:
        if pixels <= _LARGE_RUN_PIXELS:
            return None
        options = onnxruntime.RunOptions()
        arenas = f"cpu:0;gpu:{self.device.index}" if self.device.kind == "cuda" else "cpu:0"
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arenas)
        return options


def first_stage(codes: NDArray[Any]) -> NDArray[Any]:
    """Codes `[n, h/s, w/s]` of what may have an axis of stages."""
    return codes[:, 0] if codes.ndim == 4 else codes


def _check_finite(values: NDArray[Any], what: str) -> NDArray[Any]:
    if not np.isfinite(values).all():
        raise Internal(f"the model gave {what} that are not finite")
    return values
