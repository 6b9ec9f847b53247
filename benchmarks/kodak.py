"""`python -m benchmarks.kodak DIR`: the default model through HTTP, against what its manifest says.

Starts the service, sends every picture of a folder through `/v1/reconstruct`, and compares the
mean PSNR with that of the evaluation at export. Prints start time and memory on the way.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.candidates import BUILD, ROOT, serving
from benchmarks.servers import Server
from bundle import open_bundle
from imaging.decode import decode_image
from imaging.headers import inspect_image

_PORT = 8497
# Both compute the same codes; what differs is the order of additions in the mean.
_TOLERANCE_DB = 0.01


def psnr(made: np.ndarray, wanted: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 images of one shape, dB."""
    error = np.mean((made.astype(np.float64) - wanted.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error))


def reconstruct(path: Path) -> tuple[float, float]:
    """PSNR of one file's reconstruction: ours from the pixels, and as its header says, dB."""
    connection = http.client.HTTPConnection("127.0.0.1", _PORT, timeout=60)
    headers = {"Content-Type": "application/octet-stream", "Accept": "image/png"}
    connection.request("POST", "/v1/reconstruct", path.read_bytes(), headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{path.name}: status {answer.status}")
    made, original = (
        decode_image(inspect_image(data, max_pixels=2**28)).pixels
        for data in (body, path.read_bytes())
    )
    measured = psnr(made, original)
    return measured, float(answer.headers["Tessera-PSNR"])


def main() -> int:
    """0 if HTTP and manifest agree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kodak", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DIR", help="Kodak's 24 photographs")
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/photo-f8", metavar="DIR")
    options = parser.parse_args()
    metrics = open_bundle(options.bundle).manifest.metrics
    environment = {"TESSERA_HOST": "127.0.0.1", **serving(options.bundle)}
    command = [sys.executable, "-m", "app", "serve", "--port", str(_PORT)]
    started = time.monotonic()
    with Server(
        "tessera", command, _PORT, "/readyz", environment, ROOT, BUILD / "logs/kodak.log"
    ) as server:
        server.wait_ready()
        print(f"start to ready: {time.monotonic() - started:.1f} s")
        print(f"memory at rest: {server.peak_memory_mib():.0f} MiB")
        before = server.cpu_s()
        time.sleep(20)
        print(f"idle: {(server.cpu_s() - before) / 20:.2%} of a core")
        pairs = [reconstruct(path) for path in sorted(options.data.glob("*.png"))]
    ours, said = (float(np.mean(values)) for values in zip(*pairs, strict=True))
    recorded = float(metrics["kodak"]["psnr"])
    print(f"{len(pairs)} pictures: {ours:.3f} dB from the pixels, {said:.3f} dB in the headers")
    print(f"the manifest says {recorded:.3f} dB")
    return 0 if abs(ours - recorded) <= _TOLERANCE_DB else 1


if __name__ == "__main__":
    raise SystemExit(main())
