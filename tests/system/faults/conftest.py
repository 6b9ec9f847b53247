"""What the tests of faults share: a real server process, and a model that images can poison.

Nothing here patches the service. Faults come from outside: signals, sockets, limits of the
process, files; and from a bundle whose encoder, a valid graph, misbehaves where an image carries
a mark in its first two pixels.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image

from app.runtime.device import Device
from app.runtime.operations import ENCODE
from app.runtime.registry import load_models
from bundle import open_bundle, write_bundle

ROOT = Path(__file__).parents[3]
PNG = {"content-type": "image/png"}


def wait_for(condition, seconds=60.0):
    """The condition's value as soon as it is true; on a slow machine that may be late."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value


class Server:
    """A server process.

    Attributes:
        process: it.
        port: where it listens.
        log_file: what it wrote to standard error.
    """

    def __init__(self, folder: Path, environment: dict[str, str], **popen: object) -> None:
        self.log_file = folder / f"log-{len(list(folder.iterdir()))}.jsonl"
        with self.log_file.open("wb") as log:
            options = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": log} | popen
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve"], env=environment, **options
            )
        self.port = int(environment["TESSERA_PORT"])
        # A connection for each request, so that none of ours stays open there.
        self._client = httpx.Client(
            limits=httpx.Limits(max_keepalive_connections=0), timeout=110, trust_env=False
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def messages(self) -> list[str]:
        """What the lines of the log say."""
        lines = [line for line in self.log.splitlines() if line.startswith("{")]
        return [json.loads(line)["message"] for line in lines]

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Wait until it listens, wherever that is, and `/readyz` says 200."""

        def ready():
            assert self.process.poll() is None, self.log
            self.port = self.port or self._listening()
            try:
                return self.port and self.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(ready, seconds)

    def _listening(self) -> int:
        """The port it listens on, as the system knows it; 0 if on none yet."""
        folder = Path(f"/proc/{self.pid}")
        opened = set()
        for file in (folder / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                opened.add(str(file.readlink()))
        for line in (folder / "net" / "tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in opened:
                return int(fields[1].rpartition(":")[2], 16)
        return 0

    def get(self, path: str) -> httpx.Response:
        return self._client.get(f"http://127.0.0.1:{self.port}{path}")

    def post(self, path: str, content: bytes = b"", headers=None, **options) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        return self._client.post(url, content=content, headers=headers or PNG, **options)

    def codes(self, image: bytes) -> list:
        """What encoding a PNG answers."""
        answer = self.post("/v1/encode", image)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"][0]["codes"]

    def connection(self) -> http.client.HTTPConnection:
        """A connection of its own, for requests one after another."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=110)

    def metric(self, name: str) -> float:
        """A metric's value, summed over its labels; 0 if it isn't there."""
        text = self.get("/metrics").text
        found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def files(self) -> int:
        """Open file descriptors, sockets among them."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def wait_until_running(self) -> None:
        """Wait until something has been accepted and nothing waits: so it is being run.

        Seen several times in a row, for between the two there is the moment of its decoding.
        """
        seen = 0
        while seen < 5:
            seen += 1
            if self.metric("tessera_queue_pixels") or not self.metric("tessera_queue_items"):
                seen = 0

    def ended(self, seconds: float = 60) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Leave nothing of it."""
        self.process.kill()
        self.process.wait()
        self._client.close()


@pytest.fixture(scope="session")
def serve(tiny_bundle, tmp_path_factory):
    """How to start a server: a context manager that yields a ready one and kills it in the end.

    Settings are named as the variables are without `TESSERA_`, in lower case; `environment` is
    laid over the test's own; what else `subprocess.Popen` takes goes under `popen`.
    """
    folder = tmp_path_factory.mktemp("servers")

    def variables(settings, environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TESSERA_")}
        defaults = {"host": "127.0.0.1", "port": 0, "models_dir": tiny_bundle.parent}
        given = {f"TESSERA_{k.upper()}": str(v) for k, v in (defaults | settings).items()}
        return kept | given | (environment or {})

    @contextmanager
    def serving(*, environment=None, popen=None, ready=True, **settings):
        server = Server(folder, variables(settings, environment), **(popen or {}))
        try:
            if ready:
                server.wait_until_ready()
            yield server
        finally:
            server.kill()

    return serving


# --- images and what they should give ----------------------------------------------------------


def picture(side: int = 16, seed: int = 0) -> np.ndarray:
    """Noise: uint8 `[side, side, 3]`."""
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of pixels uint8 `[h, w, 3]`."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


@pytest.fixture(scope="session")
def reference(tiny_bundle):
    """The tiny model in this process: what the service's answers are held against."""
    return load_models(tiny_bundle.parent, None, Device("cpu", 0, 1), "fp32").default


@pytest.fixture(scope="session")
def examples(reference):
    """Images as PNG, of several sizes, each with the codes that it must be answered with."""
    images = [picture(side, seed) for seed, side in enumerate((16, 64, 40, 128) * 6)]
    return [(png(image), reference.run(ENCODE, [image])[0].tolist()) for image in images]


class Load:
    """Clients that each ask again and again on one connection, until they are told to go.

    Args:
        server: which they ask.
        examples: what they ask for, as the fixture.
        clients: how many.
        key: which they send.
        until_closed: go on until the server says `Connection: close`; else, to the end of the
            `with` block.

    Attributes:
        right: answers with the codes that they should hold.
        refused: problem codes of the other answers.
        faults: what must not happen: wrong codes, or a connection cut without an answer.
    """

    def __init__(self, server, examples, clients=8, key="", until_closed=False):
        self.right = 0
        self.refused: list[str] = []
        self.faults: list[object] = []
        self._headers = PNG | {"authorization": f"Bearer {key}"}
        self._until_closed = until_closed
        self._stopped = False
        self._server = server
        self._examples = examples
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopped = True
        for thread in self._threads:
            thread.join()

    def _ask(self, turn):
        connection = self._server.connection()
        answered = time.monotonic()
        while not (self._stopped and not self._until_closed):
            file, codes = self._examples[turn % len(self._examples)]
            turn += 1
            paused = time.monotonic() - answered
            try:
                connection.request("POST", "/v1/encode", file, self._headers)
                answer = connection.getresponse()
                body = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                # A server that ends tells its clients for half a second, and closes what is idle
                # then: the fault is this machine's if it kept us from asking for as long.
                if not (self._until_closed and paused > 0.4):
                    self.faults.append(error)
                return
            answered = time.monotonic()
            if answer.status != 200:
                self.refused.append(body["code"])
            elif body["data"][0]["codes"] == codes:
                self.right += 1
            else:
                self.faults.append("wrong codes")
            if answer.getheader("connection") == "close":
                break
        connection.close()


# --- the model that can be poisoned ------------------------------------------------------------

_MARK = (254, 1, 2)
KINDS = {"raise": 1, "nan": 2, "busy": 3, "hang": 4, "mebibytes": 5, "tebibytes": 6}

# What the encoder computes beside its latents: `mark` tells which items are poisoned, and how.
_POISON = """
<ir_version: 10, opset_import: ["" : 20]>
poison (uint8[n, h, w, 3] pixels, float[n, d, r, c] clean) => (float[n, d, r, c] latents)
<int64[2] from = {0, 0}, int64[2] to = {1, 2}, int64[2] sides = {1, 2}, int64[2] flat = {0, 6},
 int64[1] one = {1}, int64[1] zero = {0}, int64[1] three = {3}, int64[1] four = {4},
 int64[1] five = {5}, int64[1] six = {6}, int64[1] first = {0}, int64[4] column = {-1, 1, 1, 1},
 int64[3] magic = {254, 1, 2}, float[1] nothing = {0.0}, int64 rounds = {20000},
 int64 endless = {1000000000000000}, int64 mebi = {262144}, int64 tebi = {274877906944}>
{
  corner = Slice (pixels, from, to, sides)
  numbers = Cast <to = 7> (corner)
  row = Reshape (numbers, flat)
  front = Slice (row, zero, three, one)
  same = Equal (front, magic)
  same_int = Cast <to = 7> (same)
  marked = ReduceMin <keepdims = 0> (same_int, one)
  kinds = Slice (row, three, four, one)
  kind_all = Squeeze (kinds, one)
  kind = Mul (kind_all, marked)
  amounts = Slice (row, four, five, one)
  amount = Squeeze (amounts, one)

  k1 = Constant <value_int = 1> ()
  is1 = Equal (kind, k1)
  raises = Cast <to = 7> (is1)
  index = ReduceMax <keepdims = 0> (raises)
  raised = Gather (nothing, index)

  k2 = Constant <value_int = 2> ()
  is2 = Equal (kind, k2)
  where = Reshape (is2, column)
  nan = Constant <value_float = nan> ()
  spoilt = Where (where, nan, clean)

  k3 = Constant <value_int = 3> ()
  is3 = Equal (kind, k3)
  busy = Cast <to = 7> (is3)
  busy_amount = Mul (busy, amount)
  busy_most = ReduceMax <keepdims = 0> (busy_amount)
  busy_rounds = Mul (busy_most, rounds)
  k4 = Constant <value_int = 4> ()
  is4 = Equal (kind, k4)
  hangs = Cast <to = 7> (is4)
  hang = ReduceMax <keepdims = 0> (hangs)
  hang_rounds = Mul (hang, endless)
  trips = Add (busy_rounds, hang_rounds)
  go = Constant <value = bool {1}> ()
  turned = Loop (trips, go, nothing) <body = turn (int64 i, bool go_on, float[1] x) =>
    (bool again, float[1] y) { again = Identity (go_on)  y = Add (x, x) }>

  k5 = Constant <value_int = 5> ()
  is5 = Equal (kind, k5)
  mebis = Cast <to = 7> (is5)
  mebi_amount = Mul (mebis, amount)
  mebi_sum = ReduceSum <keepdims = 0> (mebi_amount)
  k6 = Constant <value_int = 6> ()
  is6 = Equal (kind, k6)
  tebis = Cast <to = 7> (is6)
  tebi_amount = Mul (tebis, amount)
  tebi_sum = ReduceSum <keepdims = 0> (tebi_amount)
  mebi_size = Mul (mebi_sum, mebi)
  tebi_size = Mul (tebi_sum, tebi)
  size = Add (mebi_size, tebi_size)
  shape = Reshape (size, one)
  filled = ConstantOfShape (shape)
  summed = ReduceSum <keepdims = 0> (filled)

  plus1 = Add (spoilt, raised)
  plus2 = Add (plus1, turned)
  latents = Add (plus2, summed)
}
"""


def poisoned(kind: str, amount: int = 1, side: int = 16, seed: int = 0) -> bytes:
    """A PNG that poisons the run it is in.

    Args:
        kind: `raise`; `nan`; `busy` for `amount` times some ten milliseconds; `hang`; or
            `mebibytes` and `tebibytes`, which make the run need that much memory for each such
            image in it.
        amount: at most 255.
        side: in pixels.
        seed: of the noise around the mark.
    """
    pixels = picture(side, seed)
    pixels[0, 0] = _MARK
    pixels[0, 1, :2] = KINDS[kind], amount
    return png(pixels)


@pytest.fixture(scope="session")
def poisonable(tiny_bundle, tmp_path_factory):
    """A models folder: the tiny model, and its encoder open to `poisoned` images."""
    bundle = open_bundle(tiny_bundle)
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    files["encoder.onnx"] = _poisonable(files["encoder.onnx"])
    folder = tmp_path_factory.mktemp("poisonable")
    write_bundle(folder / "tiny", bundle.manifest, files)
    return folder


def _poisonable(encoder: bytes) -> bytes:
    """The encoder with the poison's nodes behind it."""
    model = onnx.load_from_string(encoder)
    (last,) = [node for node in model.graph.node if "latents" in node.output]
    last.output[0] = "clean"
    poison = onnx.parser.parse_model(_POISON)
    model.graph.node.extend(poison.graph.node)
    model.graph.initializer.extend(poison.graph.initializer)
    onnx.checker.check_model(model)
    return model.SerializeToString()


# Test modules can't import from here: they ask for these by name.


@pytest.fixture(scope="session", name="wait_for")
def _wait_for():
    return wait_for


@pytest.fixture(scope="session", name="poisoned")
def _poisoned():
    return poisoned


@pytest.fixture(scope="session")
def load_on():
    """`Load`."""
    return Load
