"""`python -m benchmarks.perf_analyzer`: Triton's load tool, unmodified, on seven models of `/v2`.

`make perf-analyzer` installs the tool into an environment of its own and calls this. It starts the
service, has the tool load each model, and prints a table in Markdown of what the tool measured.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import os
import platform
import re
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.candidates import BUILD, ROOT, serving
from benchmarks.servers import Server
from bundle import open_bundle

_PORT = 8498
_GRPC_PORT = 8499
_PHOTO = ROOT / "tests/data/photos/lake.webp"
# Requests of each measurement.
_REQUESTS = 60
_TIMEOUT_S = 300


@dataclass(frozen=True)
class Load:
    """One model of the protocol, and what it is sent.

    Attributes:
        model: what follows the bundle's name.
        says: what one item of the load is.
        options: options of the tool that make it send that.
    """

    model: str
    says: str
    options: tuple[str, ...]


def loads(side: int, stride: int, latents: int, files: Path) -> list[Load]:
    """The seven loads.

    Args:
        side: side of the images in pixels, a multiple of the stride.
        stride: of the model.
        latents: channels of the latents.
        files: input data of the tool, with an encoded image.
    """
    cells = side // stride
    pixels, picture = f"--shape=pixels:{side},{side},3", f"{side} × {side} pixels"
    return [
        Load("encoder", picture, (pixels,)),
        # The tool's own random latents and codes would be any bits: not finite, not within range.
        Load(
            "quantizer",
            f"{cells} × {cells} latents",
            (f"--shape=latents:{latents},{cells},{cells}", "--input-data=zero"),
        ),
        Load(
            "decoder",
            f"{cells} × {cells} codes",
            (f"--shape=codes:{cells},{cells}", "--input-data=zero"),
        ),
        Load("encode", picture, (pixels,)),
        Load(
            "encode_image",
            f"{_PHOTO.name}, {_PHOTO.stat().st_size // 1024} KB",
            (f"--input-data={files}",),
        ),
        Load("embed", picture, (pixels,)),
        Load("classify", picture, (pixels,)),
    ]


def write_image(path: Path) -> None:
    """Input data of the tool: one image file as an element of BYTES, which its length precedes."""
    content = _PHOTO.read_bytes()
    element = base64.b64encode(struct.pack("<I", len(content)) + content).decode()
    path.write_text(json.dumps({"data": [{"image": {"b64": element}}]}))


def measure(
    tool: Path, name: str, load: Load, protocol: str, concurrency: int, stability: int
) -> dict[str, str] | None:
    """Run the tool on one model.

    Returns:
        The row of its table, by the names of its columns; None where no three measurements in a
        row were within `stability` percent, because the machine has other work.

    Raises:
        SystemExit: the tool has failed; with what it printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        command = [
            *(str(tool), "-m", f"{name}.{load.model}", "-i", protocol, "-f", str(table)),
            *("-u", f"127.0.0.1:{_GRPC_PORT if protocol == 'grpc' else _PORT}"),
            *("--measurement-mode=count_windows", f"--measurement-request-count={_REQUESTS}"),
            *(f"--stability-percentage={stability}", f"--concurrency-range={concurrency}"),
            *load.options,
        ]
        done = subprocess.run(
            command,
            env=_environment(tool),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        said = done.stdout + done.stderr
        if "Failed to obtain stable" in said and "had error" not in said:
            return None
        if not table.exists() or "Inference count: 0" in said:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        with table.open(newline="") as lines:
            (row,) = csv.DictReader(lines)
        return row


def _environment(tool: Path) -> dict[str, str]:
    """Ours, with the libraries that the tool needs and that its wheel lacks."""
    home = tool.resolve().parents[1]
    places = {str(one.parent) for one in home.rglob("lib*.so*") if _LIBRARY.match(one.name)}
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(places))}


def _figures(row: dict[str, str]) -> list[str]:
    columns = ("p50 latency", "p95 latency", "Server Queue", "Server Compute Infer")
    milliseconds = [f"{float(row[column]) / 1000:.1f}" for column in columns]
    return [f"{float(row['Inferences/Second']):.1f}", *milliseconds]


_LIBRARY = re.compile(r"lib(cudart|b64)\.so\.")


def main() -> int:
    """0 if the tool has measured all of the models."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perf_analyzer", description=__doc__)
    parser.add_argument("tool", type=Path, metavar="TOOL", help="the program perf_analyzer")
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/photo-f8", metavar="DIR")
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http", help="http or grpc")
    parser.add_argument("--side", type=int, default=64, help="side of the images in pixels")
    parser.add_argument(
        "--stability", type=int, default=30, help="how far three measurements may differ, percent"
    )
    parser.add_argument("--concurrency", type=int, default=4, help="requests at the same time")
    options = parser.parse_args()
    manifest = open_bundle(options.bundle).manifest
    environment = {"TESSERA_HOST": "127.0.0.1", **serving(options.bundle)}
    if options.protocol == "grpc":
        environment["TESSERA_GRPC_PORT"] = str(_GRPC_PORT)
    command = [sys.executable, "-m", "app", "serve", "--port", str(_PORT)]
    log = BUILD / "logs/perf_analyzer.log"
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before"
    print(f"{manifest.name} {manifest.version}; {machine}")
    print(f"{options.protocol}, {options.concurrency} requests at the same time\n")
    print("| model | an item | items/s | p50 ms | p95 ms | queue ms | run ms |")
    print("|---|---|---|---|---|---|---|")
    with Server("tessera", command, _PORT, "/readyz", environment, ROOT, log) as server:
        server.wait_ready()
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder) / "image.json"
            write_image(files)
            for load in loads(options.side, manifest.stride, manifest.codebook_width, files):
                row = measure(
                    *(options.tool, manifest.name, load, options.protocol),
                    *(options.concurrency, options.stability),
                )
                figures = " | ".join(_figures(row)) if row else "not stable | | | |"
                print(f"| `{load.model}` | {load.says} | {figures} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
