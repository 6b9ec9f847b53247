"""Makes the files beside it, by the tiny bundle and its prior.

    python tests/data/context_codes/make.py

They are golden: what is written here once is read, and written again, by every later version. Make
them anew only with another bundle, whose prior has another digest.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from app.codecs.code_file import CodedFile  # noqa: E402
from app.codecs.context_coder import code_grids, coded_grid  # noqa: E402
from app.codecs.grids import CodeGrid  # noqa: E402
from app.codecs.tess import pack_coded  # noqa: E402
from app.runtime.prior import Prior  # noqa: E402
from bundle import open_bundle  # noqa: E402
from imaging.resize import pad_to_multiple  # noqa: E402

FILES = {
    "one": [("lake.webp", (0, 0, 200, 120))],
    "several": [
        ("otter.webp", (10, 20, 91, 53)),
        ("lake.webp", (100, 60, 108, 68)),
        ("lake.webp", (0, 100, 150, 107)),
    ],
}


def main() -> None:
    """Encodes cuts of photographs and writes them."""
    bundle = open_bundle(HERE.parent / "bundles" / "tiny")
    manifest = bundle.manifest
    encoder, quantizer = (
        onnxruntime.InferenceSession(
            bundle.read_graph(name, "fp32"), providers=["CPUExecutionProvider"]
        )
        for name in ("encoder", "quantizer")
    )
    prior = Prior(bundle, manifest.prior)
    for stem, cuts in FILES.items():
        grids = []
        for name, box in cuts:
            image = Image.open(HERE.parent / "photos" / name).convert("RGB").crop(box)
            pixels = pad_to_multiple(np.asarray(image), manifest.stride)
            latents = encoder.run(None, {"pixels": pixels[None]})[0]
            codes = quantizer.run(None, {"latents": latents})[0][0]
            grids.append(CodeGrid(codes, *image.size, name))
        data = code_grids(prior, [grid.codes[None] for grid in grids])
        coded = [coded_grid(prior, grid, one) for grid, one in zip(grids, data, strict=True)]
        heads = (manifest.code_space, manifest.codebook_size, manifest.stride, "fp32")
        (HERE / f"{stem}.tess").write_bytes(pack_coded(CodedFile(*heads, coded)))
        images = [
            {"name": g.name, "width": g.width, "height": g.height, "codes": g.codes.tolist()}
            for g in grids
        ]
        text = json.dumps({"prior": prior.digest, "images": images})
        (HERE / f"{stem}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
