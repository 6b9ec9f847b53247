"""A bucket of a server that speaks S3, read by s3fs: real requests over loopback."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).parents[4]
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=none"
}
OPTIONS = ("--size", "24x16", "--shard-size", "4")


@pytest.fixture(scope="module")
def pictures():
    """Twenty small pictures as PNG files."""
    random = np.random.default_rng(0)
    made = []
    for _ in range(20):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(file, "PNG")
        made.append(file.getvalue())
    return made


class Server:
    """A process that serves buckets, which it holds in memory."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
                return
            assert time.monotonic() < deadline
            assert self._process.poll() is None
            time.sleep(0.05)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def server():
    """A server of buckets that can be killed and started."""
    started = Server()
    yield started
    started.kill()


@pytest.fixture
def environment(server, tiny_bundle):
    """What commands are told of server, credentials and models; a failed request isn't repeated."""
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    region = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}
    models = {"TESSERA_MODELS_DIR": str(tiny_bundle.parent)}
    return {**os.environ, "AWS_ENDPOINT_URL": server.address, **keys, **region, **models}


class Bucket:
    """The bucket `images`, filled with pictures and a text by plain HTTP: moto checks no signature.

    Not by s3fs, whose threads would stay in the process of the tests.
    """

    def __init__(self, server: Server, pictures: list[bytes]) -> None:
        self._address = f"{server.address}/images"
        httpx.put(self._address, headers=SIGNED).raise_for_status()
        self._names: set[str] = set()
        for i, picture in enumerate(pictures):
            self.put(f"{i % 2}/{i:03}.png", picture)
        self.put("notes.txt", b"text")

    def put(self, name: str, content: bytes) -> None:
        put = httpx.put(f"{self._address}/{name}", content=content, headers=SIGNED)
        put.raise_for_status()
        self._names.add(name)

    def remove(self) -> None:
        for name in self._names:
            httpx.delete(f"{self._address}/{name}", headers=SIGNED).raise_for_status()
        httpx.delete(self._address, headers=SIGNED).raise_for_status()


@pytest.fixture
def bucket(server, pictures):
    """A bucket with twenty pictures and a text."""
    made = Bucket(server, pictures)
    yield made
    made.remove()


@pytest.fixture
def folder(pictures, tmp_path):
    """The same pictures as files."""
    folder = tmp_path / "files"
    for i, picture in enumerate(pictures):
        path = folder / f"{i % 2}" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    return folder


@pytest.fixture
def tokenize(environment):
    """Runs the command in a process: source, folder, options → exit code, summary or message."""

    def run(source: object, out: object, *options: str):
        command = [sys.executable, "-m", "app", "tokenize", "--json", str(source), str(out)]
        done = subprocess.run(
            [*command, *OPTIONS, *options],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr

    return run


def _shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[0-9]*.npy"))}


def _names(folder: Path) -> list[str]:
    shards = (json.loads(path.read_bytes()) for path in sorted(folder.glob("[0-9]*.json")))
    return [image["name"] for shard in shards for image in shard["images"]]


def test_a_bucket_gives_what_a_folder_gives(tokenize, bucket, folder, pictures, tmp_path):
    """The same codes and names; a second run finds them done, and a replaced object."""
    code, summary = tokenize("s3://images", tmp_path / "out")
    assert (code, summary["images"], summary["skipped"]) == (0, 20, {".txt": 1})
    tokenize(folder, tmp_path / "same")
    assert _shards(tmp_path / "out") == _shards(tmp_path / "same")
    assert _names(tmp_path / "out") == _names(tmp_path / "same")
    assert tokenize("s3://images/", tmp_path / "out")[1]["new_images"] == 0
    bucket.put("1/001.png", pictures[3])
    assert tokenize("s3://images", tmp_path / "out")[1]["new_images"] == 4


def test_tar_and_parquet_objects_are_read_where_they_are(tokenize, bucket, pictures, tmp_path):
    """One object of either kind is a source by itself."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for i, picture in enumerate(pictures):
            info = tarfile.TarInfo(f"{i:03}.png")
            info.size = len(picture)
            tar.addfile(info, io.BytesIO(picture))
    bucket.put("shards/a.tar", file.getvalue())
    rows = io.BytesIO()
    pq.write_table(pa.table({"image": pictures}), rows, row_group_size=5)
    bucket.put("rows/a.parquet", rows.getvalue())
    assert tokenize("s3://images/shards", tmp_path / "tars")[1]["images"] == 20
    assert tokenize("s3://images/rows/a.parquet", tmp_path / "rows")[1]["images"] == 20
    codes = [_shards(tmp_path / out)["00003.npy"] for out in ("tars", "rows")]
    assert codes[0] == codes[1]


def test_killed_again_and_again_it_ends_with_the_same_bytes(
    tokenize, bucket, environment, tmp_path
):
    """SIGKILL while a bucket is read leaves neither a gap nor a duplicate nor a stray file."""
    tokenize("s3://images", tmp_path / "whole")
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "app", "tokenize", "s3://images", str(out), *OPTIONS]
    kills = 0
    for shards in (1, 3):
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list(out.glob("[0-9]*.json"))) < shards and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 1
    code, summary = tokenize("s3://images", out)
    assert (code, summary["images"], summary["broken"]) == (0, 20, 0)
    files = [{path.name: path.read_bytes() for path in out.iterdir()}]
    files += [{path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}]
    assert files[0] == files[1]


def test_a_server_that_is_gone_ends_the_run_and_not_the_images(
    tokenize, server, pictures, tmp_path
):
    """Exit code and message say so; once it is back, the run goes on and nothing is broken."""
    Bucket(server, pictures)
    assert tokenize("s3://images", tmp_path / "out")[0] == 0
    server.kill()
    code, said = tokenize("s3://images", tmp_path / "out")
    assert code == 3
    assert said.startswith("tessera: s3://images: ")
    assert said.count("\n") == 1
    server.start()
    bucket = Bucket(server, [*pictures, pictures[0]])
    code, summary = tokenize("s3://images", tmp_path / "out")
    assert (code, summary["images"], summary["broken"]) == (0, 21, 0)
    bucket.remove()


def test_a_bucket_that_is_not_there_is_named(tokenize, bucket, tmp_path):
    """By one line, and no folder of shards that looks complete."""
    code, said = tokenize("s3://nothing/here", tmp_path / "out")
    assert code != 0
    assert "s3://nothing/here" in said
    assert said.count("\n") == 1
    assert not json.loads((tmp_path / "out" / "manifest.json").read_bytes())["complete"]


def test_shards_are_not_written_into_a_folder_that_is_called_like_an_address(tokenize, folder):
    """What to do instead is said, and no folder `s3:` is made."""
    code, said = tokenize(folder, "s3://images/codes")
    assert code == 2
    assert "copy them there" in said
    assert not (ROOT / "s3:").exists()
