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
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.candidates import BUILD, ROOT, TESSERA, start
from benchmarks.inputs import form, jpegs, pixels, request
from benchmarks.servers import Server, send
from bundle import Bundle, open_bundle

_CUDA = {
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
    "use_tf32": "0",
}
_OPTIONS: dict[str, dict[str, str]] = {
    "as served": {},
    "EXHAUSTIVE": {"cudnn_conv_algo_search": "EXHAUSTIVE"},
    "DEFAULT": {"cudnn_conv_algo_search": "DEFAULT"},
    "NHWC": {"prefer_nhwc": "1"},
    "NHWC, EXHAUSTIVE": {"prefer_nhwc": "1", "cudnn_conv_algo_search": "EXHAUSTIVE"},
    "no large workspace": {"cudnn_conv_use_max_workspace": "0"},
    "arena by powers of two": {"arena_extend_strategy": "kNextPowerOfTwo"},
    "CUDA graph": {"enable_cuda_graph": "1"},
}
PRECISIONS = ("fp32", "tf32", "fp16")


class Clock:
    """How much of the time is left."""

    def __init__(self, minutes: float) -> None:
        self.started, self._end = time.monotonic(), time.monotonic() + 60 * minutes
        self.skipped: list[str] = []

    def allows(self, what: str, seconds: float) -> bool:
        """Whether a step of about so many seconds fits; if not, it is noted."""
        if time.monotonic() + seconds <= self._end:
            return True
        self.skipped.append(what)
        return False


class Device:
    """Sessions and memory of one device.

    Args:
        bundle: of the model.
        kind: `cuda` or `cpu`.
    """

    def __init__(self, bundle: Bundle, kind: str) -> None:
        self._bundle, self.kind = bundle, kind

    def session(self, graph: str, precision: str, options: dict[str, str] | None = None) -> Any:
        """A graph; `tf32` is the fp32 file with TF32 allowed.

        Raises:
            RuntimeError: it would run on another device than asked for.
        """
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[Any] = ["CPUExecutionProvider"]
        if self.kind == "cuda":
            tf32 = {"use_tf32": "1"} if precision == "tf32" else {}
            providers.insert(0, ("CUDAExecutionProvider", {**_CUDA, **tf32, **(options or {})}))
        file = "fp16" if precision == "fp16" else "fp32"
        if file not in self._bundle.precisions(graph):
            file = "fp32"
        made = onnxruntime.InferenceSession(
            self._bundle.read_graph(graph, file), settings, providers=providers
        )
        if self.kind == "cuda" and made.get_providers()[0] != "CUDAExecutionProvider":
            raise RuntimeError("the session does not run on CUDA")
        return made

    def place(self, array: np.ndarray) -> Any:
        """An array on the device."""
        return onnxruntime.OrtValue.ortvalue_from_numpy(array, self.kind, 0)


def bound(device: Device, run: Any, given: Any, output: Any = None) -> Any:
    """A run's binding: input and output stay on the device."""
    binding = run.io_binding()
    binding.bind_ortvalue_input(run.get_inputs()[0].name, given)
    if output is None:
        binding.bind_output(run.get_outputs()[0].name, device.kind, 0)
    else:
        binding.bind_ortvalue_output(run.get_outputs()[0].name, output)
    return binding


def encode_once(device: Device, encoder: Any, quantizer: Any, given: Any) -> Any:
    """Encoder → quantizer on the device; the codes, still there."""
    first = bound(device, encoder, given)
    encoder.run_with_iobinding(first)
    second = bound(device, quantizer, first.get_outputs()[0])
    quantizer.run_with_iobinding(second)
    return second.get_outputs()[0]


def timed(step: Callable[[], object], seconds: float, finish: Callable[[], object]) -> float:
    """Median seconds of a step, after three to warm up.

    Args:
        step: runs once.
        seconds: to go on for, at least 5 times.
        finish: waits until the device is done.
    """
    for _ in range(3):
        step()
    finish()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        started = time.perf_counter()
        step()
        finish()
        times.append(time.perf_counter() - started)
    return median(times)


def ladder(small: bool) -> Iterator[tuple[int, int]]:
    """Sides and batches: up to 64 images and 16 megapixels a run."""
    for side in (64, 128) if small else (256, 512, 1024):
        for batch in (1, 2) if small else (1, 4, 16, 64):
            if batch * side * side <= 2**24:
                yield side, batch


def images_of(side: int, batch: int) -> np.ndarray:
    """uint8 `[batch, side, side, 3]` of real photographs."""
    few = [pixels(jpeg) for jpeg in jpegs(side, min(batch, 8))]
    return np.stack([few[index % len(few)] for index in range(batch)])


# --- 1 and 2: ONNX Runtime -----------------------------------------------------------------------


def bare(device: Device, clock: Clock, small: bool) -> list[dict[str, Any]]:
    """Images per second of encoding and decoding, by precision, side and batch."""
    rows = []
    for precision in PRECISIONS:
        encoder, quantizer, decoder = (
            device.session(name, precision) for name in ("encoder", "quantizer", "decoder")
        )
        for side, batch in ladder(small):
            if not clock.allows(f"bare {precision} {side}² × {batch}", 4):
                continue
            given = device.place(images_of(side, batch))
            codes = encode_once(device, encoder, quantizer, given)

            def decode(codes: Any = codes, decoder: Any = decoder) -> None:
                decoder.run_with_iobinding(bound(device, decoder, codes))

            def encode(given: Any = given, e: Any = encoder, q: Any = quantizer) -> None:
                encode_once(device, e, q, given)

            # run_with_iobinding waits for the device itself.
            took = [timed(step, 0.1 if small else 0.3, lambda: None) for step in (encode, decode)]
            rows.append(
                {
                    "precision": precision,
                    "side": side,
                    "batch": batch,
                    "encode_per_second": batch / took[0],
                    "decode_per_second": batch / took[1],
                }
            )
            print(rows[-1], flush=True)
    return rows


def options(device: Device, clock: Clock, small: bool) -> list[dict[str, Any]]:
    """The encoder in fp16 under each set of provider options."""
    rows = []
    side, batch = (64, 2) if small else (256, 16)
    for name, chosen in _OPTIONS.items():
        if not clock.allows(f"options {name}", 8):
            continue
        try:
            run = device.session("encoder", "fp16", chosen)
            given = device.place(images_of(side, batch))
            started = time.perf_counter()
            binding = bound(device, run, given)
            run.run_with_iobinding(binding)
            first = time.perf_counter() - started
            # A captured graph needs the same addresses in every run: all use one binding.
            output = binding.get_outputs()[0]
            binding = bound(device, run, given, output)

            def step(run: Any = run, binding: Any = binding) -> None:
                run.run_with_iobinding(binding)

            took = timed(step, 0.1 if small else 0.5, lambda: None)
            new_shape = None
            if "enable_cuda_graph" not in chosen:
                other = device.place(images_of(side, batch)[:, : side - 8])
                started = time.perf_counter()
                run.run_with_iobinding(bound(device, run, other))
                new_shape = 1000 * (time.perf_counter() - started)
            rows.append(
                {
                    "options": name,
                    "per_second": batch / took,
                    "first_run_ms": 1000 * first,
                    "new_shape_ms": new_shape,
                }
            )
        except Exception as error:  # noqa: BLE001  (an option this version lacks is a finding too)
            rows.append({"options": name, "failed": str(error).splitlines()[0][:200]})
        print(rows[-1], flush=True)
    return rows


# --- 3: PyTorch, and the floors ------------------------------------------------------------------


def torch_rows(bundle: Bundle, device: Device, clock: Clock, small: bool) -> dict[str, Any]:
    """The same encoder and quantizer in PyTorch, and what the device could do at most."""
    try:
        import torch

        from benchmarks.peers.onnx_torch import Graph
    except ImportError as error:
        return {"absent": str(error)}
    cuda = device.kind == "cuda" and torch.cuda.is_available()
    where = "cuda" if cuda else "cpu"
    finish: Callable[[], object] = torch.cuda.synchronize if cuda else int
    quantizer = Graph(bundle.path / "quantizer.onnx", torch.float32, where)
    rows: list[dict[str, Any]] = []
    shapes = ((64, 1), (64, 2)) if small else ((256, 16), (256, 64), (512, 16), (1024, 4))
    macs = 0
    with torch.inference_mode():
        counter = Graph(bundle.path / "encoder.onnx", torch.float32, where)
        counter.counting = True
        counter(torch.zeros(1, 256, 256, 3, dtype=torch.uint8, device=where))
        macs = counter.macs
        for name, dtype, compiled in (
            ("eager fp32", torch.float32, False),
            ("eager bf16", torch.bfloat16, False),
            ("torch.compile bf16", torch.bfloat16, True),
            ("torch.compile fp16", torch.float16, True),
        ):
            encoder: Any = Graph(bundle.path / "encoder.onnx", dtype, where)
            if cuda and dtype != torch.float32:
                encoder.constants = {
                    key: value.contiguous(memory_format=torch.channels_last)
                    if isinstance(value, torch.Tensor) and value.dim() == 4
                    else value
                    for key, value in encoder.constants.items()
                }
            run = torch.compile(encoder, dynamic=False) if compiled else encoder
            for side, batch in shapes:
                if not clock.allows(f"PyTorch {name} {side}² × {batch}", 30 if compiled else 4):
                    continue
                given = torch.from_numpy(images_of(side, batch)).to(where)
                try:
                    step = partial(_chained, run, quantizer, given)
                    took = timed(step, 0.1 if small else 0.3, finish)
                    rows.append(
                        {"name": name, "side": side, "batch": batch, "per_second": batch / took}
                    )
                except Exception as error:  # noqa: BLE001  (no compiler, out of memory …)
                    rows.append(
                        {"name": name, "side": side, "batch": batch, "failed": str(error)[:200]}
                    )
                print(rows[-1], flush=True)
        floors = _floors(torch, where, finish, small) if clock.allows("floors", 5) else {}
    return {
        "version": torch.__version__,
        "rows": rows,
        "encoder_gmac_per_256": macs / 1e9,
        **floors,
    }


def _chained(encoder: Any, quantizer: Any, given: Any) -> Any:
    return quantizer(encoder(given))


def _floors(torch: Any, where: str, finish: Any, small: bool) -> dict[str, float]:
    """What a large matrix product and a large copy reach here."""
    n = 512 if small else 8192
    dtype = torch.bfloat16 if where == "cuda" else torch.float32
    a, b = (torch.randn(n, n, device=where, dtype=dtype) for _ in range(2))
    product = timed(lambda: a @ b, 0.3, finish)
    source = torch.empty(2**22 if small else 2**30, dtype=torch.uint8, device=where)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source), 0.3, finish)
    return {"tflops": 2 * n**3 / product / 1e12, "gb_per_second": 2 * len(source) / copy / 1e9}


# --- 4: agreement --------------------------------------------------------------------------------


def agreement(bundle: Bundle, device: Device, small: bool) -> list[dict[str, Any]]:
    """Share of codes equal to those of the CPU in fp32, by precision."""
    host = Device(bundle, "cpu")
    reference = host.session("encoder", "fp32"), host.session("quantizer", "fp32")
    images = images_of(64 if small else 256, 8)
    wanted = encode_once(host, *reference, host.place(images)).numpy()
    rows = []
    for precision in PRECISIONS:
        runs = device.session("encoder", precision), device.session("quantizer", precision)
        codes = encode_once(device, *runs, device.place(images)).numpy()
        alone = encode_once(device, *runs, device.place(images[:1])).numpy()
        rows.append(
            {
                "precision": precision,
                "equal_to_cpu": float(np.mean(codes == wanted)),
                "alone_equals_batched": float(np.mean(alone[0] == codes[0])),
            }
        )
        print(rows[-1], flush=True)
    return rows


# --- 5: the service ------------------------------------------------------------------------------


def many_images(files: list[bytes], accept: str) -> bytes:
    """One request with several JPEG files."""
    return request("/v1/encode", *form("images", *files), accept)


def _client(port: int, raws: list[bytes], seconds: float, results: Any) -> None:
    """One client process: keeps one connection busy, and reports what it saw."""
    import http.client
    import socket

    done, errors, stages, times = (
        0,
        0,
        dict.fromkeys(("decode", "queue", "infer", "encode"), 0.0),
        [],
    )
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        end, index = time.perf_counter() + seconds, os.getpid()
        while (now := time.perf_counter()) < end:
            connection.sendall(raws[index % len(raws)])
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            answer.read()
            index += 1
            if answer.status != 200:
                errors += 1
                continue
            times.append(time.perf_counter() - now)
            for stage in answer.headers["server-timing"].split(", "):
                name, _, value = stage.partition(";dur=")
                stages[name] += float(value)
            done += 1
    results.put((done, errors, stages, times))


def load(port: int, raws: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """A closed loop from as many processes as clients."""
    results: Any = multiprocessing.Queue()
    workers = [
        multiprocessing.Process(target=_client, args=(port, raws, seconds, results))
        for _ in range(clients)
    ]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    took = time.perf_counter() - started
    for worker in workers:
        worker.join()
    done = sum(row[0] for row in found)
    times = sorted(t for row in found for t in row[3])
    return {
        "requests_per_second": done / took,
        "errors": sum(row[1] for row in found),
        "p50_ms": 1000 * times[len(times) // 2] if times else None,
        "p99_ms": 1000 * times[int(len(times) * 0.99)] if times else None,
        "stages_ms": {
            name: sum(row[2][name] for row in found) / max(1, done) for name in found[0][2]
        },
    }


def service(bundle: Bundle, device: Device, clock: Clock, small: bool) -> dict[str, Any]:
    """Images per second end to end, and where a request's time goes."""
    cores = len(os.sched_getaffinity(0))
    side = 64 if small else 256
    files = jpegs(side, 64)
    npy, packed = "application/x-npy", "application/vnd.tessera.codes"
    arrays = _npy_body(images_of(side, 64))
    kinds = {
        "one JPEG, 1 client": (1, 1, [request("/v1/encode", "image/jpeg", f, npy) for f in files]),
        "one JPEG, 4 clients a core": (
            1,
            4 * cores,
            [request("/v1/encode", "image/jpeg", f, npy) for f in files],
        ),
        "64 JPEGs, 1 client a core": (64, cores, [many_images(files, packed)]),
        "64 images as npy, 8 clients": (
            64,
            8,
            [request("/v1/encode", "application/x-npy", arrays, packed)],
        ),
    }
    rows: list[dict[str, Any]] = []
    settings = {"TESSERA_DEVICE": device.kind, "TESSERA_MAX_QUEUE": "4096"}
    with start(TESSERA, bundle.path, cores, **settings) as server:
        started = time.perf_counter()
        server.wait_ready()
        ready_s = time.perf_counter() - started
        seconds = 2 if small else 8
        for name, (images, clients, raws) in kinds.items():
            if not clock.allows(f"service {name}", seconds + 4):
                continue
            load(server.port, raws, clients, 1)
            rows.append(_measured(server, name, images, clients, raws, seconds))
            print(rows[-1], flush=True)
        codes = send(server.port, many_images(files, packed))[2]
        back = [request("/v1/decode", packed, codes, npy)]
        if clock.allows("service decode", seconds + 4):
            rows.append(_measured(server, "decode 64 to npy, 8 clients", 64, 8, back, seconds))
            print(rows[-1], flush=True)
    return {"ready_s": ready_s, "rows": rows}


def _measured(
    server: Server, name: str, images: int, clients: int, raws: list[bytes], seconds: float
) -> dict[str, Any]:
    used, started = server.cpu_s(), time.perf_counter()
    row = load(server.port, raws, clients, seconds)
    row["server_cores"] = (server.cpu_s() - used) / (time.perf_counter() - started)
    row |= {"name": name, "images_per_second": images * row["requests_per_second"]}
    return row | _gpu_facts()


def _npy_body(array: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _gpu_facts() -> dict[str, str]:
    """Name, driver, memory and load of the first GPU, as nvidia-smi tells them."""
    if shutil.which("nvidia-smi") is None:
        return {}
    asked = "name,driver_version,memory.used,utilization.gpu"
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    first = done.stdout.splitlines()[:1]
    return dict(zip(asked.split(","), first[0].split(", "), strict=False)) if first else {}


# --- report --------------------------------------------------------------------------------------


def report(found: dict[str, Any]) -> str:
    """All of it as Markdown."""
    lines = ["# GPU results", f"Written by `{found['command']}`, {found['minutes']:.1f} minutes."]
    lines.append(f"{found['facts']}")
    lines += ["## Bare graphs, images per second", _rows(found.get("bare", []))]
    lines += ["## Provider options, encoder in fp16", _rows(found.get("options", []))]
    torch = found.get("torch", {})
    lines += ["## PyTorch", _rows(torch.get("rows", []))]
    lines.append(", ".join(f"{k} {v}" for k, v in torch.items() if k != "rows"))
    if (best := _best_ratio(found)) is not None:
        lines.append(f"ONNX Runtime's best against torch.compile's best at 256²: {best:.2f}×.")
    if torch.get("tflops") and torch.get("encoder_gmac_per_256"):
        floor = torch["tflops"] * 1e12 / (2 * torch["encoder_gmac_per_256"] * 1e9)
        lines.append(f"Arithmetic alone would allow {floor:.0f} images of 256² a second.")
    lines += ["## Codes against the CPU's", _rows(found.get("agreement", []))]
    lines += ["## The service", _rows(found.get("service", {}).get("rows", []))]
    lines.append(f"Left out for lack of time: {', '.join(found['skipped']) or 'nothing'}.")
    return "\n\n".join(line for line in lines if line) + "\n"


def _best_ratio(found: dict[str, Any]) -> float | None:
    ours = [r["encode_per_second"] for r in found.get("bare", []) if r["side"] == 256]
    theirs = [
        r["per_second"]
        for r in found.get("torch", {}).get("rows", [])
        if r["side"] == 256 and "compile" in r["name"] and "per_second" in r
    ]
    return max(ours) / max(theirs) if ours and theirs else None


def _rows(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "Not measured."
    names = list(dict.fromkeys(name for row in rows for name in row))
    shown = [
        [f"{v:.1f}" if isinstance(v, float) else str(v) for v in (r.get(n, "") for n in names)]
        for r in rows
    ]
    return "\n".join(
        "| " + " | ".join(line) + " |" for line in [names, ["---"] * len(names), *shown]
    )


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
            **_gpu_facts(),
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
