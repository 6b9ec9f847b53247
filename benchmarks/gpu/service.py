"""The service on the device: one image and many images in a request, and where the time goes."""

from __future__ import annotations

import http.client
import io
import multiprocessing
import os
import socket
import time
from typing import Any

import numpy as np

from benchmarks.candidates import TESSERA, start
from benchmarks.gpu.device import Clock, Device, gpu_facts, images_of
from benchmarks.inputs import form, jpegs, request
from benchmarks.servers import Server, send
from bundle import Bundle


def many_images(files: list[bytes], accept: str) -> bytes:
    """One request with several JPEG files."""
    return request("/v1/encode", *form("images", *files), accept)


def _client(port: int, raws: list[bytes], seconds: float, results: Any) -> None:
    """One client process: keeps one connection busy, and reports what it saw."""
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
    return row | gpu_facts()


def _npy_body(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
