"""A second reader of `.tess` files, written from docs/codes-format.md alone.

It shares nothing with `app.codecs.tess`, not even NumPy, so that the page, and not the code, is
what the golden files are held against.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

PRECISIONS = ["unknown", "fp32", "fp16", "int8"]


def read_tess(data: bytes) -> dict[str, Any]:
    """Read a valid file into what its `.json` companion says."""
    assert data[:8] == bytes.fromhex("89 54 45 53 53 0d 0a 1a")
    assert zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little")
    version, stages = struct.unpack("<H8xH", data[8:20])
    assert (version == 1 and stages == 0) or (version == 2 and 2 <= stages <= 16)
    assert data[10] == 0, "coding method"
    stride = int.from_bytes(data[16:18], "little")
    at = 56
    sizes = [int.from_bytes(data[12:16], "little")]
    for _ in range(1, stages):
        sizes.append(int.from_bytes(data[at : at + 4], "little"))
        at += 4
    images = []
    for _ in range(int.from_bytes(data[20:24], "little")):
        width, height, rows, columns, payload_bytes = struct.unpack("<5I", data[at : at + 20])
        name_bytes = data[at + 20]
        at += 21
        name = data[at : at + name_bytes].decode()
        at += name_bytes
        payload = data[at : at + payload_bytes]
        at += payload_bytes
        assert (rows, columns) == ((height + stride - 1) // stride, (width + stride - 1) // stride)
        found = []
        for codebook_size in sizes:
            bits = 1
            while 2**bits < codebook_size:
                bits += 1
            length = (rows * columns * bits + 7) // 8
            stage, payload = payload[:length], payload[length:]
            string = "".join(f"{byte:08b}" for byte in stage)
            codes = [int(string[i * bits : (i + 1) * bits], 2) for i in range(rows * columns)]
            assert set(string[rows * columns * bits :]) <= {"0"}
            assert max(codes) < codebook_size
            found.append([codes[row * columns : (row + 1) * columns] for row in range(rows)])
        assert payload == b""
        images.append(
            {
                "name": name,
                "width": width,
                "height": height,
                "codes": found if len(found) > 1 else found[0],
            }
        )
    assert at == len(data) - 4
    return {
        "code_space": data[24:56].hex(),
        "codebook_size": sizes[0],
        **({"residual_sizes": sizes[1:]} if len(sizes) > 1 else {}),
        "stride": stride,
        "precision": PRECISIONS[data[11]],
        "images": images,
    }
