"""The code space: the identity of what a code means."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence

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
    digest = hashlib.sha256(_PREFIX)
    seen: set[str] = set()
    for name, shape, data in sorted(tensors, key=lambda tensor: tensor[0]):
        count = 1
        for length in shape:
            count *= length
        if name in seen:
            raise ValueError(f"two tensors named {name!r}")
        if len(data) != 4 * count:
            raise ValueError(f"{name!r}: {len(data)} bytes are not float32 of shape {list(shape)}")
        seen.add(name)
        encoded = name.encode()
        digest.update(struct.pack("<I", len(encoded)) + encoded)
        digest.update(struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
        digest.update(data)
    return digest.hexdigest()
