"""The same encoder in PyTorch, and the floors that arithmetic and memory set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.gpu.device import Clock, Device, images_of, timed
from bundle import Bundle


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
