"""The digest of named tensors, by which code spaces and priors are told apart."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Sequence


def tensor_digest(
    prefix: bytes, dtype: str, tensors: Iterable[tuple[str, Sequence[int], bytes]]
) -> str:
    """SHA-256 over a prefix and over name, shape and numbers of tensors, lower-case hexadecimal.

    Args:
        prefix: says what the digest is of, so that no two kinds of digest agree by chance.
        dtype: of all tensors, four bytes a number; for messages.
        tensors: (name, shape, little-endian bytes in C order), in any order.

    Raises:
        ValueError: two tensors of one name, or bytes that don't fit the shape.
    """
    digest = hashlib.sha256(prefix)
    seen: set[str] = set()
    for name, shape, data in sorted(tensors, key=lambda tensor: tensor[0]):
        if name in seen:
            raise ValueError(f"two tensors named {name!r}")
        if len(data) != 4 * math.prod(shape):
            raise ValueError(f"{name!r}: {len(data)} bytes are not {dtype} of shape {list(shape)}")
        seen.add(name)
        encoded = name.encode()
        digest.update(struct.pack("<I", len(encoded)) + encoded)
        digest.update(struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
        digest.update(data)
    return digest.hexdigest()
