"""A bundle's graph as an ONNX Runtime session: from checked bytes, held to the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from app.runtime.device import Device, session
from bundle import Bundle, Tensor

Precision = Literal["fp32", "fp16", "int8"]

if TYPE_CHECKING:
    from collections.abc import Sequence


class GraphRefused(Exception):
    """A graph can't be loaded, isn't what the manifest says, or doesn't compute what it should."""


def require(holds: bool, message: str) -> None:
    """Raise GraphRefused with a message where something doesn't hold."""
    if not holds:
        raise GraphRefused(message)


def choose_precision(asked: str, device: Device, bundle: Bundle) -> Precision:
    """The precision that encoder and decoder run in.

    `auto` is fp16 on CUDA, where it is twice as fast and moves about 2 % of the codes, all of
    them near ties; and fp32 on a CPU, although int8 is about 2.5 times as fast on processors with
    VNNI: int8 moves about 10 % of the codes, so that one image would get different codes on
    different machines, and stored codes would stop matching when a replica moves. Who wants the
    speed says `TESSERA_PRECISION=int8`; decoded quality is within 0.1 dB.

    Args:
        asked: precision asked for: `auto`, `fp32`, `fp16` or `int8`.
        device: device that the graphs will run on.
        bundle: the bundle, which says what its encoder comes in.

    Raises:
        GraphRefused: the encoder doesn't come in the precision asked for.
    """
    there = bundle.precisions("encoder")
    if asked == "auto":
        return "fp16" if device.kind == "cuda" and "fp16" in there else "fp32"
    for precision in ("fp32", "fp16", "int8"):
        if precision == asked and precision in there:
            return precision
    failed = bundle.manifest.reason_left_out("encoder", asked)
    why = f" (left out at export: {failed})" if failed else ""
    raise GraphRefused(
        f"the encoder comes in {', '.join(there)}, not in {asked}{why}; "
        "set TESSERA_PRECISION to one of them, or to auto"
    )


def load_graph(bundle: Bundle, name: str, precision: Precision, device: Device) -> Any:
    """A session of one graph; in fp32 if it doesn't come in that precision.

    Raises:
        GraphRefused: it can't be loaded, or isn't what the manifest says.
        BundleError: its file changed since the bundle was opened.
    """
    chosen = precision if precision in bundle.precisions(name) else "fp32"
    graph = bundle.manifest.graphs[name]
    content, weights = bundle.read_graph(name, chosen), bundle.read_weights(name)
    try:
        made = session(content, device, weights)
    except Exception as error:
        raise GraphRefused(
            f"graph {name!r} ({chosen}) can't be loaded: {one_line(error)}"
        ) from error
    for declared, real in ((graph.inputs, made.get_inputs()), (graph.outputs, made.get_outputs())):
        if not _agree(declared, real):
            promised = ", ".join(f"{t.name} {t.dtype} {list(t.axes)}" for t in declared)
            there = ", ".join(f"{port.name} {port.type} {port.shape}" for port in real)
            raise GraphRefused(
                f"graph {name!r} ({chosen}) has {there}, but the manifest says {promised}"
            )
    return made


def one_line(error: Exception) -> str:
    """What an error says, on one line of bounded length."""
    return " ".join(str(error).split())[:300] or type(error).__name__


_TYPES = {"float32": "float", "float16": "float16"}


def _agree(declared: Sequence[Tensor], real: Sequence[Any]) -> bool:
    return len(declared) == len(real) and all(map(_agrees, declared, real))


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
