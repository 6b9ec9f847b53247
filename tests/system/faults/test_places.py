"""A process with no place to write, nobody who reads its log, or few files to open."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[3]


def stopped(server):
    """SIGTERM; the exit code."""
    server.process.send_signal(signal.SIGTERM)
    return server.ended()


def test_nothing_is_written_to_disk(serve, examples, tmp_path):
    """No file may grow, as on a full disk, home and temporary folder are absent: all goes on.

    The limit on file sizes also holds for root, whom a read-only folder would not stop.
    """
    nowhere = {
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path / "absent"),
        "TMPDIR": str(tmp_path / "absent"),
        "XDG_CACHE_HOME": str(tmp_path / "absent"),
    }
    tmp_path.chmod(0o555)
    full = {
        "cwd": tmp_path,
        "preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    }
    with serve(environment=nowhere, popen=full, max_body_bytes=2**24) as server:
        for file, codes in examples:
            assert server.codes(file) == codes
        # Large enough for a library that spools uploads to a file.
        large = server.post("/v1/encode", bytes(2**23), {"content-type": "application/x-npy"})
        assert large.status_code == 400
        assert server.get("/metrics").status_code == 200
        assert stopped(server) == 0
    assert list(tmp_path.iterdir()) == []
    assert server.log == ""


@pytest.mark.parametrize("where", ["full", "closed", "nobody reads", "stalled"])
def test_the_log_may_have_nowhere_to_go(serve, examples, where):
    """A full disk, no standard streams, a pipe without a reader, or whose reader has stopped.

    Requests go on, and so does the end of the process.
    """
    reader, writer = os.pipe()
    if where == "stalled":
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while os.write(writer, bytes(4096)):
                pass
        os.set_blocking(writer, True)
    else:
        os.close(reader)
    streams = {
        "full": {"stderr": os.open("/dev/full", os.O_WRONLY)},
        "closed": {"stdin": None, "preexec_fn": lambda: [os.close(number) for number in range(3)]},
        "nobody reads": {"stderr": writer},
        "stalled": {"stderr": writer},
    }[where]
    with serve(popen=streams) as server:
        for file, codes in examples:
            assert server.codes(file) == codes
        assert server.metric("tessera_requests_total") > len(examples)
        # No connection may take the place of a standard stream: what a library prints goes there.
        if where == "closed":
            opened = [Path(f"/proc/{server.pid}/fd/{number}").readlink() for number in range(3)]
            assert opened == [Path("/dev/null")] * 3
        assert stopped(server) == 0
    os.close(writer)


def test_a_process_that_may_open_few_files_goes_on(serve, examples, wait_for):
    """More connections than it may have: some are turned away, and nothing breaks for good."""
    with serve() as server:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (64, 64))
        taken = []
        for _ in range(100):
            connection = server.connection()
            connection.connect()
            taken.append(connection)
        for connection in taken:
            connection.close()
        file, codes = examples[0]

        def answered():
            try:
                return server.codes(file) == codes
            except (OSError, httpx.TransportError):  # turned away, or cut off: not all are closed
                return False

        wait_for(answered)
        assert stopped(server) == 0
