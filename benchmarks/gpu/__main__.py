"""Everything a GPU machine can tell, within a few minutes: `python -m benchmarks.gpu --out DIR`.

Needs onnxruntime-gpu and what the service needs; PyTorch, if it is there, is compared with. No
wrk: the load comes from processes of ours. What doesn't fit into `--minutes` is left out, and
said to be. `--provider cpu --small` proves on any machine that all of it runs.

1. bare graphs in fp32, TF32 and fp16, batch 1 to 64, 256² to 1024²; codes and pixels stay on the
   device
2. options of the CUDA provider, and what a new shape costs under each
3. the same model in PyTorch: eager, and `torch.compile` in bf16; the floors that arithmetic and
   memory set
4. codes on the GPU against codes on the CPU
5. the service: one image and many images in a request, where the time goes, GPU memory
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnxruntime

from benchmarks.candidates import BUILD, ROOT
from benchmarks.gpu.device import Clock, Device, gpu_facts
from benchmarks.gpu.graphs import agreement, bare, options
from benchmarks.gpu.pytorch import torch_rows
from benchmarks.gpu.report import report
from benchmarks.gpu.service import service
from bundle import open_bundle


def main(arguments: list[str] | None = None) -> int:
    """Measure what fits and write gpu.json and GPU.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/photo-f8", metavar="DIR")
    parser.add_argument("--provider", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to prove that it runs")
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--out", type=Path, default=BUILD / "gpu", metavar="DIR")
    parser.add_argument("--skip", action="append", default=[], metavar="STEP")
    given = parser.parse_args(arguments)
    clock = Clock(given.minutes)
    bundle = open_bundle(given.bundle)
    with suppress(AttributeError):
        onnxruntime.preload_dlls()  # onnxruntime-gpu finds CUDA among the Python packages
    device = Device(bundle, given.provider)
    found: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.gpu", *(arguments or sys.argv[1:])]),
        "facts": {
            "onnxruntime": onnxruntime.__version__,
            "model": bundle.manifest.name,
            "cores": len(os.sched_getaffinity(0)),
            **gpu_facts(),
        },
    }
    # What matters most comes first: time may run out.
    steps: dict[str, Callable[[], Any]] = {
        "agreement": lambda: agreement(bundle, device, given.small),
        "service": lambda: service(bundle, device, clock, given.small),
        "bare": lambda: bare(device, clock, given.small),
        "options": lambda: options(device, clock, given.small),
        "torch": lambda: torch_rows(bundle, device, clock, given.small),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    for name, step in steps.items():
        if name in given.skip:
            continue
        print(f"== {name}", flush=True)
        try:
            found[name] = step()
        except Exception as error:  # noqa: BLE001  (a step that fails must not cost the others)
            found[f"{name}_failed"] = f"{type(error).__name__}: {error}"
            print(found[f"{name}_failed"], flush=True)
        found |= {"skipped": clock.skipped, "minutes": (time.monotonic() - clock.started) / 60}
        # Written after every step, in case the machine is taken away.
        (given.out / "gpu.json").write_text(json.dumps(found, indent=1))
        (given.out / "GPU.md").write_text(report(found))
    print((given.out / "GPU.md").read_text())
    return 1 if any(name.endswith("_failed") for name in found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
