"""The manifest as JSON: written in one fixed form, read with every field checked.

`bundle/FORMAT.md` is the normative description.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from bundle.errors import ManifestMalformed, ManifestTooLarge, VersionUnsupported
from bundle.manifest import (
    CODEBOOK_FILE,
    NAME,
    PRECISIONS,
    REQUIRED_GRAPHS,
    File,
    Graph,
    Manifest,
    Recognizer,
    Tensor,
    check_file_name,
)
from bundle.prior import MAX_NEIGHBOURS, Neighbour, Prior, PriorStage, is_known_before

FORMAT = "tessera-bundle"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 1 << 20

_DTYPES = ("uint8", "int32", "int64", "float16", "float32")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")


def format_manifest(manifest: Manifest) -> bytes:
    """The manifest as it is written: UTF-8 JSON, keys in a fixed order, a line feed last."""
    values = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": manifest.name,
        "version": manifest.version,
        "code_space": manifest.code_space,
        "stride": manifest.stride,
        "codebook": {"size": manifest.codebook_size, "width": manifest.codebook_width},
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
    top = _Object(values, "manifest")
    if top.get("format", str) != FORMAT:
        raise ManifestMalformed(f"the manifest's format is not {FORMAT!r}")
    version = top.get("format_version", int)
    if version != FORMAT_VERSION:
        raise VersionUnsupported(
            f"the bundle is of format version {version}; this program reads {FORMAT_VERSION}"
        )
    codebook, embedding = top.object("codebook"), top.object("embedding")
    manifest = Manifest(
        name=top.matching("name", NAME),
        version=top.matching("version", NAME),
        code_space=top.matching("code_space", _SHA256),
        stride=top.positive("stride"),
        codebook_size=codebook.positive("size"),
        codebook_width=codebook.positive("width"),
        embedding_size=embedding.positive("size"),
        graphs=top.mapping("graphs", _parse_graph),
        files=top.mapping("files", _parse_file),
        recognizers=top.mapping("recognizers", _parse_recognizer),
        prior=_parse_prior(top.object("prior")) if top.has("prior") else None,
        data=tuple(_parse_data(v, i) for i, v in enumerate(top.get("data", list))),
        training=top.get("training", dict),
        metrics=top.get("metrics", dict),
        parity=top.get("parity", dict),
    )
    _check_references(manifest)
    return manifest


def _check_references(manifest: Manifest) -> None:
    for name in REQUIRED_GRAPHS:
        if name not in manifest.graphs:
            raise ManifestMalformed(f"the manifest lists no graph {name!r}")
    for name in manifest.files:
        check_file_name(name)
    if CODEBOOK_FILE not in manifest.files:
        raise ManifestMalformed(f"the manifest lists no file {CODEBOOK_FILE!r}")
    for name, graph in manifest.graphs.items():
        if "fp32" not in graph.files:
            raise ManifestMalformed(f"graph {name!r} has no fp32 file")
        for precision, file in graph.files.items():
            if precision not in PRECISIONS:
                raise ManifestMalformed(f"graph {name!r} has an unknown precision {precision!r}")
            check_file_name(file)
            if file not in manifest.files:
                raise ManifestMalformed(f"graph {name!r} names {file!r}, which is not in files")
    for name, recognizer in manifest.recognizers.items():
        if recognizer.graph not in manifest.graphs:
            raise ManifestMalformed(f"recognizer {name!r} names a graph that isn't listed")
    for stage in manifest.prior.stages if manifest.prior else ():
        if not {stage.groups, stage.members} <= manifest.graphs.keys():
            raise ManifestMalformed("the prior names a graph that isn't listed")


class _Object:
    """A JSON object whose fields are read with their types checked."""

    def __init__(self, value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise ManifestMalformed(f"{place} is not a JSON object")
        self._value = value
        self._place = place

    def get(self, key: str, kind: type[_T]) -> _T:
        if key not in self._value:
            raise ManifestMalformed(f"{self._place} has no {key!r}")
        value = self._value[key]
        if type(value) is not kind:
            raise ManifestMalformed(f"{self._place}.{key} is not of type {kind.__name__}")
        return value

    def has(self, key: str) -> bool:
        return key in self._value

    def matching(self, key: str, pattern: re.Pattern[str]) -> str:
        value = self.get(key, str)
        if not pattern.fullmatch(value):
            raise ManifestMalformed(f"{self._place}.{key} must match {pattern.pattern}")
        return value

    def positive(self, key: str) -> int:
        value = self.get(key, int)
        if not 1 <= value <= 1 << 40:
            raise ManifestMalformed(f"{self._place}.{key} is out of range")
        return value

    def optional(self, key: str, least: int) -> int | None:
        if key not in self._value:
            return None
        value = self.get(key, int)
        if not least <= value <= 1 << 20:
            raise ManifestMalformed(f"{self._place}.{key} is out of range")
        return value

    def object(self, key: str) -> _Object:
        return _Object(self.get(key, dict), f"{self._place}.{key}")

    def mapping(self, key: str, parse: Callable[[_Object], _T]) -> dict[str, _T]:
        inner = self.get(key, dict)
        return {k: parse(_Object(v, f"{self._place}.{key}.{k}")) for k, v in inner.items()}


def _parse_graph(value: _Object) -> Graph:
    files = value.get("files", dict)
    if not all(isinstance(name, str) for name in files.values()):
        raise ManifestMalformed("a graph's files must be names")
    return Graph(
        inputs=tuple(_parse_tensor(v) for v in value.get("inputs", list)),
        outputs=tuple(_parse_tensor(v) for v in value.get("outputs", list)),
        files=files,
        reach=value.optional("reach", 0),
    )


def _parse_tensor(value: Any) -> Tensor:
    fields = _Object(value, "tensor")
    dtype = fields.get("dtype", str)
    axes = fields.get("axes", list)
    if dtype not in _DTYPES:
        raise ManifestMalformed(f"unknown dtype {dtype!r}; known are {', '.join(_DTYPES)}")
    if not all(type(a) is str or (type(a) is int and a > 0) for a in axes):
        raise ManifestMalformed("axes must be names or positive lengths")
    return Tensor(fields.get("name", str), dtype, tuple(axes))


def _parse_file(value: _Object) -> File:
    return File(bytes=value.positive("bytes"), sha256=value.matching("sha256", _SHA256))


def _parse_recognizer(value: _Object) -> Recognizer:
    classes = value.get("classes", list)
    if not classes or not all(isinstance(c, str) for c in classes):
        raise ManifestMalformed("a recognizer's classes must be a list of names")
    return Recognizer(
        graph=value.get("graph", str),
        classes=tuple(classes),
        licence=value.get("licence", str),
        metrics=value.get("metrics", dict),
    )


def _parse_prior(value: _Object) -> Prior:
    stages = [_Object(v, f"prior.stages[{i}]") for i, v in enumerate(value.get("stages", list))]
    if not stages:
        raise ManifestMalformed("a prior has a stage at least")
    return Prior(
        digest=value.matching("digest", _SHA256),
        stages=tuple(_parse_prior_stage(stage, index) for index, stage in enumerate(stages)),
        metrics=value.get("metrics", dict),
    )


def _parse_prior_stage(value: _Object, index: int) -> PriorStage:
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
    fields = _Object(value, f"manifest.data[{index}]")
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
    }
