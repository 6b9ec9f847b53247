"""What the default model and the image reader make of the committed photographs, now.

    python tests/golden/golden.py        # `make golden`: writes tests/data/golden anew

Renew it only when a change is meant to move codes or pixels, and say so in the changelog: stored
codes of others have moved too. `test_golden.py` holds the present to what is written there.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "golden"
PHOTOS = sorted((ROOT / "tests" / "data" / "photos").glob("*.webp"))
# Formats whose decoders round as they please: JPEG in three kinds. The lossless ones are held to
# exact values elsewhere (tests/imaging).
OTHERS = [
    ROOT / "tests" / "data" / "corpus" / name
    for name in (
        "mozjpeg-testimgari.jpg",  # arithmetic coding
        "pillow-pil-sample-cmyk.jpg",
        "pillow-hopper-orientation-8.jpg",
        "pillow-transparent.webp",
    )
]
PRECISIONS = ("fp32", "fp16", "int8")
_THUMB = (48, 32)


def codes(precision: str) -> tuple[bytes, dict[str, float]]:
    """Encode and reconstruct all photographs with the default model, over HTTP.

    Returns:
        The packed codes, and for each photograph the PSNR of its reconstruction in dB.
    """
    running = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["running"]
    files = [("images", (path.name, path.read_bytes())) for path in PHOTOS]
    packed = {"accept": "application/vnd.tessera.codes"}
    with running(models_dir=ROOT / "models", precision=precision, device="cpu") as client:
        encoded = client.post("/v1/encode", files=files, headers=packed)
        rebuilt = client.post(
            "/v1/reconstruct", files=files, headers={"accept": "application/json"}
        )
    encoded.raise_for_status()
    rebuilt.raise_for_status()
    return encoded.content, {item["name"]: item["psnr"] for item in rebuilt.json()["data"]}


def pixels() -> dict[str, np.ndarray]:
    """Decode each file, whole and resized.

    Returns:
        By file name the picture, every fourth pixel of it, and by `name, small` the resized one;
        each uint8 `[h, w, 3]`.
    """
    from imaging.decode import decode_image
    from imaging.headers import inspect_image

    found = {}
    for path in PHOTOS + OTHERS:
        file = inspect_image(path.read_bytes(), max_pixels=10**6)
        found[path.name] = decode_image(file).pixels[::4, ::4]
        found[f"{path.name}, small"] = decode_image(file, _THUMB).pixels
    return found


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    psnr = {}
    for precision in PRECISIONS:
        packed, psnr[precision] = codes(precision)
        (GOLDEN / f"photo-f8.{precision}.tess").write_bytes(packed)
    (GOLDEN / "psnr.json").write_text(json.dumps(psnr, indent=1) + "\n")
    np.savez_compressed(GOLDEN / "pixels.npz", **pixels())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
