"""The manifest as JSON: written in one fixed form, read with every field checked.

`bundle/FORMAT.md` is the normative description.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from bundle.errors import ManifestMalformed, ManifestTooLarge, VersionUnsupported
from bundle.json_object import JsonObject
from bundle.manifest import (
    MAIN_DECODER,
    MAX_CHANNELS,
    MAX_STAGES,
    NAME,
    PRECISIONS,
    REQUIRED_GRAPHS,
    Decoder,
    File,
    Graph,
    Manifest,
    Recognizer,
    Tensor,
    check_file_name,
    codebook_file,
)
from bundle.prior import MAX_NEIGHBOURS, Neighbour, Prior, PriorStage, is_known_before

FORMAT = "tessera-bundle"
FORMAT_VERSIONS = (1, 2, 3)
MAX_MANIFEST_BYTES = 1 << 20

_DTYPES = ("uint8", "uint16", "int32", "int64", "float16", "float32")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def format_manifest(manifest: Manifest) -> bytes:
    """The manifest as it is written: UTF-8 JSON, keys in a fixed order, a line feed last."""
    values = {
        "format": FORMAT,
        "format_version": manifest.format_version,
        "name": manifest.name,
        "version": manifest.version,
        "code_space": manifest.code_space,
        "stride": manifest.stride,
        **({} if manifest.format_version < 3 else {"pixels": _pixels_json(manifest)}),
        "codebook": _codebook_json(manifest),
        "embedding": {"size": manifest.embedding_size},
        "graphs": {name: _graph_json(graph) for name, graph in manifest.graphs.items()},
        "recognizers": {
            name: {
                "graph": recognizer.graph,
                "classes": list(recognizer.classes),
                "licence": recognizer.licence,
                "metrics": dict(recognizer.metrics),
            }
            for name, recognizer in manifest.recognizers.items()
        },
        **({} if manifest.format_version == 1 else {"decoders": _decoders_json(manifest)}),
        **({} if manifest.prior is None else {"prior": _prior_json(manifest.prior)}),
        "files": {
            name: {"bytes": file.bytes, "sha256": file.sha256}
            for name, file in sorted(manifest.files.items())
        },
        "data": [dict(entry) for entry in manifest.data],
        "training": dict(manifest.training),
        "metrics": dict(manifest.metrics),
        "parity": dict(manifest.parity),
    }
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def parse_manifest(text: bytes) -> Manifest:
    """Reads and checks a manifest. Unknown keys are ignored, as the versioning rule asks.

    Raises:
        ManifestTooLarge: more than `MAX_MANIFEST_BYTES`.
        ManifestMalformed: not JSON, or a field is missing, of the wrong type or impossible.
        VersionUnsupported: of another format version.
        PathEscapes: a file name with a separator or another odd character.
    """
    if len(text) > MAX_MANIFEST_BYTES:
        raise ManifestTooLarge(f"the manifest is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestMalformed("the manifest is not valid JSON") from error
    top = JsonObject(values, "manifest")
    if top.get("format", str) != FORMAT:
        raise ManifestMalformed(f"the manifest's format is not {FORMAT!r}")
    version = top.get("format_version", int)
    if version not in FORMAT_VERSIONS:
        raise VersionUnsupported(
            f"the bundle is of format version {version}; this program reads "
            f"{FORMAT_VERSIONS[0]} to {FORMAT_VERSIONS[-1]}"
        )
    codebook, embedding = top.object("codebook"), top.object("embedding")
    manifest = Manifest(
        name=top.matching("name", NAME),
        version=top.matching("version", NAME),
        code_space=top.matching("code_space", _SHA256),
        stride=top.positive("stride"),
        codebook_size=codebook.positive("size"),
        codebook_width=codebook.positive("width"),
        codebook_kind=codebook.get("kind", str) if codebook.has("kind") else "",
        embedding_size=embedding.positive("size"),
        graphs=top.mapping("graphs", partial(_parse_graph, version=version)),
        files=top.mapping("files", _parse_file),
        recognizers=top.mapping("recognizers", _parse_recognizer),
        prior=_parse_prior(top.object("prior")) if top.has("prior") else None,
        data=tuple(_parse_data(v, i) for i, v in enumerate(top.get("data", list))),
        training=top.get("training", dict),
        metrics=top.get("metrics", dict),
        parity=top.get("parity", dict),
        **({} if version == 1 else _parse_version_2(top, codebook)),
        **({} if version < 3 else _parse_pixels(top.object("pixels"))),
    )
    _check_references(manifest)
    return manifest


def _parse_version_2(top: JsonObject, codebook: JsonObject) -> dict[str, Any]:
    """What version 2 added, as arguments of `Manifest`."""
    sizes = codebook.get("residual_sizes", list)
    if not all(type(size) is int and 2 <= size <= 1 << 16 for size in sizes):
        raise ManifestMalformed("codebook.residual_sizes must be whole numbers in [2, 65536]")
    if 1 + len(sizes) > MAX_STAGES:
        raise ManifestMalformed(f"the codebook has more than {MAX_STAGES} stages")
    default = codebook.positive("default_stages")
    if default > 1 + len(sizes):
        raise ManifestMalformed("codebook.default_stages is more than there are stages")
    factors = codebook.get("factors", list) if codebook.has("factors") else []
    if not all(type(factor) is int and 2 <= factor <= 1 << 16 for factor in factors):
        raise ManifestMalformed("codebook.factors must be whole numbers in [2, 65536]")
    if factors and (
        math.prod(factors) != codebook.positive("size")
        or codebook.positive("width") % len(factors)
        or sizes
    ):
        raise ManifestMalformed("codebook.factors don't make up the codebook's size and width")
    return {
        "factors": tuple(factors),
        "residual_sizes": tuple(sizes),
        "default_stages": default,
        "decoders": top.mapping("decoders", _parse_decoder),
    }


def _parse_pixels(pixels: JsonObject) -> dict[str, Any]:
    """What version 3 added, as arguments of `Manifest`."""
    channels, maximum = pixels.positive("channels"), pixels.positive("maximum")
    if channels > MAX_CHANNELS:
        raise ManifestMalformed(f"pixels.channels is more than {MAX_CHANNELS}")
    if maximum >= 1 << 16:
        raise ManifestMalformed("pixels.maximum takes more than 16 bits")
    return {"channels": channels, "sample_maximum": maximum}


def _check_references(manifest: Manifest) -> None:
    for name in REQUIRED_GRAPHS:
        if name not in manifest.graphs:
            raise ManifestMalformed(f"the manifest lists no graph {name!r}")
    for name in manifest.files:
        check_file_name(name)
    for index in range(manifest.stages):
        if codebook_file(index) not in manifest.files:
            raise ManifestMalformed(f"the manifest lists no file {codebook_file(index)!r}")
    for name, graph in manifest.graphs.items():
        if "fp32" not in graph.files:
            raise ManifestMalformed(f"graph {name!r} has no fp32 file")
        for precision in graph.files:
            if precision not in PRECISIONS:
                raise ManifestMalformed(f"graph {name!r} has an unknown precision {precision!r}")
        for file in (*graph.files.values(), *([] if graph.weights is None else [graph.weights])):
            check_file_name(file)
            if file not in manifest.files:
                raise ManifestMalformed(f"graph {name!r} names {file!r}, which is not in files")
    for name, recognizer in manifest.recognizers.items():
        if recognizer.graph not in manifest.graphs:
            raise ManifestMalformed(f"recognizer {name!r} names a graph that isn't listed")
    for name, decoder in manifest.decoders.items():
        if not NAME.fullmatch(name) or decoder.graph != f"{MAIN_DECODER}-{name}":
            raise ManifestMalformed(f"decoder {name!r} has no graph of its name")
        if decoder.graph not in manifest.graphs:
            raise ManifestMalformed(f"decoder {name!r} names a graph that isn't listed")
    if manifest.prior and len(manifest.prior.stages) != manifest.stages:
        raise ManifestMalformed("the prior has not as many stages as the codebook")
    for stage in manifest.prior.stages if manifest.prior else ():
        if not {stage.groups, stage.members} <= manifest.graphs.keys():
            raise ManifestMalformed("the prior names a graph that isn't listed")


def _parse_graph(value: JsonObject, version: int) -> Graph:
    files = value.get("files", dict)
    if not all(isinstance(name, str) for name in files.values()):
        raise ManifestMalformed("a graph's files must be names")
    return Graph(
        inputs=tuple(_parse_tensor(v) for v in value.get("inputs", list)),
        outputs=tuple(_parse_tensor(v) for v in value.get("outputs", list)),
        files=files,
        reach=value.optional("reach", 0),
        weights=value.get("weights", str) if version > 1 and value.has("weights") else None,
    )


def _parse_tensor(value: Any) -> Tensor:
    fields = JsonObject(value, "tensor")
    dtype = fields.get("dtype", str)
    axes = fields.get("axes", list)
    if dtype not in _DTYPES:
        raise ManifestMalformed(f"unknown dtype {dtype!r}; known are {', '.join(_DTYPES)}")
    if not all(type(a) is str or (type(a) is int and a > 0) for a in axes):
        raise ManifestMalformed("axes must be names or positive lengths")
    return Tensor(fields.get("name", str), dtype, tuple(axes))


def _parse_file(value: JsonObject) -> File:
    return File(bytes=value.positive("bytes"), sha256=value.matching("sha256", _SHA256))


def _parse_recognizer(value: JsonObject) -> Recognizer:
    classes = value.get("classes", list)
    if not classes or not all(isinstance(c, str) for c in classes):
        raise ManifestMalformed("a recognizer's classes must be a list of names")
    return Recognizer(
        graph=value.get("graph", str),
        classes=tuple(classes),
        licence=value.get("licence", str),
        metrics=value.get("metrics", dict),
    )


def _parse_decoder(value: JsonObject) -> Decoder:
    return Decoder(graph=value.get("graph", str), metrics=value.get("metrics", dict))


def _parse_prior(value: JsonObject) -> Prior:
    stages = [JsonObject(v, f"prior.stages[{i}]") for i, v in enumerate(value.get("stages", list))]
    if not stages:
        raise ManifestMalformed("a prior has a stage at least")
    return Prior(
        digest=value.matching("digest", _SHA256),
        stages=tuple(_parse_prior_stage(stage, index) for index, stage in enumerate(stages)),
        metrics=value.get("metrics", dict),
    )


def _parse_prior_stage(value: JsonObject, index: int) -> PriorStage:
    neighbours: list[Neighbour] = []
    for place in value.get("neighbours", list):
        if not isinstance(place, list) or [type(n) for n in place] != [int] * 3:
            raise ManifestMalformed("a neighbour is three integers")
        neighbours.append((place[0], place[1], place[2]))
    if not 1 <= len(neighbours) <= MAX_NEIGHBOURS:
        raise ManifestMalformed(f"a stage of a prior has 1 to {MAX_NEIGHBOURS} neighbours")
    if not all(is_known_before(neighbour, index) for neighbour in neighbours):
        raise ManifestMalformed("a neighbour is too far away, or not coded before the place")
    return PriorStage(value.get("groups", str), value.get("members", str), tuple(neighbours))


def _parse_data(value: Any, index: int) -> Mapping[str, Any]:
    fields = JsonObject(value, f"manifest.data[{index}]")
    fields.get("name", str)
    fields.get("licence", str)
    data: Mapping[str, Any] = value
    return data


def _prior_json(prior: Prior) -> dict[str, Any]:
    return {
        "digest": prior.digest,
        "stages": [
            {
                "groups": stage.groups,
                "members": stage.members,
                "neighbours": [list(place) for place in stage.neighbours],
            }
            for stage in prior.stages
        ],
        "metrics": dict(prior.metrics),
    }


def _graph_json(graph: Graph) -> dict[str, Any]:
    def tensors(values: tuple[Tensor, ...]) -> list[dict[str, Any]]:
        return [{"name": t.name, "dtype": t.dtype, "axes": list(t.axes)} for t in values]

    return {
        "inputs": tensors(graph.inputs),
        "outputs": tensors(graph.outputs),
        "files": dict(graph.files),
        **({} if graph.reach is None else {"reach": graph.reach}),
        **({} if graph.weights is None else {"weights": graph.weights}),
    }


def _pixels_json(manifest: Manifest) -> dict[str, int]:
    return {"channels": manifest.channels, "maximum": manifest.sample_maximum}


def _codebook_json(manifest: Manifest) -> dict[str, Any]:
    values: dict[str, Any] = {"size": manifest.codebook_size, "width": manifest.codebook_width}
    if manifest.format_version > 1:
        values["residual_sizes"] = list(manifest.residual_sizes)
        values["default_stages"] = manifest.default_stages
    if manifest.factors:
        values["factors"] = list(manifest.factors)
    if manifest.codebook_kind:
        values["kind"] = manifest.codebook_kind
    return values


def _decoders_json(manifest: Manifest) -> dict[str, Any]:
    return {
        name: {"graph": decoder.graph, "metrics": dict(decoder.metrics)}
        for name, decoder in manifest.decoders.items()
    }
