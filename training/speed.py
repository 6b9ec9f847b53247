"""`python -m training.speed PRESET`: how fast training is, beside what the machine can do.

The machine's rate is that of one large matrix product in the precision that
the convolutions train in. A training step costs three times the forward pass:
forward, gradient of the activations, gradient of the weights.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.options import add_device
from training.tokenizer.config import Config, ConfigError, require_at_least
from training.tokenizer.config_file import load_config, override
from training.tokenizer.distributed import choose_context, keep_freed_memory
from training.tokenizer.losses import Losses
from training.tokenizer.model import Tokenizer


def forward_macs(model: Tokenizer, crop: int) -> int:
    """Multiply–adds of encoder and decoder for one crop, counted by running it."""
    count = 0

    def add(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal count
        assert isinstance(module, nn.Conv2d)  # noqa: S101  (hooked onto nothing else)
        count += module.weight[0].numel() * output[0].numel()

    hooks = [m.register_forward_hook(add) for m in model.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        device = next(model.parameters()).device
        model.eval()(torch.zeros(1, 3, crop, crop, device=device))
    for hook in hooks:
        hook.remove()
    return count


def step_seconds(config: Config, losses: Losses, device: torch.device, repeats: int) -> float:
    """Median seconds of a training step on crops that are already on the device."""
    model = Tokenizer(config).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    side = config.data.crop
    pixels = torch.rand(config.optimizer.batch, 3, side, side, device=device) * 2 - 1
    pixels = pixels.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.run.bf16):
            output = model(pixels, 1000)
        total, _ = losses(output, pixels)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()

    return _median_seconds(step, device, repeats)


def machine_rate(device: torch.device, *, bf16: bool, repeats: int) -> float:
    """Multiply–adds a second of a 2048³ matrix product."""
    side = 2048 if device.type == "cpu" else 8192
    dtype = torch.bfloat16 if bf16 else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return side**3 / _median_seconds(lambda: torch.matmul(a, b), device, repeats)


def _median_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    seconds = []
    for attempt in range(repeats + 3):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if attempt >= 3:  # the first ones choose kernels and fill caches
            seconds.append(time.perf_counter() - started)
    return sorted(seconds)[len(seconds) // 2]


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line, measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m training.speed", description=__doc__)
    parser.add_argument("config", help="a preset or the path of a TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    add_device(parser)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    try:
        require_at_least(1, repeats=options.repeats)
        config = override(load_config(options.config), options.set)
        device = choose_context(options.device).device
        losses = Losses(config.loss, config.quantizer, bf16=config.run.bf16).to(device)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    keep_freed_memory()
    crop, batch = config.data.crop, config.optimizer.batch
    macs = 3 * batch * forward_macs(Tokenizer(config), crop)
    seconds = step_seconds(config, losses, device, options.repeats)
    machine = machine_rate(device, bf16=config.run.bf16, repeats=options.repeats)
    rate = macs / seconds
    print(f"{config.name}: {batch} crops of {crop}×{crop} a step, {macs / 1e9:.0f} GMAC")
    print(f"step {seconds * 1e3:.0f} ms: {batch / seconds:.1f} images/s, {rate / 1e9:.0f} GMAC/s")
    print(
        f"matrix product: {machine / 1e9:.0f} GMAC/s; training reaches {rate / machine:.0%} of it"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
