"""The Open Inference Protocol, spoken by Triton's own HTTP client, unmodified."""

from __future__ import annotations

import base64
import io

import httpx
import numpy as np
import orjson
import pytest
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def official(client):
    """The client as its users make it."""
    with triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as official:
        yield official


@pytest.fixture
def raw(client):
    """A client of the same address, for what the official one wouldn't send."""
    with httpx.Client(base_url=client.base_url) as raw:
        yield raw


def given(name: str, array: np.ndarray, *, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def files(*images: np.ndarray) -> triton.InferInput:
    return given("image", np.array([png(image) for image in images], object))


def encoded(client, pixels: np.ndarray) -> list[list[int]]:
    """What our own endpoint makes of it."""
    headers = {"content-type": "image/png"}
    return client.post("/v1/encode", content=png(pixels), headers=headers).json()["data"][0][
        "codes"
    ]


# --- health and metadata -------------------------------------------------------------------


def test_health_as_the_client_asks_for_it(official):
    """Live, ready, and each model ready; an unknown one or version is not."""
    assert official.is_server_live()
    assert official.is_server_ready()
    for task in ("encoder", "quantizer", "decoder", "embedder", "encode", "decode", "embed"):
        assert official.is_model_ready(f"tiny.{task}")
    assert official.is_model_ready("tiny")
    assert official.is_model_ready("tiny.encode", "1")
    assert not official.is_model_ready("tiny.encode", "2")
    assert not official.is_model_ready("absent.encode")


def test_metadata_of_server_and_models(client, official):
    """Names, datatypes and shapes, -1 where a side is free."""
    server = official.get_server_metadata()
    assert (server["name"], "binary_tensor_data" in server["extensions"]) == ("tessera", True)
    encoder = official.get_model_metadata("tiny.encoder")
    assert encoder["versions"] == ["1"]
    assert encoder["inputs"] == [{"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert encoder["outputs"] == [{"name": "latents", "datatype": "FP32", "shape": [-1, 4, -1, -1]}]
    embed = official.get_model_metadata("tiny.embed", "1")
    assert [port["name"] for port in embed["inputs"]] == ["pixels"]
    dimension = client.get("/v1/models/tiny").json()["embedding_dimension"]
    assert embed["outputs"][0]["shape"] == [-1, dimension]


def test_the_repository_can_be_listed(official, raw):
    """By Triton's extension, and as a plain list of names."""
    index = official.get_model_repository_index()
    assert {"name": "tiny.decode", "version": "1", "state": "READY"} in index
    assert raw.get("/v2/models").json()["models"] == [entry["name"] for entry in index]


# --- inference -----------------------------------------------------------------------------


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_pixels_to_codes_in_every_form(client, official, binary_in, binary_out):
    """JSON and binary, in and out, give the codes that our own endpoint gives."""
    pixels = picture(24, 16)
    result = official.infer(
        "tiny.encode",
        [given("pixels", pixels[None], binary=binary_in)],
        outputs=[
            triton.InferRequestedOutput("codes", binary_data=binary_out),
            triton.InferRequestedOutput("size", binary_data=not binary_out),
        ],
        request_id="mine",
    )
    assert result.as_numpy("codes").tolist() == [encoded(client, pixels)]
    assert result.as_numpy("size").tolist() == [[24, 16]]
    answer = result.get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == (
        "mine",
        "tiny.encode",
        "1",
    )
    assert answer["parameters"]["precision"] == "fp32"
    assert len(answer["parameters"]["code_space"]) == 64


def test_encoded_images_as_bytes(client, official):
    """BYTES takes image files, several at once, of any size that is the same."""
    images = [picture(21, 10, seed) for seed in range(3)]
    result = official.infer("tiny", [files(*images)])
    assert result.as_numpy("codes").tolist() == [encoded(client, image) for image in images]
    assert result.as_numpy("size").tolist() == [[21, 10]] * 3


def test_encoded_images_as_base64_in_json(client, raw):
    """JSON can't hold a file's bytes: its strings are base64 or data: URIs."""
    image = picture(16, 16)
    text = base64.b64encode(png(image)).decode()
    entry = {"name": "image", "shape": [2], "datatype": "BYTES"}
    body = {"inputs": [entry | {"data": [text, "data:image/png;base64," + text]}]}
    codes, size = raw.post("/v2/models/tiny.encode/infer", json=body).json()["outputs"]
    assert np.reshape(codes["data"], codes["shape"]).tolist() == [encoded(client, image)] * 2
    assert (size["name"], size["data"]) == ("size", [16, 16, 16, 16])


def test_forms_that_neighbours_taught_their_clients(client, raw):
    """TensorFlow Serving's objects with b64, and a header that a proxy has emptied."""
    image = picture(16, 16)
    data = [{"b64": base64.b64encode(png(image)).decode()}]
    body = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": data}]}
    headers = {"inference-header-content-length": ""}
    answer = raw.post("/v2/models/tiny.encode_image/infer", json=body, headers=headers)
    codes = answer.json()["outputs"][0]
    assert np.reshape(codes["data"], codes["shape"]).tolist() == [encoded(client, image)]


def test_several_inputs_at_once(client, official):
    """Codes and the true size go in together; the decoded image is cropped to it."""
    made = official.infer("tiny.encode", [files(picture(21, 10), picture(21, 10, 1))])
    inputs = [given(name, made.as_numpy(name)) for name in ("codes", "size")]
    for binary in (True, False):
        output = triton.InferRequestedOutput("pixels", binary_data=binary)
        pixels = official.infer("tiny.decode", inputs, outputs=[output]).as_numpy("pixels")
        assert (pixels.shape, pixels.dtype) == ((2, 10, 21, 3), np.uint8)
    own = client.post(
        "/v1/reconstruct",
        content=png(picture(21, 10)),
        headers={"content-type": "image/png", "accept": "application/x-npy"},
    )
    assert np.array_equal(np.load(io.BytesIO(own.content))[0], pixels[0])


def test_the_graphs_chain_to_what_the_composed_models_give(official):
    """Encoder → quantizer → decoder, embedder: each graph by itself."""
    pixels = np.stack([picture(16, 24, seed) for seed in range(2)])
    latents = official.infer("tiny.encoder", [given("pixels", pixels)]).as_numpy("latents")
    assert (latents.shape, latents.dtype) == ((2, 4, 3, 2), np.float32)
    codes = official.infer("tiny.quantizer", [given("latents", latents)]).as_numpy("codes")
    composed = official.infer("tiny.encode", [given("pixels", pixels)]).as_numpy("codes")
    assert np.array_equal(codes, composed)
    decoded = official.infer("tiny.decoder", [given("codes", codes)]).as_numpy("pixels")
    assert np.array_equal(
        decoded, official.infer("tiny.decode", [given("codes", codes)]).as_numpy("pixels")
    )
    vectors = official.infer("tiny.embedder", [given("codes", codes)]).as_numpy("embedding")
    for tensor in (given("codes", codes), given("pixels", pixels), files(*pixels)):
        same = official.infer("tiny.embed", [tensor]).as_numpy("embedding")
        assert np.array_equal(same, vectors)


def test_half_precision_in_and_out(official):
    """FP16 latents are taken as binary, and every float output comes as FP16 if asked for."""
    pixels = picture(16, 16)[None]
    whole = official.infer("tiny.encoder", [given("pixels", pixels)]).as_numpy("latents")
    half = official.infer(
        "tiny.encoder", [given("pixels", pixels)], parameters={"float_datatype": "FP16"}
    )
    assert half.get_output("latents")["datatype"] == "FP16"
    latents = half.as_numpy("latents")
    assert np.array_equal(latents, whole.astype(np.float16))
    codes = official.infer("tiny.quantizer", [given("latents", latents)]).as_numpy("codes")
    assert codes.shape == (1, 2, 2)
    with pytest.raises(InferenceServerException, match="FP16 has no JSON form"):
        official.infer(
            "tiny.encoder",
            [given("pixels", pixels)],
            outputs=[triton.InferRequestedOutput("latents", binary_data=False)],
            parameters={"float_datatype": "FP16"},
        )


def test_small_integers_are_codes_too(official):
    """Codes of any integer datatype."""
    codes = np.array([[[1, 2], [3, 255]]])
    results = [
        official.infer("tiny.decode", [given("codes", codes.astype(dtype))]).as_numpy("pixels")
        for dtype in (np.uint8, np.int16, np.uint64)
    ]
    assert all(np.array_equal(results[0], result) for result in results)


# --- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "tensors", "options", "status", "says"),
    [
        ("absent.encode", [given("pixels", picture(8, 8)[None])], {}, 404, "model_not_found"),
        (
            "tiny",
            [given("pixels", picture(8, 8)[None])],
            {"model_version": "9"},
            404,
            "model_not_f",
        ),
        ("tiny", [given("pixel", picture(8, 8)[None])], {}, 400, "there are: pixels, image"),
        ("tiny", [given("pixels", picture(8, 8))], {}, 400, "must have 4 axes"),
        ("tiny", [given("pixels", picture(8, 8)[None].astype(float))], {}, 400, "must be UINT8"),
        ("tiny.encoder", [given("pixels", picture(9, 8)[None])], {}, 422, "multiples of 8"),
        ("tiny", [given("image", np.array([b"text"], object))], {}, 415, "unsupported_media"),
        ("tiny", [given("image", np.array([png(picture(8, 8))[:60]], object))], {}, 422, "corrupt"),
        ("tiny", [files(picture(8, 8), picture(16, 8))], {}, 406, "one size"),
        ("tiny", [files(picture(8, 8)), given("pixels", picture(8, 8)[None])], {}, 400, "exactly"),
        ("tiny", [given("pixels", np.zeros((65, 8, 8, 3), np.uint8))], {}, 413, "too_many_images"),
        ("tiny.decode", [given("codes", np.array([[[256]]]))], {}, 422, "within 0…255"),
        ("tiny.decode", [given("codes", np.array([[[-1]]]))], {}, 422, "within 0…255"),
        ("tiny.decode", [given("size", np.array([[8, 8]]))], {}, 400, "exactly one"),
        (
            "tiny.decode",
            [given("codes", np.array([[[1]]])), given("size", np.array([[9, 8]]))],
            {},
            422,
            "codes_invalid",
        ),
        (
            "tiny.decode",
            [given("codes", np.array([[[1]]]))],
            {"parameters": {"code_space": "00"}},
            409,
            "code_space_mismatch",
        ),
        (
            "tiny.quantizer",
            [given("latents", np.full((1, 4, 1, 1), np.nan, np.float32))],
            {},
            422,
            "finite",
        ),
        (
            "tiny",
            [given("pixels", picture(8, 8)[None])],
            {"outputs": [triton.InferRequestedOutput("pixels")]},
            422,
            "there are: codes, size",
        ),
        (
            "tiny.embed",
            [given("codes", np.array([[[1]]]))],
            {"outputs": [triton.InferRequestedOutput("embedding", class_count=3)]},
            422,
            "classification",
        ),
        (
            "tiny",
            [given("pixels", picture(8, 8)[None])],
            {"request_compression_algorithm": "gzip"},
            415,
            "compressed",
        ),
    ],
)
def test_errors_are_the_clients_own(official, model, tensors, options, status, says):
    """Each refusal arrives as the client's exception with its status, code and detail."""
    with pytest.raises(InferenceServerException, match=says) as caught:
        official.infer(model, tensors, **options)
    assert caught.value.status() == str(status)


def tensor(**fields) -> dict[str, object]:
    return {"name": "codes", "shape": [1, 1, 1], "datatype": "INT64", "data": [1]} | fields


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not valid JSON"),
        ({}, "inputs must be a list"),
        ({"inputs": []}, "no inputs"),
        ({"inputs": [tensor(), tensor()]}, "one name twice"),
        ({"inputs": [tensor()], "id": 1}, "id must be"),
        ({"inputs": [tensor()], "parameters": []}, "parameters must be"),
        ({"inputs": [tensor()], "outputs": [1]}, "outputs must be"),
        ({"inputs": [tensor(shape=[1, True, 1])]}, "shape must be"),
        ({"inputs": [tensor(shape=[-1, 1, 1])]}, "shape must be"),
        ({"inputs": [tensor(shape=[1] * 9)]}, "shape must be"),
        ({"inputs": [tensor(datatype="INT65")]}, "datatype must be"),
        ({"inputs": [tensor(data=None)]}, "neither data"),
        ({"inputs": [tensor(data=[1, 2])]}, "not what its shape"),
        ({"inputs": [tensor(data=[1.5])]}, "not what its shape"),
        (orjson.dumps({"inputs": [tensor(data=[777])]}).replace(b"777", b"9" * 30), "not what its"),
        ({"inputs": [tensor(data=[[1], [1, 2]])]}, "ragged"),
        ({"inputs": [tensor(datatype="UINT8", data=[300])]}, "out of UINT8's range"),
        ({"inputs": [tensor(datatype="FP16", data=[1.0])]}, "FP16 has no JSON form"),
        ({"inputs": [tensor(datatype="BYTES", data=[1])]}, "as many strings"),
        ({"inputs": [tensor(parameters={"binary_data_size": 8})]}, "more than what follows"),
        ({"inputs": [tensor(parameters={"shared_memory_region": "r"})]}, "not supported"),
    ],
)
def test_requests_that_make_no_sense(raw, body, says):
    """Other clients' faults are named, in the protocol's shape."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    response = raw.post("/v2/models/tiny.decode/infer", content=content)
    assert response.status_code in {400, 422}
    assert list(response.json()) == ["error"]
    assert says in response.json()["error"]


@pytest.mark.parametrize(
    ("length", "size", "after", "says"),
    [
        ("x", 8, b"", "Content-Length is not within"),
        ("999", 8, b"", "Content-Length is not within"),
        (None, 8, b"1234567", "more than what follows"),
        (None, 7, b"1234567", "not what shape and datatype need"),
        (None, 8, b"12345678?", "1 bytes follow"),
    ],
)
def test_binary_parts_that_lie(raw, length, size, after, says):
    """What sizes promise must be there, and nothing else."""
    head = orjson.dumps({"inputs": [tensor(data=None, parameters={"binary_data_size": size})]})
    headers = {"inference-header-content-length": length or str(len(head))}
    response = raw.post("/v2/models/tiny.decode/infer", content=head + after, headers=headers)
    assert (response.status_code, says in response.json()["error"]) == (400, True), response.text


@pytest.mark.parametrize("content", [b"\x05\0\0\0abcd", b"\x01\0\0", b"\x01\0\0\0a\x01\0\0\0b"])
def test_bytes_that_lie(raw, content):
    """An element's length must be there, and as many elements as the shape says."""
    entry = {"name": "image", "shape": [1], "datatype": "BYTES"}
    head = orjson.dumps({"inputs": [entry | {"parameters": {"binary_data_size": len(content)}}]})
    headers = {"inference-header-content-length": str(len(head))}
    response = raw.post("/v2/models/tiny/infer", content=head + content, headers=headers)
    assert (response.status_code, "BYTES" in response.json()["error"]) == (400, True)


def test_health_needs_no_key_and_the_rest_does(run_app, tiny_bundle):
    """Probes can't send keys; the client's own headers can."""
    with run_app(models_dir=tiny_bundle.parent, api_keys="right") as client:
        address = f"{client.base_url.host}:{client.base_url.port}"
        with triton.InferenceServerClient(address) as official:
            assert official.is_server_live()
            assert official.is_server_ready()
            with pytest.raises(InferenceServerException, match="unauthorized"):
                official.get_model_metadata("tiny")
            headers = {"Authorization": "Bearer right"}
            assert official.get_model_metadata("tiny", headers=headers)["name"] == "tiny"


def test_requests_at_once_share_batches(client):
    """Many requests in flight, each with its own answer."""
    images = [picture(16, 16, seed) for seed in range(12)]
    address = f"{client.base_url.host}:{client.base_url.port}"
    with triton.InferenceServerClient(address, concurrency=4) as official:
        waiting = [
            official.async_infer("tiny.encode", [given("pixels", image[None])]) for image in images
        ]
        for image, one in zip(images, waiting, strict=True):
            assert one.get_result().as_numpy("codes").tolist() == [encoded(client, image)]


# --- Triton's extensions -------------------------------------------------------------------


def models_of(official) -> list[str]:
    return [entry["name"] for entry in official.get_model_repository_index()]


@pytest.fixture(scope="module")
def recognizing(run_app, recognizing_bundle):
    """A client of the service with a model that has recognizers."""
    with run_app(models_dir=recognizing_bundle.parent) as client:
        yield client


def test_each_declared_input_is_needed_and_sufficient(recognizing):
    """What metadata declares is all that a tool has to send, for every model."""
    address = f"{recognizing.base_url.host}:{recognizing.base_url.port}"
    values = {
        "pixels": picture(16, 8)[None],
        "image": np.array([[png(picture(16, 8))]], object),
        "codes": np.zeros((1, 1, 2), np.int64),
        "latents": np.zeros((1, 4, 1, 2), np.float32),
    }
    with triton.InferenceServerClient(address) as official:
        names = models_of(official)
        assert {"tiny.encode_image", "tiny.embed_image"} < set(names)
        assert len([name for name in names if ".classify" in name]) == 6
        for name in names:
            metadata = official.get_model_metadata(name)
            (declared,) = metadata["inputs"]
            array = values[declared["name"]]
            assert len(declared["shape"]) == array.ndim
            answer = official.infer(name, [given(declared["name"], array)])
            for port in metadata["outputs"]:
                output = answer.get_output(port["name"])
                assert output["datatype"] == port["datatype"]
                assert len(output["shape"]) == len(port["shape"])
            other = next(key for key in ("pixels", "codes") if key != declared["name"])
            with pytest.raises(InferenceServerException):
                official.infer(name, [given(declared["name"], array), given(other, values[other])])


def test_models_of_encoded_images_give_what_those_of_pixels_give(recognizing):
    """The file, its pixels and its codes get the same codes, vector and probabilities."""
    address = f"{recognizing.base_url.host}:{recognizing.base_url.port}"
    image = picture(24, 16)
    pixels, file = given("pixels", image[None]), given("image", np.array([[png(image)]], object))
    with triton.InferenceServerClient(address) as official:
        codes = official.infer("tiny.encode", [pixels]).as_numpy("codes")
        for name, output, inputs in (
            ("encode", "codes", {"encode_image": file}),
            ("embed", "embedding", {"embed_image": file, "embedder": given("codes", codes)}),
            (
                "classify",
                "probabilities",
                {"classify_image": file, "classify_codes": given("codes", codes)},
            ),
        ):
            wanted = official.infer(f"tiny.{name}", [pixels]).as_numpy(output)
            for other, tensor in inputs.items():
                assert np.array_equal(
                    official.infer(f"tiny.{other}", [tensor]).as_numpy(output), wanted
                ), other


def test_configuration_agrees_with_metadata(official):
    """Every model's and version's: the same tensors, `dims` without the axis of the batch."""
    for name in [*models_of(official), "tiny"]:
        for version in ("", "1"):
            config = official.get_model_config(name, version)
            metadata = official.get_model_metadata(name, version)
            assert (config["name"], config["max_batch_size"]) == (name, 64)
            assert "dynamic_batching" in config
            for ports, tensors in (("inputs", "input"), ("outputs", "output")):
                assert [
                    {
                        "name": tensor["name"],
                        "datatype": tensor["data_type"]
                        .replace("TYPE_STRING", "TYPE_BYTES")
                        .removeprefix("TYPE_"),
                        "shape": [-1, *tensor["dims"]],
                    }
                    for tensor in config[tensors]
                ] == metadata[ports]


def test_statistics_count_what_each_model_did(run_app, tiny_bundle):
    """Items, runs, failures and times, for a name as it was asked for, a version, and all."""
    with run_app(models_dir=tiny_bundle.parent) as client:
        address = f"{client.base_url.host}:{client.base_url.port}"
        with triton.InferenceServerClient(address) as official:
            (before,) = official.get_inference_statistics("tiny.encode")["model_stats"]
            assert (before["inference_count"], before["last_inference"]) == (0, 0)
            batch = np.stack([picture(16, 16, seed) for seed in range(3)])
            for _ in range(2):
                official.infer("tiny", [given("pixels", batch)])
            with pytest.raises(InferenceServerException):
                official.infer("tiny.encode", [given("pixels", batch[0])])
            (after,) = official.get_inference_statistics("tiny.encode", "1")["model_stats"]
            assert (after["name"], after["version"]) == ("tiny.encode", "1")
            assert after["inference_count"] == 6
            assert 2 <= after["execution_count"] <= 6
            assert after["last_inference"] > 1_700_000_000_000
            stats = after["inference_stats"]
            assert (stats["success"]["count"], stats["fail"]["count"]) == (2, 1)
            assert 0 < stats["compute_infer"]["ns"] < stats["success"]["ns"]
            assert (
                sum(run["compute_infer"]["count"] for run in after["batch_stats"])
                == (after["execution_count"])
            )
            (named,) = official.get_inference_statistics("tiny")["model_stats"]
            assert named == after | {"name": "tiny"}
            every = official.get_inference_statistics()["model_stats"]
            assert after in every
            assert [one["name"] for one in every] == models_of(official)
            with pytest.raises(InferenceServerException, match="model_not_found"):
                official.get_inference_statistics("absent")


def test_codes_of_several_stages(run_app, staged_bundle):
    """A model of two stages gives and takes both; vectors are of the first, as metadata says."""
    with run_app(models_dir=staged_bundle.parent, default_model="tiny-staged") as client:
        address = f"{client.base_url.host}:{client.base_url.port}"
        image = picture(16, 24)
        headers = {"content-type": "image/png"}
        own = client.post("/v1/encode", content=png(image), headers=headers).json()["data"][0]
        with triton.InferenceServerClient(address) as official:
            made = official.infer("tiny-staged.encode", [given("pixels", image[None])])
            codes = made.as_numpy("codes")
            assert codes.tolist() == [own["codes"]]
            assert codes.shape == (1, 2, 3, 2)
            for name in ("encode", "decode", "embed", "encoder", "quantizer", "decoder"):
                config = official.get_model_config(f"tiny-staged.{name}")
                metadata = official.get_model_metadata(f"tiny-staged.{name}")
                for ports, tensors in (("inputs", "input"), ("outputs", "output")):
                    assert [[-1, *tensor["dims"]] for tensor in config[tensors]] == [
                        port["shape"] for port in metadata[ports]
                    ]
            declared = official.get_model_metadata("tiny-staged.decode")["inputs"][0]["shape"]
            assert declared == [-1] * 4  # of any number of stages
            whole = official.infer("tiny-staged.decode", [given("codes", codes)])
            graph = official.infer("tiny-staged.decoder", [given("codes", codes)])
            first = official.infer("tiny-staged.decode", [given("codes", codes[:, :1])])
            plain = official.infer("tiny-staged.decode", [given("codes", codes[:, 0])])
            assert np.array_equal(whole.as_numpy("pixels"), graph.as_numpy("pixels"))
            assert np.array_equal(first.as_numpy("pixels"), plain.as_numpy("pixels"))
            assert not np.array_equal(first.as_numpy("pixels"), whole.as_numpy("pixels"))
            vector = official.infer("tiny-staged.embedder", [given("codes", codes[:, 0])])
            assert np.array_equal(
                vector.as_numpy("embedding"),
                official.infer("tiny-staged.embed", [given("pixels", image[None])]).as_numpy(
                    "embedding"
                ),
            )
            with pytest.raises(InferenceServerException, match="3 stages"):
                official.infer("tiny-staged.decode", [given("codes", codes[:, [0, 1, 1]])])
            with pytest.raises(InferenceServerException, match="within 0…15"):
                official.infer(
                    "tiny-staged.decode", [given("codes", np.add(codes, [[[0]], [[16]]]))]
                )
