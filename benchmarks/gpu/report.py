"""What was found, as Markdown."""

from __future__ import annotations

from typing import Any


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
