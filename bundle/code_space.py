"""The code space: the identity of what a code means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bundle.tensor_digest import tensor_digest

_PREFIX = b"tessera code space 1\n"


def code_space_digest(tensors: Iterable[tuple[str, Sequence[int], bytes]]) -> str:
    """SHA-256 over codebook and decoder weights, lower-case hexadecimal.

    Two models share a code space exactly if every code means the same picture in
    both. The digest is of the float32 weights and not of the ONNX files, so
    that exporting anew, or in another precision, keeps it.

    Args:
        tensors: (name, shape, little-endian float32 bytes in C order) of the codebook,
            named `codebook`, and of each weight of the decoder; in any order.

    Raises:
        ValueError: two tensors of one name, or bytes that don't fit the shape.
    """
    return tensor_digest(_PREFIX, "float32", tensors)
