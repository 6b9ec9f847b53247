"""`python -m benchmarks.compression DIR …`: real files of codes beside JPEG, WebP and AVIF.

Starts the service and asks it, for every picture, for both kinds of packed codes and for what they
decode to. What is compared are whole files, headers and all, as they would lie on a disk; that both
kinds decode to the same picture is checked on the way. Prints docs/compression.md's tables.
"""

from __future__ import annotations

import argparse
import http.client
import io
import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, features

from benchmarks.candidates import BUILD, ROOT, serving
from benchmarks.kodak import psnr
from benchmarks.servers import Server
from imaging.decode import decode_image
from imaging.headers import inspect_image

_PORT = 8498
_PACKED = "application/vnd.tessera.codes"
PLAIN, CODED = "codes", "codes, by context"
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
# Qualities from which curves are drawn, and the other options, Pillow's defaults written down.
PEERS: dict[str, tuple[dict[str, object], tuple[int, ...]]] = {
    "JPEG": ({"optimize": True}, (1, 3, 5, 8, 12, 18, 26, 36, 50)),
    "WebP": ({"method": 4}, (0, 3, 8, 15, 25, 40, 55, 70)),
    "AVIF": ({"speed": 6}, (5, 10, 15, 20, 25, 30, 35, 45, 55)),
}

Pixels = np.ndarray


@dataclass
class Point:
    """One setting of one codec, over all pictures.

    Attributes:
        rates: bits per pixel, of each picture.
        qualities: PSNR of each, dB.
        length: bytes of all files.
    """

    rates: list[float] = field(default_factory=list)
    qualities: list[float] = field(default_factory=list)
    length: int = 0

    def add(self, file: bytes, made: Pixels, wanted: Pixels) -> None:
        """Count one picture's file."""
        self.rates.append(8 * len(file) / (wanted.shape[0] * wanted.shape[1]))
        self.qualities.append(psnr(made, wanted))
        self.length += len(file)

    @property
    def rate(self) -> float:
        """Mean bits per pixel."""
        return float(np.mean(self.rates))

    @property
    def quality(self) -> float:
        """Mean PSNR, dB."""
        return float(np.mean(self.qualities))


class Service:
    """The service's answers, and how long it took for them."""

    def __init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", _PORT, timeout=120)

    def ask(self, route: str, body: bytes, content: str, accept: str) -> tuple[bytes, float]:
        """Body and milliseconds.

        Raises:
            SystemExit: the service refused.
        """
        started = time.perf_counter()
        self._connection.request("POST", route, body, {"Content-Type": content, "Accept": accept})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{route}: {answer.status} {data.decode('utf-8', 'replace')[:300]}")
        return data, 1000 * (time.perf_counter() - started)


def rate_at(points: Sequence[Point], quality: float) -> float | None:
    """Bits per pixel at which a curve reaches a PSNR; None beyond its ends.

    Between two points the logarithm of the rate is a straight line over the PSNR.
    """
    ordered = sorted(points, key=lambda point: point.quality)
    qualities = [point.quality for point in ordered]
    if not qualities[0] <= quality <= qualities[-1]:
        return None
    return math.exp(np.interp(quality, qualities, [math.log(point.rate) for point in ordered]))


def measure(paths: Iterable[Path]) -> tuple[dict[str, list[Point]], dict[str, list[float]]]:
    """Points by codec, ours first, and the milliseconds that recoding took."""
    service = Service()
    ours = {PLAIN: [Point()], CODED: [Point()]}
    settings = {name: q for name, (_, q) in PEERS.items() if _there(name)}
    theirs = {name: [Point() for _ in qualities] for name, qualities in settings.items()}
    times: dict[str, list[float]] = {"coding": [], "decoding": []}
    for path in paths:
        wanted = decode_image(inspect_image(path.read_bytes(), max_pixels=2**28)).pixels
        body = io.BytesIO()
        Image.fromarray(wanted).save(body, "PNG")
        by_context = f"{_PACKED};coding=context"
        plain, _ = service.ask("/v1/encode", body.getvalue(), "image/png", _PACKED)
        coded, coding = service.ask("/v1/recode", plain, _PACKED, by_context)
        back, decoding = service.ask("/v1/recode", coded, _PACKED, _PACKED)
        if back != plain:
            raise SystemExit(f"{path.name}: the codes that came back are others")
        decoded, _ = service.ask("/v1/decode", coded, _PACKED, "image/png")
        made = np.asarray(Image.open(io.BytesIO(decoded)))
        for name, file in ((PLAIN, plain), (CODED, coded)):
            ours[name][0].add(file, made, wanted)
        times["coding"].append(coding)
        times["decoding"].append(decoding)
        for name, points in theirs.items():
            for quality, point in zip(settings[name], points, strict=True):
                file = _encoded(name, wanted, quality)
                point.add(file, np.asarray(Image.open(io.BytesIO(file)).convert("RGB")), wanted)
        print(f"{path.name}: {len(plain)} → {len(coded)} bytes", file=sys.stderr)
    return ours | theirs, times


def tables(points: dict[str, list[Point]], times: dict[str, list[float]]) -> str:
    """What was measured, as Markdown."""
    plain, coded = points[PLAIN][0], points[CODED][0]
    lines = [
        f"{len(plain.rates)} pictures, {plain.length} bytes of packed codes, {coded.length} by "
        f"context: {1 - coded.length / plain.length:.1%} less, and the same codes.",
        "",
        "| | bits per pixel | PSNR, dB | takes, at that PSNR |",
        "|-|-|-|-|",
    ]
    lines += [f"| {n} | {points[n][0].rate:.4f} | {coded.quality:.2f} | |" for n in (PLAIN, CODED)]
    for name in [name for name in points if name not in {PLAIN, CODED}]:
        rate = rate_at(points[name], coded.quality)
        if rate is None:
            lines.append(f"| {name} | doesn't reach it | {coded.quality:.2f} | |")
        else:
            lines.append(
                f"| {name} | {rate:.4f} | {coded.quality:.2f} | "
                f"{rate / plain.rate - 1:+.0%} of {PLAIN}, "
                f"{rate / coded.rate - 1:+.0%} of {CODED} |"
            )
    lines += ["", "| codec | bits per pixel: PSNR, dB |", "|-|-|"]
    for name, curve in points.items():
        shown = ", ".join(f"{point.rate:.3f}: {point.quality:.2f}" for point in curve)
        lines.append(f"| {name} | {shown} |")
    lines += [""] + [
        f"{verb.capitalize()} by HTTP: {np.median(values):.0f} ms a picture at the median, "
        f"{max(values):.0f} at most."
        for verb, values in times.items()
    ]
    return "\n".join(lines)


def _encoded(name: str, image: Pixels, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, name.upper(), quality=quality, **PEERS[name][0])
    return file.getvalue()


def _there(name: str) -> bool:
    return name == "JPEG" or features.check(name.lower())


def main() -> int:
    """0 if everything was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compression", description=__doc__)
    parser.add_argument("data", type=Path, nargs="+", metavar="DIR", help="pictures")
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/photo-f8", metavar="DIR")
    options = parser.parse_args()
    paths = [
        path
        for folder in options.data
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _SUFFIXES
    ]
    if not paths:
        parser.error("no pictures there")
    environment = {"TESSERA_HOST": "127.0.0.1", **serving(options.bundle)}
    command = [sys.executable, "-m", "app", "serve", "--port", str(_PORT)]
    with Server(
        "tessera", command, _PORT, "/readyz", environment, ROOT, BUILD / "logs/compression.log"
    ) as server:
        server.wait_ready()
        print(tables(*measure(paths)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
