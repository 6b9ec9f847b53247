"""The bare graphs on ONNX Runtime: speed by precision and size, provider options, agreement."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.gpu.device import (
    PRECISIONS,
    Clock,
    Device,
    bound,
    encode_once,
    images_of,
    ladder,
    timed,
)
from bundle import Bundle

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
