"""Which models the comparison of quantizers trains: the same but for one thing each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.tokenizer.config import Config
from training.tokenizer.config_file import load_config, override

# The default model's recipe with networks of a third of its arithmetic, so that all runs
# together fit into three hours of two cores.
_PRESET = "photo-f8"
_COMMON = (
    "network.widths=[64, 128]",
    "network.encoder_depths=[1, 2]",
    "network.decoder_depths=[2, 3]",
    "optimizer.batch=16",
    "optimizer.steps=3000",
    "run.validate_every=1000",
    "run.checkpoint_every=250",
)
# At stride 4 a crop of the same size has four times as many codes.
_STRIDES = {
    4: ("network.widths=[96]", "network.encoder_depths=[2]", "network.decoder_depths=[3]"),
    16: (
        "network.widths=[64, 128, 192]",
        "network.encoder_depths=[1, 1, 2]",
        "network.decoder_depths=[2, 2, 3]",
    ),
}
_NORMALIZED = (
    "network.kind=vqgan",
    "network.widths=[16, 16, 32, 64]",
    "network.groups=8",
)
# Settings of each member for 2¹² codes and for about 2¹⁶.
_MEMBERS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "nearest, moving average": (
        ("quantizer.kind=ema", "quantizer.size=4096"),
        ("quantizer.kind=ema", "quantizer.size=65536"),
    ),
    "nearest, gradient": (
        ("quantizer.kind=gradient", "quantizer.size=4096"),
        ("quantizer.kind=gradient", "quantizer.size=65536"),
    ),
    "residual, two stages": (
        ("quantizer.size=64", "quantizer.residual_sizes=[64]", "quantizer.stage_dropout=0"),
        ("quantizer.size=256", "quantizer.residual_sizes=[256]", "quantizer.stage_dropout=0"),
    ),
    "SimVQ": (
        ("quantizer.kind=simvq", "quantizer.size=4096", "quantizer.width=32"),
        ("quantizer.kind=simvq", "quantizer.size=65536", "quantizer.width=32"),
    ),
    "FSQ": (
        ("quantizer.kind=fsq", "quantizer.levels=[7, 5, 5, 5, 5]"),
        ("quantizer.kind=fsq", "quantizer.levels=[8, 8, 8, 5, 5, 5]"),
    ),
    "LFQ": (
        ("quantizer.kind=lfq", "quantizer.bits=12"),
        ("quantizer.kind=lfq", "quantizer.bits=16"),
    ),
    "BSQ": (
        ("quantizer.kind=bsq", "quantizer.bits=12"),
        ("quantizer.kind=bsq", "quantizer.bits=16"),
    ),
    "product, two parts": (
        ("quantizer.kind=product", "quantizer.sizes=[64, 64]"),
        ("quantizer.kind=product", "quantizer.sizes=[256, 256]"),
    ),
}
_BEST_STRIDES, _BEST_SEEDS = 2, 3


@dataclass(frozen=True)
class Run:
    """A model of the comparison.

    Attributes:
        name: of its folder.
        member: the quantizer, for people to read.
        group: the table that its row is in.
        config: of its training.
    """

    name: str
    member: str
    group: str
    config: Config


def first_runs(settings: Sequence[str] = ()) -> list[Run]:
    """Every member at 2¹² and at about 2¹⁶ codes; no quantizer; other networks.

    Args:
        settings: `KEY=VALUE`, which all runs share, before what they differ in.
    """
    runs = []
    for index, group in enumerate(("2¹² codes", "about 2¹⁶ codes")):
        for member, own in _MEMBERS.items():
            runs.append(_run(member, group, (12, 16)[index], 0, [*settings, *own[index]]))
    plain = [*settings, "quantizer.kind=none"]
    runs.append(_run("no quantizer", "2¹² codes", 0, 0, plain))
    other = [*settings, *_NORMALIZED, *_MEMBERS["nearest, moving average"][0]]
    runs.append(_run("nearest, moving average; VQGAN's networks", "2¹² codes", 12, 0, other))
    return runs


def further_runs(psnr: Mapping[str, float], settings: Sequence[str] = ()) -> list[Run]:
    """The best at 2¹² codes with other strides and with another seed.

    Args:
        psnr: of the first runs, by their names.
        settings: as of `first_runs`.
    """
    known = [run for run in first_runs(settings) if run.name.endswith("-12") and _is_plain(run)]
    best = sorted(known, key=lambda run: -psnr[run.name])
    runs = []
    for run in best[:_BEST_STRIDES]:
        own = _MEMBERS[run.member][0]
        for stride, network in _STRIDES.items():
            group = f"2¹² codes, one for {stride}×{stride} pixels"
            runs.append(_run(run.member, group, 12, 0, [*settings, *network, *own], f"f{stride}-"))
    for run in best[:_BEST_SEEDS]:
        own = [*settings, "run.seed=1", "data.seed=1", *_MEMBERS[run.member][0]]
        runs.append(_run(f"{run.member}; another seed", run.group, 12, 1, own))
    return runs


def _is_plain(run: Run) -> bool:
    return run.member in _MEMBERS


def _run(
    member: str, group: str, bits: int, seed: int, settings: Sequence[str], prefix: str = ""
) -> Run:
    words = "".join(c if c.isalnum() else " " for c in member.lower()).split()
    name = f"{prefix}{'-'.join(words)}{f'-{bits}' if bits and not seed else ''}"
    config = override(load_config(_PRESET), [f"name={name}", *_COMMON, *settings])
    return Run(name, member, group, config)
