"""Facts about reading and writing the manifest."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle import Decoder, Graph, Manifest, Recognizer, Tensor
from bundle.errors import ManifestMalformed, ManifestTooLarge, PathEscapes, VersionUnsupported
from bundle.manifest import PRECISIONS, REQUIRED_GRAPHS, File, codebook_file
from bundle.manifest_json import MAX_MANIFEST_BYTES, format_manifest, parse_manifest

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
texts = st.text(max_size=20)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
lengths = st.integers(1, 1 << 20)
json_objects = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)
tensors = st.builds(
    Tensor,
    name=texts,
    dtype=st.sampled_from(["uint8", "int64", "float32"]),
    axes=st.lists(lengths | texts, max_size=4).map(tuple),
)


@st.composite
def manifests(draw):
    """Any manifest that a writer could make."""
    graphs = {}
    residual_sizes = draw(st.lists(st.integers(2, 65536), max_size=3).map(tuple))
    files = {
        codebook_file(stage): File(draw(lengths), draw(digests))
        for stage in range(1 + len(residual_sizes))
    }
    decoders = draw(st.lists(names, max_size=2, unique=True))
    extra = draw(st.lists(names, max_size=2, unique=True))
    for name in [*REQUIRED_GRAPHS, *extra, *(f"decoder-{name}" for name in decoders)]:
        weights = draw(st.sampled_from([None, f"{name}.weights"]))
        if weights is not None:
            files[weights] = File(draw(lengths), draw(digests))
        precisions = ["fp32", *draw(st.lists(st.sampled_from(PRECISIONS[1:]), unique=True))]
        graphs[name] = Graph(
            inputs=(draw(tensors),),
            outputs=draw(st.lists(tensors, min_size=1, max_size=2).map(tuple)),
            files={p: f"{name}.{p}.onnx" for p in precisions},
            weights=weights,
        )
        for p in precisions:
            files[f"{name}.{p}.onnx"] = File(draw(lengths), draw(digests))
    recognizers = {
        name: Recognizer(
            graph=name,
            classes=draw(st.lists(texts, min_size=1, max_size=3).map(tuple)),
            licence=draw(texts),
            metrics=draw(json_objects),
        )
        for name in extra
    }
    data = draw(st.lists(json_objects, max_size=2))
    return Manifest(
        name=draw(names),
        version=draw(names),
        code_space=draw(digests),
        stride=draw(st.integers(1, 64)),
        codebook_size=draw(st.integers(2, 65536)),
        codebook_width=draw(lengths),
        embedding_size=draw(lengths),
        graphs=graphs,
        files=files,
        recognizers=recognizers,
        residual_sizes=residual_sizes,
        default_stages=draw(st.integers(1, 1 + len(residual_sizes))),
        decoders={name: Decoder(f"decoder-{name}", draw(json_objects)) for name in decoders},
        data=tuple({**entry, "name": "n", "licence": "l"} for entry in data),
        training=draw(json_objects),
        metrics=draw(json_objects),
        parity=draw(json_objects),
    )


@given(manifests())
def test_round_trip(manifest):
    """Whatever manifest is written, the same is read back."""
    assert parse_manifest(format_manifest(manifest)) == manifest


@pytest.fixture(scope="module")
def valid(tiny_bundle):
    """The fields of a real manifest."""
    return json.loads((tiny_bundle / "manifest.json").read_bytes())


def changed(valid, path, value):
    """A deep copy of the manifest with one field replaced, as JSON text; None removes it."""
    copy = json.loads(json.dumps(valid))
    *parents, last = path.split("/")
    place = copy
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return json.dumps(copy).encode()


def test_unknown_keys_are_ignored(valid):
    """A later writer may add keys without breaking this reader."""
    assert parse_manifest(changed(valid, "something_new", 1)).name == "tiny"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", "other"),
        ("name", None),
        ("name", "../tiny"),
        ("name", "Tiny"),
        ("version", 1),
        ("code_space", "abc"),
        ("code_space", "G" * 64),
        ("stride", 0),
        ("stride", True),
        ("stride", 8.0),
        ("codebook", []),
        ("codebook/size", -1),
        ("embedding/size", "256"),
        ("graphs", None),
        ("graphs/encoder", None),
        ("graphs/encoder/files/fp32", None),
        ("graphs/encoder/files/fp12", "encoder.onnx"),
        ("graphs/encoder/files/fp32", "other.onnx"),
        ("graphs/encoder/files/fp32", 3),
        ("graphs/encoder/inputs", [{"name": "x", "dtype": "object", "axes": []}]),
        ("graphs/encoder/inputs", [{"name": "x", "dtype": "uint8", "axes": [-1]}]),
        ("graphs/encoder/inputs", ["pixels"]),
        ("files/codebook.npy", None),
        ("files/encoder.onnx/bytes", 0),
        ("files/encoder.onnx/sha256", "0"),
        ("recognizers", {"r": {"graph": "none", "classes": ["a"], "licence": "l", "metrics": {}}}),
        ("recognizers", {"r": {"graph": "embedder", "classes": [], "licence": "", "metrics": {}}}),
        ("data", [{"name": "without licence"}]),
        ("data", {}),
        ("metrics", []),
    ],
)
def test_impossible_fields_are_refused(valid, path, value):
    """A missing field, a wrong type or an impossible value is a malformed manifest."""
    with pytest.raises(ManifestMalformed):
        parse_manifest(changed(valid, path, value))


@pytest.fixture(scope="module")
def staged(valid):
    """The fields of a manifest of version 2: two stages, a second decoder, weights in a file."""
    values = json.loads(json.dumps(valid))
    del values["prior"]
    values["format_version"] = 2
    values["codebook"] |= {"residual_sizes": [16], "default_stages": 2}
    values["graphs"]["decoder-texture"] = values["graphs"]["decoder"]
    values["decoders"] = {"texture": {"graph": "decoder-texture", "metrics": {"psnr": 20.0}}}
    values["files"] |= dict.fromkeys(
        ["codebook-2.npy", "encoder.weights"], values["files"]["codebook.npy"]
    )
    values["graphs"]["encoder"]["weights"] = "encoder.weights"
    return values


def test_a_manifest_of_version_2(staged):
    """Stages, decoders and files of weights, as the reader gives them."""
    manifest = parse_manifest(json.dumps(staged).encode())
    assert manifest.format_version == 2
    assert manifest.codebook_sizes == (256, 16)
    assert (manifest.stages, manifest.stage_bits, manifest.default_stages) == (2, (8, 4), 2)
    assert manifest.decoder_graph() == "decoder"
    assert manifest.decoder_graph("texture") == "decoder-texture"
    assert manifest.graphs["encoder"].weights == "encoder.weights"


def test_a_manifest_of_version_1_is_written_as_that(valid):
    """Bundles that need nothing of version 2 can be read by programs that know only version 1."""
    manifest = parse_manifest(json.dumps(valid).encode())
    assert json.loads(format_manifest(manifest)) == valid
    assert valid["format_version"] == 1


def test_keys_of_version_2_mean_nothing_in_version_1(valid):
    """A reader ignores keys that it doesn't know, and so does this one for that version."""
    text = changed(valid, "codebook", valid["codebook"] | {"residual_sizes": "many"})
    assert parse_manifest(text).stages == 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("codebook/residual_sizes", None),
        ("codebook/residual_sizes", [1]),
        ("codebook/residual_sizes", [True]),
        ("codebook/residual_sizes", [16] * 16),
        ("codebook/residual_sizes", [16, 16]),
        ("codebook/default_stages", 0),
        ("codebook/default_stages", 3),
        ("decoders", None),
        ("decoders/texture/graph", "decoder"),
        ("decoders/texture/graph", 1),
        ("decoders/texture/metrics", []),
        ("graphs/decoder-texture", None),
        ("graphs/encoder/weights", 1),
        ("graphs/encoder/weights", "absent.weights"),
    ],
)
def test_impossible_fields_of_version_2_are_refused(staged, path, value):
    """Sizes, stages without a codebook, decoders without a graph, weights without a file."""
    with pytest.raises(ManifestMalformed):
        parse_manifest(changed(staged, path, value))


def test_weights_stay_inside_the_folder(staged):
    """Their file's name is held to the same rule as all others."""
    with pytest.raises(PathEscapes):
        parse_manifest(changed(staged, "graphs/encoder/weights", "../weights"))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 5000])
def test_not_json(text):
    """What is no JSON object is a malformed manifest, nested however deep."""
    with pytest.raises(ManifestMalformed):
        parse_manifest(text)


def test_other_versions_are_refused(valid):
    """A manifest of a newer format version is refused as that, not as malformed."""
    with pytest.raises(VersionUnsupported, match=r"version 4; this program reads 1 to 3"):
        parse_manifest(changed(valid, "format_version", 4))


def test_oversized_manifest():
    """A manifest beyond the cap is refused before it is parsed."""
    with pytest.raises(ManifestTooLarge):
        parse_manifest(b" " * (MAX_MANIFEST_BYTES + 1))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "a\\b", ".hidden", "", "a\0b"])
def test_file_names_that_escape(valid, name):
    """A file name with a separator, a leading dot or nothing at all is refused."""
    with pytest.raises(PathEscapes):
        parse_manifest(
            changed(valid, "files", {**valid["files"], name: {"bytes": 1, "sha256": "0" * 64}})
        )


def test_bits_per_code():
    """A code takes ⌈log2 K⌉ bits."""
    manifest = Manifest("n", "1", "0" * 64, 8, 2, 1, 1, {}, {})
    sizes = {2: 1, 3: 2, 4: 2, 5: 3, 256: 8, 257: 9, 4096: 12, 65536: 16}
    for size, bits in sizes.items():
        assert dataclasses.replace(manifest, codebook_size=size).bits == bits


def test_other_pixels_are_version_3(valid):
    """Channels and the sample that is white are read and written; 3 and 255 need no new version."""
    values = {**json.loads(json.dumps(valid)), "format_version": 3}
    values["pixels"] = {"channels": 1, "maximum": 4095}
    values["codebook"] = {**values["codebook"], "residual_sizes": [], "default_stages": 1}
    values["decoders"] = {}
    manifest = parse_manifest(json.dumps(values).encode())
    assert (manifest.channels, manifest.sample_maximum) == (1, 4095)
    assert (manifest.sample_dtype, manifest.format_version) == ("uint16", 3)
    assert parse_manifest(format_manifest(manifest)) == manifest
    values["pixels"] = {"channels": 3, "maximum": 255}
    assert parse_manifest(json.dumps(values).encode()).format_version == 1
    for pixels in ({"channels": 17, "maximum": 255}, {"channels": 1, "maximum": 65536}, {}):
        values["pixels"] = pixels
        with pytest.raises(ManifestMalformed):
            parse_manifest(json.dumps(values).encode())
