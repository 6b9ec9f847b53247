"""The Open Inference Protocol over gRPC, by Triton's own client, unmodified, to a process."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.http
from PIL import Image
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from app.errors import TesseraError
from app.server.grpc import messages
from app.server.grpc.service import CODES

ROOT = Path(__file__).parents[3]


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def serving(models_dir: Path, **environment: object):
    """A ready process: itself, its address for HTTP, and that for gRPC."""
    port, grpc_port = free_ports(2)
    values = {
        "models_dir": models_dir,
        "host": "127.0.0.1",
        "port": port,
        "grpc_port": grpc_port,
    } | environment
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "serve"],
        cwd=ROOT,
        env=kept | {f"TESSERA_{name.upper()}": str(value) for name, value in values.items()},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.02)
        yield process, f"127.0.0.1:{port}", f"127.0.0.1:{grpc_port}"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def service(tiny_bundle):
    """A process with the tiny model, shared by the tests that don't end it."""
    with serving(tiny_bundle.parent) as service:
        yield service


@pytest.fixture(scope="module")
def official(service):
    """The client as its users make it."""
    with triton.InferenceServerClient(service[2]) as official:
        yield official


def given(name: str, array: np.ndarray) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


# --- health and metadata -------------------------------------------------------------------


def test_health_as_the_client_asks_for_it(official):
    """Live, ready, and each model ready; an unknown one or version is not."""
    assert official.is_server_live()
    assert official.is_server_ready()
    assert official.is_model_ready("tiny")
    assert official.is_model_ready("tiny.decode", "1")
    assert not official.is_model_ready("tiny.decode", "2")
    assert not official.is_model_ready("absent")


def test_grpcs_own_health_check(service):
    """What Kubernetes' probes ask: of the whole server, and of its service; others are unknown."""
    with grpc.insecure_channel(service[2]) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        serving = b"\x08\x01"
        assert check(b"") == serving
        name = b"inference.GRPCInferenceService"
        assert check(b"\x0a" + bytes([len(name)]) + name) == serving
        with pytest.raises(grpc.RpcError) as caught:
            check(b"\x0a\x05other")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_all_that_is_said_of_models_is_what_http_says(service, official):
    """Metadata, configuration and index, through either of Triton's clients."""
    with tritonclient.http.InferenceServerClient(service[1]) as over_http:
        assert official.get_server_metadata(as_json=True) == over_http.get_server_metadata()
        index = official.get_model_repository_index(as_json=True)["models"]
        assert index == over_http.get_model_repository_index()
        for entry in index:
            name = entry["name"]
            said = official.get_model_metadata(name, as_json=True)
            wanted = over_http.get_model_metadata(name)
            for port in [*said["inputs"], *said["outputs"]]:
                port["shape"] = [int(side) for side in port["shape"]]  # JSON of protobuf has text
            assert said == wanted
            config = official.get_model_config(name).config
            wanted = over_http.get_model_config(name)
            assert (config.name, config.max_batch_size) == (name, wanted["max_batch_size"])
            assert [list(tensor.dims) for tensor in [*config.input, *config.output]] == [
                tensor["dims"] for tensor in [*wanted["input"], *wanted["output"]]
            ]
            assert config.HasField("dynamic_batching")
            assert config.parameters["precision"].string_value == "fp32"


def test_statistics_count_both_protocols_together(service, official):
    """They are of the model, not of the port."""
    with tritonclient.http.InferenceServerClient(service[1]) as over_http:

        def counted() -> tuple[int, int]:
            (by_grpc,) = official.get_inference_statistics("tiny.embed").model_stats
            (by_http,) = over_http.get_inference_statistics("tiny.embed")["model_stats"]
            return by_grpc.inference_count, by_http["inference_count"]

        before = counted()
        official.infer("tiny.embed", [given("pixels", picture(16, 16)[None])])
        tensor = tritonclient.http.InferInput("pixels", [1, 16, 16, 3], "UINT8")
        over_http.infer("tiny.embed", [tensor.set_data_from_numpy(picture(16, 16)[None])])
        assert counted() == (before[0] + 2, before[1] + 2)
    names = [one.name for one in official.get_inference_statistics().model_stats]
    assert names == [one.name for one in official.get_model_repository_index().models]


# --- inference -----------------------------------------------------------------------------


def test_pixels_files_and_codes_give_what_http_gives(service, official):
    """The same codes, the picture that they decode to, and the request's id."""
    image = picture(21, 10)
    own = httpx.post(
        f"http://{service[1]}/v1/encode", content=png(image), headers={"content-type": "image/png"}
    ).json()["data"][0]["codes"]
    by_pixels = official.infer("tiny", [given("pixels", image[None])], request_id="mine")
    by_file = official.infer("tiny.encode_image", [given("image", np.array([[png(image)]], "O"))])
    for answer in (by_pixels, by_file):
        assert answer.as_numpy("codes").tolist() == [own]
        assert answer.as_numpy("size").tolist() == [[21, 10]]
    answer = by_pixels.get_response()
    assert (answer.id, answer.model_name, answer.model_version) == ("mine", "tiny", "1")
    assert answer.parameters["precision"].string_param == "fp32"
    inputs = [given(name, by_pixels.as_numpy(name)) for name in ("codes", "size")]
    wanted = [triton.InferRequestedOutput("pixels")]
    pixels = official.infer("tiny.decode", inputs, outputs=wanted).as_numpy("pixels")
    assert (pixels.shape, pixels.dtype) == ((1, 10, 21, 3), np.uint8)


def test_parameters_are_passed_on(official):
    """FP16 outputs where they are asked for, and codes of another space refused."""
    pixels = given("pixels", picture(16, 16)[None])
    half = official.infer("tiny.encoder", [pixels], parameters={"float_datatype": "FP16"})
    assert half.as_numpy("latents").dtype == np.float16
    with pytest.raises(InferenceServerException, match="code_space_mismatch") as caught:
        official.infer("tiny", [pixels], parameters={"code_space": "00"})
    assert caught.value.status() == "StatusCode.FAILED_PRECONDITION"


@pytest.fixture(scope="module")
def infer(service):
    """The procedure itself, for what the official client wouldn't send."""
    with grpc.insecure_channel(service[2]) as channel:
        yield channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            service_pb2.ModelInferRequest.SerializeToString,
            service_pb2.ModelInferResponse.FromString,
        )


def request(name: str, datatype: str, shape: list[int], raw: list[bytes] = (), **contents):
    asked = service_pb2.ModelInferRequest(model_name="tiny.decode", raw_input_contents=raw)
    tensor = asked.inputs.add(name=name, datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return asked


@pytest.mark.parametrize(
    ("datatype", "field"),
    [
        ("INT16", "int_contents"),
        ("INT64", "int64_contents"),
        ("UINT8", "uint_contents"),
        ("UINT64", "uint64_contents"),
    ],
)
def test_contents_by_datatype(official, infer, datatype, field):
    """Tensors that come as numbers and not as raw bytes."""
    answer = infer(request("codes", datatype, [1, 1, 2], **{field: [3, 7]}))
    codes = given("codes", np.array([[[3, 7]]]))
    pixels = official.infer("tiny.decode", [codes]).as_numpy("pixels")
    assert answer.raw_output_contents[0] == pixels.tobytes()


def test_files_as_contents(official, infer):
    """Elements of BYTES are files as they are, not base64."""
    asked = request("image", "BYTES", [2], bytes_contents=[png(picture(8, 8, n)) for n in (0, 1)])
    asked.model_name = "tiny.encode_image"
    codes = given("pixels", np.stack([picture(8, 8, n) for n in (0, 1)]))
    wanted = official.infer("tiny", [codes]).as_numpy("codes")
    assert infer(asked).raw_output_contents[0] == wanted.tobytes()


@pytest.mark.parametrize(
    ("asked", "code", "says"),
    [
        (request("codes", "INT64", [1, 1, 2], [b"\0" * 8]), "INVALID_ARGUMENT", "not what shape"),
        (request("codes", "INT64", [1, 1, 1], [b"", b""]), "INVALID_ARGUMENT", "as many as inputs"),
        (request("codes", "INT64", [1, 1, 2], int64_contents=[1]), "INVALID_ARGUMENT", "shape"),
        (request("codes", "FP16", [1]), "INVALID_ARGUMENT", "send others as raw"),
        (request("codes", "INT64", [-1, 1, 1], [b""]), "INVALID_ARGUMENT", "shape must be"),
        (request("codes", "INT64", [1, 0, 1], [b""]), "INVALID_ARGUMENT", "codes are empty"),
        (request("codes", "INT64", [2**39, 2**39], [b""]), "INVALID_ARGUMENT", "not what shape"),
        (request("codes", "INT64", [1, 1, 1], int64_contents=[256]), "INVALID_ARGUMENT", "within"),
        (service_pb2.ModelInferRequest(model_name="tiny"), "INVALID_ARGUMENT", "no inputs"),
        (service_pb2.ModelInferRequest(model_name="absent"), "NOT_FOUND", "model_not_found"),
        (service_pb2.ModelInferRequest(model_name="tiny/infer"), "NOT_FOUND", "model_not_found"),
        (service_pb2.ModelInferRequest(), "NOT_FOUND", "model_not_found"),
    ],
)
def test_requests_that_make_no_sense(infer, asked, code, says):
    """Each gets gRPC's code, our code, and a detail; and the id that finds it in the log."""
    with pytest.raises(grpc.RpcError) as caught:
        infer(asked)
    assert (caught.value.code().name, says in caught.value.details()) == (code, True), caught.value
    assert re.match(r"\w+: ", caught.value.details())


def test_what_is_no_message_at_all(service):
    """Bytes that protobuf can't read."""
    with grpc.insecure_channel(service[2]) as channel:
        raw = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            raw(b"\xff" * 9)
    assert caught.value.details() == "malformed_request: the message is not a ModelInferRequest"


def test_streams_are_not_spoken(service):
    """Nor is anything else that the protocol has and this service hasn't."""
    with (
        triton.InferenceServerClient(service[2]) as official,
        pytest.raises(InferenceServerException, match="Method not found"),
    ):
        official.get_system_shared_memory_status()
    with grpc.insecure_channel(service[2]) as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        with pytest.raises(grpc.RpcError) as caught:
            next(stream(iter([b""])))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_every_status_has_a_code():
    """Of all errors of the service."""
    waiting, found = [TesseraError], set()
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        found.add(kind.status)
    assert found == set(CODES)


def test_messages_are_the_protocols():
    """Every field has the number and the type that Triton's client has for it."""
    theirs = service_pb2.DESCRIPTOR.pool

    def compare(message) -> int:
        if message.name.startswith("HealthCheck"):
            return 0  # of gRPC, and not of Triton's client
        other = theirs.FindMessageTypeByName(message.full_name)
        for field in message.fields:
            same = other.fields_by_name[field.name]
            assert (same.number, same.type) == (field.number, field.type), field.full_name
        for enum in message.enum_types:
            for value in enum.values:
                same = other.enum_types_by_name[enum.name].values_by_name[value.name]
                assert same.number == value.number
        return len(message.fields) + sum(map(compare, message.nested_types))

    file = messages.REQUESTS["ServerLive"].DESCRIPTOR.file
    assert sum(map(compare, file.message_types_by_name.values())) > 100


def test_the_compiled_messages_are_those_of_the_source():
    """`make proto` has been run since the .proto changed."""
    source = re.sub(r"//.*", "", (ROOT / "app/server/grpc/open_inference.proto").read_text())
    written = sorted(re.findall(r"(\w+) = (\d+);", source))

    def compiled(message):
        for field in message.fields:
            yield field.name, str(field.number)
        for enum in message.enum_types:
            yield from ((value.name, str(value.number)) for value in enum.values)
        for nested in message.nested_types:
            if not nested.GetOptions().map_entry:
                yield from compiled(nested)

    file = messages.REQUESTS["ServerLive"].DESCRIPTOR.file
    found = [pair for one in file.message_types_by_name.values() for pair in compiled(one)]
    for enum in file.enum_types_by_name.values():
        found += [(value.name, str(value.number)) for value in enum.values]
    assert sorted(found) == written


# --- keys, limits, load, the end ------------------------------------------------------------


def test_keys_are_wanted_as_over_http(tiny_bundle):
    """As metadata `authorization`; health needs none."""
    with (
        serving(tiny_bundle.parent, api_keys="right") as (_, _, address),
        triton.InferenceServerClient(address) as official,
    ):
        assert official.is_server_live()
        assert official.is_server_ready()
        pixels = [given("pixels", picture(8, 8)[None])]
        for headers in (None, {"authorization": "Bearer wrong"}):
            for call in (
                partial(official.infer, "tiny", pixels),
                partial(official.get_model_metadata, "tiny"),
            ):
                with pytest.raises(InferenceServerException, match="unauthorized") as caught:
                    call(headers=headers)
                assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
        assert official.infer("tiny", pixels, headers={"authorization": "Bearer right"})


def test_limits_are_those_of_http(tiny_bundle):
    """Of bytes, images and pixels; and compressed messages aren't read."""
    limits = {"max_body_bytes": 2**20, "max_images": 2, "max_pixels": 10_000}
    with (
        serving(tiny_bundle.parent, **limits) as (_, _, address),
        triton.InferenceServerClient(address) as official,
    ):
        for shape, code, says in (
            ((1, 800, 800, 3), "RESOURCE_EXHAUSTED", "larger than max"),
            ((3, 8, 8, 3), "INVALID_ARGUMENT", "too_many_images"),
            ((1, 200, 200, 3), "INVALID_ARGUMENT", "image_too_large"),
        ):
            with pytest.raises(InferenceServerException, match=says) as caught:
                official.infer("tiny", [given("pixels", np.zeros(shape, np.uint8))])
            assert caught.value.status() == f"StatusCode.{code}"
        pixels = [given("pixels", np.zeros((1, 80, 80, 3), np.uint8))]
        with pytest.raises(InferenceServerException):
            official.infer("tiny", pixels, compression_algorithm="gzip")
        assert official.infer("tiny", pixels)


def test_what_the_answer_carries_besides(infer):
    """The request's id, the times of its stages, and warnings, as metadata of the call's end."""
    asked = request("codes", "INT64", [1, 1, 1], int64_contents=[1])
    _, call = infer.with_call(asked, metadata=(("x-request-id", "mine"),))
    ended = dict(call.trailing_metadata())
    assert ended["x-request-id"] == "mine"
    assert "infer;dur=" in ended["server-timing"]


async def _many(address: str, images: list[np.ndarray]) -> list[np.ndarray]:
    async with triton_aio.InferenceServerClient(address) as official:
        answers = await asyncio.gather(
            *(official.infer("tiny", [given("pixels", image[None])]) for image in images)
        )
    return [answer.as_numpy("codes") for answer in answers]


def test_many_calls_at_once_get_their_own_answers(service, official):
    """Through the asynchronous client, over one connection."""
    images = [picture(16, 16, seed) for seed in range(40)]
    together = asyncio.run(_many(service[2], images))
    for image, codes in zip(images, together, strict=True):
        alone = official.infer("tiny", [given("pixels", image[None])]).as_numpy("codes")
        assert np.array_equal(codes, alone)


def test_a_call_that_is_given_up_is_a_departed_client(service, infer):
    """It ends with the client's deadline, is counted, and nothing of it stays."""
    asked = request("pixels", "UINT8", [1, 1600, 1600, 3], [bytes(3 * 1600 * 1600)])
    asked.model_name = "tiny"
    with pytest.raises(grpc.RpcError) as caught:
        infer(asked, timeout=0.05)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        metrics = httpx.get(f"http://{service[1]}/metrics").text
        if "tessera_held_body_bytes 0.0" in metrics and "tessera_queue_items 0.0" in metrics:
            break
        time.sleep(0.05)
    else:
        pytest.fail("something of the call stayed")
    assert infer(request("codes", "INT64", [1, 1, 1], int64_contents=[1])).outputs


def test_a_signal_under_load_loses_no_call(tiny_bundle):
    """Until the end each call is answered rightly or with UNAVAILABLE; then exit 0."""
    with serving(tiny_bundle.parent) as (process, _, address):
        ended, wrong = [], []
        pixels = picture(64, 64)

        def work() -> None:
            with triton.InferenceServerClient(address) as official:
                wanted = official.infer("tiny", [given("pixels", pixels[None])]).as_numpy("codes")
                while True:
                    try:
                        answer = official.infer("tiny", [given("pixels", pixels[None])])
                    except InferenceServerException as error:
                        ended.append(error.status())
                        return
                    if not np.array_equal(answer.as_numpy("codes"), wanted):
                        wrong.append(answer)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert (wrong, ended) == ([], ["StatusCode.UNAVAILABLE"] * 4)
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0, log
        assert "Traceback" not in log


def test_a_taken_port_is_said_in_one_line(tiny_bundle):
    """Before anything is loaded."""
    port, other = free_ports(2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with serving(tiny_bundle.parent, port=other, grpc_port=port) as (process, _, _):
            _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"tessera: can't listen on 127.0.0.1:{port}" in log


def test_without_the_extra_the_setting_says_what_to_install():
    """And the service runs without it where the port isn't set."""
    code = (
        "import os, sys; sys.modules['grpc'] = None;"
        "os.environ['TESSERA_GRPC_PORT'] = '9001'; os.environ['TESSERA_PORT'] = '0';"
        "sys.argv = ['tessera', 'serve']; from app.cli.main import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "TESSERA_GRPC_PORT: gRPC needs the extra `grpc`" in done.stderr
    assert "Traceback" not in done.stderr
