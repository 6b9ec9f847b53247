"""A photograph, its codes as a mosaic, and what the codes decode to, side by side.

    python examples/mosaic.py photo.jpg mosaic.webp [http://localhost:8000]

Each tile of the mosaic is one code. Its colour comes from the code's vector: the first three
principal axes of the codebook become red, green and blue, so that similar codes look alike.
"""

from __future__ import annotations

import io
import sys

import httpx
import numpy as np
from PIL import Image


def code_colours(codebook: np.ndarray) -> np.ndarray:
    """Code vectors float32 `[K, d]` → colours uint8 `[K, 3]`."""
    centred = codebook - codebook.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    places = centred @ axes[:3].T
    low, high = np.percentile(places, [2, 98], axis=0)
    return (np.clip((places - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def main(photograph: str, target: str, url: str = "http://localhost:8000") -> None:
    """Encode, draw, decode, and write the three beside one another."""
    with httpx.Client(base_url=url, timeout=60) as service, Image.open(photograph) as opened:
        original = opened.convert("RGB")
        body = io.BytesIO()
        original.save(body, "png")
        sent = {"content": body.getvalue(), "headers": {"Content-Type": "image/png"}}
        codes = service.post("/v1/encode", **sent).raise_for_status().json()
        picture = service.post("/v1/decode", json=codes).raise_for_status().content
        model = service.get(f"/v1/models/{codes['model']}").json()
        codebook = service.get(
            f"/v1/models/{codes['model']}/codebook", headers={"Accept": "application/x-npy"}
        )
    colours = code_colours(np.load(io.BytesIO(codebook.content), allow_pickle=False))
    grid = np.array(codes["data"][0]["codes"])
    # Of several stages the first shows the picture; the others refine it.
    tiles = colours[grid[0] if grid.ndim == 3 else grid]
    stride, (width, height) = model["stride"], original.size
    mosaic = Image.fromarray(tiles).resize(
        (tiles.shape[1] * stride, tiles.shape[0] * stride), Image.Resampling.NEAREST
    )
    gap = 8
    sheet = Image.new("RGB", (3 * width + 2 * gap, height), "white")
    sheet.paste(original, (0, 0))
    sheet.paste(mosaic.crop((0, 0, width, height)), (width + gap, 0))
    sheet.paste(Image.open(io.BytesIO(picture)), (2 * (width + gap), 0))
    sheet.save(target, quality=88)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
