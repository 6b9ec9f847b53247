"""The facts about a model that clients get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.runtime.model import DEFAULT_DECODER
from bundle.folder import MANIFEST_FILE
from bundle.manifest import MAIN_DECODER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.runtime.model import Model


def describe_model(model: Model, aliases: list[str]) -> dict[str, Any]:
    """The manifest's facts and how the model runs here, as plain values for JSON.

    Args:
        model: the model to be described.
        aliases: other names than `id` that mean it now.
    """
    manifest = model.manifest
    return {
        "id": model.id,
        # What OpenAI's clients expect of a model besides its id.
        "object": "model",
        "created": _written(model),
        "owned_by": "tessera",
        "name": manifest.name,
        "version": manifest.version,
        "aliases": aliases,
        "code_space": manifest.code_space,
        "pixels": {"channels": manifest.channels, "maximum": manifest.sample_maximum},
        "stride": manifest.stride,
        "codebook_size": manifest.codebook_size,
        "codebook_width": manifest.codebook_width,
        "bits_per_code": manifest.bits,
        "stages": [
            {"codebook_size": size, "bits_per_code": bits}
            for size, bits in zip(manifest.codebook_sizes, manifest.stage_bits, strict=True)
        ],
        "default_stages": manifest.default_stages,
        "quantizer": {
            "kind": manifest.codebook_kind or None,
            "factors": list(manifest.factors),
            "information_bits": [round(bits, 4) for bits in manifest.stage_information],
        },
        "decoders": {
            DEFAULT_DECODER: _decoder(model, MAIN_DECODER, manifest.metrics),
            **{
                name: _decoder(model, decoder.graph, decoder.metrics)
                for name, decoder in sorted(manifest.decoders.items())
            },
        },
        "embedding_dimension": manifest.embedding_size,
        "precision": model.precision,
        "precisions": list(model.bundle.precisions("encoder")),
        "device": str(model.graphs.device),
        "recognizers": {
            name: {
                "classes": list(recognizer.classes),
                "licence": recognizer.licence,
                "metrics": dict(recognizer.metrics),
                "map": len(manifest.graphs[recognizer.graph].outputs) > 1,
            }
            for name, recognizer in sorted(manifest.recognizers.items())
        },
        "prior": None
        if manifest.prior is None
        else {"digest": manifest.prior.digest, "metrics": dict(manifest.prior.metrics)},
        "data": [dict(entry) for entry in manifest.data],
        "metrics": dict(manifest.metrics),
    }


def _decoder(model: Model, graph: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    runs_in = model.precision if model.precision in model.bundle.precisions(graph) else "fp32"
    return {"precision": runs_in, "metrics": dict(metrics)}


def _written(model: Model) -> int:
    """When the bundle's manifest was written, in seconds since 1970; 0 if it is gone."""
    try:
        return int((model.bundle.path / MANIFEST_FILE).stat().st_mtime)
    except OSError:
        return 0
