"""What a client may know of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.models import Model


def describe_model(model: Model) -> dict[str, Any]:
    """The manifest's facts and how the model runs here, as plain values for JSON."""
    manifest = model.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "code_space": manifest.code_space,
        "stride": manifest.stride,
        "codebook_size": manifest.codebook_size,
        "codebook_width": manifest.codebook_width,
        "bits_per_code": manifest.bits,
        "embedding_dimension": manifest.embedding_size,
        "precision": model.precision,
        "precisions": list(model.bundle.precisions("encoder")),
        "device": str(model.graphs.device),
        "recognizers": {
            name: {
                "classes": list(recognizer.classes),
                "licence": recognizer.licence,
                "metrics": dict(recognizer.metrics),
            }
            for name, recognizer in sorted(manifest.recognizers.items())
        },
        "data": [dict(entry) for entry in manifest.data],
        "metrics": dict(manifest.metrics),
    }
