"""A bundle's graphs on a device: loaded from checked bytes, held to the manifest, warmed up, run.

Everything here is called from one thread per device (`app.batching`), so sessions need no lock.

**A batch gives what its items give alone, bit for bit**, on a CPU and in the same precision: a
promise of the service, so images that happen to arrive together can't change each other's codes.
Measured with ONNX Runtime 1.32 on an AVX-512 processor, 1 and 2 threads, ten sizes from 8 × 8 to
256 × 256, batches of 2 to 16, presets `tiny` and `photo-f8`: convolutions and the quantizer's
matrix product are equal to the last bit whatever the batch. Reductions are not: `ReduceMean`
over a batch of one takes another path and differs in the last bit from 24 × 40 pixels on. So
what reduces, the embedder and recognizers, runs item by item; they take microseconds.

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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnxruntime

from app.device import Device, session
from app.errors import Internal
from bundle import Bundle, BundleError, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

Precision = Literal["fp32", "fp16", "int8"]

# Pixels of one run: on a CPU as measured above; on CUDA what fills a GPU of the last years.
BATCH_PIXELS = {"cpu": 65_536, "cuda": 4_194_304}

# Runs above this many pixels give their memory back, or a single 25-megapixel image would keep
# gigabytes for as long as the process lives.
_LARGE_RUN_PIXELS = 2**20

_WARM_UP_SIDES = (64, 256)


class GraphRefused(Exception):
    """A graph can't be loaded, isn't what the manifest says, or doesn't compute what it should."""


def choose_precision(asked: str, device: Device, bundle: Bundle) -> Precision:
    """The precision that encoder and decoder run in.

    `auto` is fp16 on CUDA, where it is twice as fast and moves about 2 % of the codes, all of
    them near ties; and fp32 on a CPU, although int8 is about 2.5 times as fast on processors with
    VNNI: int8 moves about 10 % of the codes, so that one image would get different codes on
    different machines, and stored codes would stop matching when a replica moves. Who wants the
    speed says `TESSERA_PRECISION=int8`; decoded quality is within 0.1 dB.

    Args:
        asked: `auto`, `fp32`, `fp16` or `int8`.
        device: where the graphs will run.
        bundle: which says what its encoder comes in.

    Raises:
        GraphRefused: the encoder doesn't come in the precision asked for.
    """
    there = bundle.precisions("encoder")
    if asked == "auto":
        return "fp16" if device.kind == "cuda" and "fp16" in there else "fp32"
    for precision in ("fp32", "fp16", "int8"):
        if precision == asked and precision in there:
            return precision
    raise GraphRefused(f"the encoder comes in {', '.join(there)}, not in {asked}")


class Graphs:
    """A bundle's graphs, loaded on a device.

    Args:
        bundle: opened; each graph's bytes are checked again as they are loaded.
        device: where all of them run.
        precision: of encoder and decoder; a graph that lacks it runs in fp32.

    Raises:
        GraphRefused: a graph can't be loaded, or isn't what the manifest says.
        BundleError: a file changed since the bundle was opened.
    """

    def __init__(self, bundle: Bundle, device: Device, precision: Precision) -> None:
        self.device = device
        self.precision = precision
        self._manifest = bundle.manifest
        self._code_dtype = np.dtype(bundle.manifest.graphs["decoder"].inputs[0].dtype)
        self._sessions = {
            name: _load(bundle, name, precision, device) for name in bundle.manifest.graphs
        }

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Codes of images.

        Args:
            pixels: uint8 `[n, h, w, 3]`, h and w multiples of the stride.

        Returns:
            int32 or int64 `[n, h/s, w/s]`, as the bundle's quantizer gives them.

        Raises:
            Internal: the encoder gave latents that are not finite.
        """
        encoder, quantizer = self._sessions["encoder"], self._sessions["quantizer"]
        options = self._run_options(pixels.shape[0] * pixels.shape[1] * pixels.shape[2])
        # The latents stay where they are made: on CUDA they never cross to the host.
        first = encoder.io_binding()
        first.bind_cpu_input(encoder.get_inputs()[0].name, np.ascontiguousarray(pixels))
        first.bind_output(encoder.get_outputs()[0].name, self.device.kind, self.device.index)
        encoder.run_with_iobinding(first, options)
        (latents,) = first.get_outputs()
        if self.device.kind == "cpu":
            _check_finite(latents.numpy(), "latents")
        second = quantizer.io_binding()
        second.bind_ortvalue_input(quantizer.get_inputs()[0].name, latents)
        second.bind_output(quantizer.get_outputs()[0].name, "cpu")
        quantizer.run_with_iobinding(second, options)
        return np.asarray(second.get_outputs()[0].numpy())

    def latents(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the encoder alone makes of images, as `encode` takes them: `[n, d, h/s, w/s]`.

        Raises:
            Internal: they are not finite.
        """
        run = self._sessions["encoder"]
        size = pixels.shape[0] * pixels.shape[1] * pixels.shape[2]
        feed = {run.get_inputs()[0].name: np.ascontiguousarray(pixels)}
        return _check_finite(run.run(None, feed, self._run_options(size))[0], "latents")

    def quantize(self, latents: NDArray[np.float32]) -> NDArray[Any]:
        """Codes of latents `[n, d, h/s, w/s]`, as `encode` gives them."""
        run = self._sessions["quantizer"]
        port = self._manifest.graphs["quantizer"].inputs[0]
        return np.asarray(run.run(None, {port.name: latents.astype(port.dtype, copy=False)})[0])

    def decode(self, codes: NDArray[Any]) -> NDArray[np.uint8]:
        """Images of codes: integers `[n, h/s, w/s]` in `[0, K)` → uint8 `[n, h, w, 3]`."""
        pixels = codes.size * self._manifest.stride**2
        return np.asarray(self._run("decoder", codes, self._run_options(pixels))[0])

    def embed(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Vectors of codes: integers `[n, h/s, w/s]` → float32 `[n, e]`, each of length 1.

        Raises:
            Internal: the embedder gave a vector that is not finite.
        """
        vectors = [self._run("embedder", one[None])[0] for one in codes]
        return _check_finite(np.concatenate(vectors).astype(np.float32, copy=False), "embeddings")

    def recognize(
        self, graph: str, codes: NDArray[Any]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32] | None]]:
        """Class scores of codes.

        Args:
            graph: name of the recognizer's graph.
            codes: integers `[n, h/s, w/s]`.

        Returns:
            For each item logits float32 `[classes]`, and class activation maps float32
            `[classes, h/s, w/s]` where the graph has a second output.

        Raises:
            Internal: a score or a map is not finite.
        """
        results = []
        for one in codes:
            logits, *maps = self._run(graph, one[None])
            found = _check_finite(maps[0][0], "activation maps") if maps else None
            results.append((_check_finite(logits[0], "scores"), found))
        return results

    def warm_up(self) -> None:
        """Run every graph, and hold what comes out to the manifest.

        Raises:
            GraphRefused: a graph fails, or gives another shape, dtype or range than it should.
        """
        stride = self._manifest.stride
        for side in _WARM_UP_SIDES:
            side = math.ceil(side / stride) * stride
            # A ramp, not noise: the same every time, with every level in it.
            ramp = np.arange(side * side * 3, dtype=np.uint32).reshape(1, side, side, 3) >> 4
            try:
                self._check(ramp.astype(np.uint8))
            except GraphRefused:
                raise
            except Exception as error:
                raise GraphRefused(f"its graphs don't run: {_one_line(error)}") from error

    def _check(self, pixels: NDArray[np.uint8]) -> None:
        manifest = self._manifest
        grid = (1, *(side // manifest.stride for side in pixels.shape[1:3]))
        codes = self.encode(pixels)
        _expect(codes.shape == grid, f"codes of {pixels.shape} are {codes.shape}, not {grid}")
        _expect(
            int(codes.min()) >= 0 and int(codes.max()) < manifest.codebook_size,
            f"codes are not within 0…{manifest.codebook_size - 1}",
        )
        decoded = self.decode(codes)
        _expect(
            decoded.shape == pixels.shape and decoded.dtype == np.uint8,
            f"decoded images are {decoded.dtype} {decoded.shape}, not uint8 {pixels.shape}",
        )
        vector = self.embed(codes)
        _expect(
            vector.shape == (1, manifest.embedding_size)
            and abs(float(np.linalg.norm(vector)) - 1) < 1e-2,
            f"embeddings are not unit vectors of {manifest.embedding_size} numbers",
        )
        for name, recognizer in manifest.recognizers.items():
            ((logits, maps),) = self.recognize(recognizer.graph, codes)
            classes = len(recognizer.classes)
            _expect(
                logits.shape == (classes,),
                f"recognizer {name!r} doesn't give one score for each of its classes",
            )
            _expect(
                maps is None or maps.shape == (classes, *codes.shape[1:]),
                f"recognizer {name!r} doesn't give one map of the code grid for each class",
            )

    def _run(self, graph: str, codes: NDArray[Any], options: Any = None) -> list[NDArray[Any]]:
        run = self._sessions[graph]
        feed = np.ascontiguousarray(codes, dtype=self._code_dtype)
        outputs: list[NDArray[Any]] = run.run(None, {run.get_inputs()[0].name: feed}, options)
        return outputs

    def _run_options(self, pixels: int) -> Any:
        if pixels <= _LARGE_RUN_PIXELS:
            return None
        options = onnxruntime.RunOptions()
        arenas = "cpu:0" if self.device.kind == "cpu" else f"cpu:0;gpu:{self.device.index}"
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arenas)
        return options


def _load(bundle: Bundle, name: str, precision: Precision, device: Device) -> Any:
    chosen = precision if precision in bundle.precisions(name) else "fp32"
    graph = bundle.manifest.graphs[name]
    content = bundle.read_graph(name, chosen)
    try:
        made = session(content, device)
    except BundleError:
        raise
    except Exception as error:
        raise GraphRefused(
            f"graph {name!r} ({chosen}) can't be loaded: {_one_line(error)}"
        ) from error
    for declared, real in ((graph.inputs, made.get_inputs()), (graph.outputs, made.get_outputs())):
        promised = ", ".join(f"{t.name} {t.dtype} {list(t.axes)}" for t in declared)
        there = ", ".join(f"{port.name} {port.type} {port.shape}" for port in real)
        _expect(
            len(declared) == len(real) and all(map(_agrees, declared, real)),
            f"graph {name!r} ({chosen}) has {there}, but the manifest says {promised}",
        )
    return made


_TYPES = {"float32": "float", "float16": "float16"}


def _agrees(declared: Tensor, real: Any) -> bool:
    return (
        declared.name == real.name
        and real.type == f"tensor({_TYPES.get(declared.dtype, declared.dtype)})"
        and len(declared.axes) == len(real.shape)
        and all(
            # An axis that the manifest calls dynamic must not be fixed in the graph; one that it
            # fixes may be unknown to the graph, and then shows at warm-up.
            axis == length
            if isinstance(axis, int) and isinstance(length, int)
            else isinstance(axis, int) or not isinstance(length, int)
            for axis, length in zip(declared.axes, real.shape, strict=True)
        )
    )


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise GraphRefused(message)


def _check_finite(values: NDArray[Any], what: str) -> NDArray[Any]:
    if not np.isfinite(values).all():
        raise Internal(f"the model gave {what} that are not finite")
    return values


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
