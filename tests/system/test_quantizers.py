"""Every kind of quantizer and network from its settings to HTTP: exported, proven, served."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from app.codecs.tess import MEDIA_TYPE as PACKED
from app.codecs.tess import read_tess
from bundle import open_bundle
from training.data.dataset import find_images, read_image
from training.export import export
from training.onnx_export.codec import BundleCodec, CheckpointCodec, code_vectors, tokenizer_of
from training.tokenizer.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.tokenizer.config_file import load_config, override
from training.tokenizer.model import Tokenizer, to_float

# Exporting five models takes a minute, and several where others use the machine.
pytestmark = pytest.mark.timeout(600)

NPY = "application/x-npy"
# Nearest codes with and without further stages have bundles of their own (tests/data).
KINDS = {
    "simvq": ["quantizer.kind=simvq", "quantizer.size=96", "quantizer.width=6"],
    "fsq": ["quantizer.kind=fsq", "quantizer.levels=[7, 5, 4]"],
    "lfq": ["quantizer.kind=lfq", "quantizer.bits=10"],
    "product": ["quantizer.kind=product", "quantizer.sizes=[9, 6]"],
    "bsq": [  # between VQGAN's networks
        "quantizer.kind=bsq",
        "quantizer.bits=9",
        "network.kind=vqgan",
        "network.widths=[8, 8, 8, 16]",
        "network.groups=4",
    ],
}
SIZES = {"simvq": 96, "fsq": 140, "lfq": 1024, "product": 54, "bsq": 512}
FACTORS = {"simvq": [], "fsq": [7, 5, 4], "lfq": [2] * 10, "product": [9, 6], "bsq": [2] * 9}
kinds = pytest.mark.parametrize("kind", KINDS)


def checkpoint_of(config, images):
    """A model of random weights that uses its codes: training for as long would take minutes.

    Latents have mean 0 and deviation 1, and codebooks have seen them.
    """
    torch.manual_seed(0)
    model = Tokenizer(config)
    pixels = to_float(torch.from_numpy(np.stack([image[:64, :64] for image in images])))
    layer = model.encoder.to_latents
    with torch.no_grad():
        latents = model.encoder(pixels)
        mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
        layer.bias.copy_((layer.bias - mean) / deviation)
        layer.weight.div_(deviation[:, None, None, None])
    model.train()(pixels)
    weights = model.state_dict()
    facts = {"images_seen": 0, "seconds": 0.0, "images": len(images)}
    return Checkpoint(config, config.steps, weights, weights, {}, facts)


@pytest.fixture(scope="module")
def models(photos, tmp_path_factory):
    """A folder with a bundle of each kind, and one with their checkpoints."""
    torch.set_num_threads(1)
    images = [read_image(path) for path in find_images([photos]).paths]
    runs, models = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("models")
    for kind, settings in KINDS.items():
        config = override(load_config("tiny"), [f"name={kind}", *settings])
        checkpoint = checkpoint_of(config, images)
        save_checkpoint(runs / kind / "last.pt", checkpoint)
        export(checkpoint, images, models / kind, precisions=("fp32",))
    return models, runs


@pytest.fixture(scope="module")
def served(models, run_app):
    """A client of a service that has all of them."""
    with run_app(models_dir=models[0], default_model="fsq") as client:
        yield client


@pytest.fixture(scope="module")
def picture(photos):
    """A photograph whose sides are no multiples of a stride, as PNG."""
    with Image.open(photos / "lake.webp") as image:
        buffer = io.BytesIO()
        image.crop((0, 0, 75, 53)).save(buffer, "PNG")
    return buffer.getvalue()


def post(client, route, body, media_type, accept, **params):
    headers = {"content-type": media_type, "accept": accept}
    answer = client.post(route, content=body, headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    return answer.content


@kinds
def test_codes_go_out_and_come_back(served, models, picture, kind):
    """Encode → `.tess` → decode is what training's own network makes of the picture."""
    packed = post(served, "/v1/encode", picture, "image/png", PACKED, model=kind)
    file = read_tess(packed, max_images=1, max_pixels=1 << 20)
    assert (file.codebook_size, file.stride) == (SIZES[kind], 8)
    grid = file.grids[0].codes
    made = np.array(
        Image.open(io.BytesIO(post(served, "/v1/decode", packed, PACKED, "image/png", model=kind)))
    )
    codec = CheckpointCodec(tokenizer_of(load_checkpoint(models[1] / kind / "last.pt")))
    pixels = np.array(Image.open(io.BytesIO(picture)))
    wanted = codec.encode_image(pixels)
    assert grid.shape == wanted.shape == (7, 10)
    assert (grid == wanted).mean() > 0.95
    assert made.shape == pixels.shape
    decoded = codec.decode_image(grid, *pixels.shape[:2])
    assert np.abs(made.astype(int) - decoded).mean() < 1


@kinds
def test_the_model_says_what_its_codes_are(served, kind):
    """Kind, size, factors, and the bits that one code can tell, which needn't be whole."""
    facts = served.get(f"/v1/models/{kind}").json()
    assert facts["codebook_size"] == SIZES[kind]
    assert facts["bits_per_code"] == math.ceil(math.log2(SIZES[kind]))
    assert facts["quantizer"] == {
        "kind": kind,
        "factors": FACTORS[kind],
        "information_bits": [round(math.log2(SIZES[kind]), 4)],
    }


@kinds
def test_the_codebook_has_a_vector_for_each_code(served, models, kind):
    """Those that decoding uses, also where the bundle holds small tables alone."""
    path = f"/v1/models/{kind}/codebook"
    vectors = np.load(io.BytesIO(served.get(path, headers={"accept": NPY}).content))
    model = tokenizer_of(load_checkpoint(models[1] / kind / "last.pt"))
    wanted = model.quantizer.normalized_codebook().numpy()
    assert vectors.shape == (SIZES[kind], model.config.quantizer.width)
    assert np.array_equal(vectors, wanted)
    assert np.array_equal(code_vectors(open_bundle(models[0] / kind)), wanted)


def test_a_codebook_that_is_too_large_is_refused(served, monkeypatch):
    """So many vectors aren't written out; the answer says where they come from."""
    monkeypatch.setattr("app.runtime.model._MOST_VECTORS", 1000)
    answer = served.get("/v1/models/lfq/codebook")
    assert (answer.status_code, answer.json()["code"]) == (404, "codebook_too_large")
    assert "1024 codes of lfq is made up of 10 choices" in answer.json()["detail"]


@kinds
def test_codes_are_embedded(served, picture, kind):
    """As those of any model."""
    vector = np.load(
        io.BytesIO(post(served, "/v1/embed", picture, "image/png", NPY, model=kind))
    ).ravel()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-4)


def test_codes_out_of_range_are_refused(served):
    """A size that isn't a power of two is held to, not its bits."""
    grid = np.array([[[139, 140]]], dtype="<u2")
    body = io.BytesIO()
    np.save(body, grid)
    answer = served.post(
        "/v1/decode",
        content=body.getvalue(),
        headers={"content-type": NPY},
        params={"model": "fsq"},
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "codes_invalid")
    assert "0…139" in answer.json()["detail"]


@kinds
def test_the_bundle_needs_the_newer_format_where_codes_are_choices(models, kind):
    """A reader that knows version 1 alone would look for a table of all codes."""
    manifest = open_bundle(models[0] / kind).manifest
    assert (
        manifest.format_version == (2 if FACTORS[kind] else 1) or manifest.graphs["decoder"].weights
    )
    assert manifest.stage_information == (math.log2(SIZES[kind]),)


def test_images_are_not_cut_into_tiles_where_all_sees_all(models):
    """Normalisation and attention have no reach; plain convolutions have one."""
    graphs = {kind: open_bundle(models[0] / kind).manifest.graphs for kind in ("bsq", "fsq")}
    assert graphs["bsq"]["encoder"].reach is graphs["bsq"]["decoder"].reach is None
    assert graphs["fsq"]["encoder"].reach is not None


@pytest.mark.parametrize("height", [1, 4])
def test_any_size_goes_through_vqgan(models, height):
    """Sides are multiples of the stride, and nothing else."""
    codec = BundleCodec(open_bundle(models[0] / "bsq"), threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8 * height, 24, 3)).astype(np.uint8)
    codes = codec.encode(pixels)
    assert codes.shape == (2, height, 3)
    assert codec.decode(codes).shape == pixels.shape
