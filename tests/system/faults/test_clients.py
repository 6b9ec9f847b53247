"""Clients that vanish or dawdle: no work is done for them, and nothing of them stays."""

from __future__ import annotations

import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import pytest

_BODY_LIMIT = 64 * 1024
_ESTABLISHED = 1


@pytest.fixture(scope="module")
def server(serve, poisonable, examples):
    """One that takes small bodies, with every pool of threads already grown."""
    settings = {"max_body_bytes": _BODY_LIMIT, "request_timeout_s": 110}
    with serve(models_dir=poisonable, **settings) as server:
        warm(server, examples)
        yield server


@pytest.fixture(scope="module")
def short_timeout(serve, examples):
    """A server with a short client timeout, long enough for our requests on a slow machine."""
    with serve(client_timeout_s=2, request_timeout_s=8) as server:
        warm(server, examples)
        yield server


def warm(server, examples):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(server.codes, [file for file, _ in examples]))


@pytest.fixture
def connect():
    """Connections to a server, closed in the end."""
    made = []

    def connect(server, receive_buffer=None):
        connection = socket.socket()
        made.append(connection)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", server.port))
        return connection

    yield connect
    for connection in made:
        connection.close()


def vanish(connection, rudely):
    """Close, with a FIN or, rudely, with an RST."""
    if rudely:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def request(path, body, declared=None, accept="*/*"):
    length = len(body) if declared is None else declared
    return (
        f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\nAccept: {accept}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode() + body


def both(server, before):
    return zip(state(server).values(), before.values(), strict=True)


def state(server):
    """What must be as before once a client is gone."""
    return {
        "files": server.files(),
        "threads": server.threads(),
        "tasks": server.metric("tessera_tasks"),
        "images": server.metric("tessera_queue_items"),
        "pixels": server.metric("tessera_queue_pixels"),
        "bodies": server.metric("tessera_held_body_bytes"),
    }


@pytest.fixture
def unchanged(wait_for):
    """A context manager; after it nothing is more than it was before."""

    @contextmanager
    def unchanged(server):
        before = wait_for(lambda: (found := state(server))["images"] == 0 and found)
        yield
        wait_for(lambda: all(now <= then for now, then in both(server, before)))
        assert server.get("/readyz").status_code == 200

    return unchanged


@pytest.fixture
def nothing_left(server, unchanged):
    with unchanged(server):
        yield


@pytest.mark.parametrize("rudely", [False, True])
@pytest.mark.usefixtures("nothing_left")
def test_clients_that_vanish_while_sending(server, connect, examples, wait_for, rudely):
    """Half-sent bodies, as many as are held at once and more, are let go; others are served.

    They count as clients that have departed, and not as requests that were answered with 400.
    """
    departed = server.metric("tessera_departed_clients_total")
    gone = [connect(server) for _ in range(24)]
    for connection in gone:
        connection.sendall(request("/v1/encode", bytes(40_000), declared=_BODY_LIMIT))
    wait_for(lambda: server.metric("tessera_held_body_bytes") > 7 * _BODY_LIMIT)
    for connection in gone:
        vanish(connection, rudely)
    wait_for(lambda: server.metric("tessera_held_body_bytes") == 0)
    counted = server.metric("tessera_departed_clients_total") - departed
    refused = 'route="/v1/encode",status="400"' in server.get("/metrics").text
    assert (counted > 0, refused) == (True, False)
    for file, codes in examples[:4]:
        assert server.codes(file) == codes


@pytest.mark.parametrize("rudely", [False, True])
@pytest.mark.usefixtures("nothing_left")
def test_clients_that_vanish_while_waiting(server, connect, examples, poisoned, wait_for, rudely):
    """Their images are never run: the counter of items in runs shows those of others alone."""
    ran = server.metric("tessera_batch_items_sum")
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(server.post, "/v1/encode", poisoned("busy", 150))
        server.wait_until_running()
        file, codes = examples[1]
        gone = [connect(server) for _ in range(24)]
        for connection in gone:
            connection.sendall(request("/v1/encode", file))
        wait_for(lambda: server.metric("tessera_queue_pixels") == 24 * 64 * 64)
        stays = pool.submit(server.codes, file)
        wait_for(lambda: server.metric("tessera_queue_items") == 26)
        for connection in gone:
            vanish(connection, rudely)
        wait_for(lambda: server.metric("tessera_queue_items") == 2)
        assert not busy.done()
        assert busy.result().status_code == 200
        assert stays.result() == codes
    assert server.metric("tessera_batch_items_sum") - ran == 2


@pytest.mark.parametrize("rudely", [False, True])
@pytest.mark.usefixtures("nothing_left")
def test_clients_that_vanish_while_reading(server, connect, rudely):
    """Megabytes that nobody will read any more are not kept."""
    for _ in range(8):
        connection = connect(server, 4096)
        connection.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: h\r\n\r\n" * 4)
        assert connection.recv(1000)
        vanish(connection, rudely)


def test_slow_clients_are_cut_off_while_others_are_served(
    short_timeout, unchanged, connect, examples
):
    """Headers and bodies that trickle in, answers that are not read or too slowly, in numbers."""
    with unchanged(short_timeout):
        ask_as_slow_clients(short_timeout, connect, examples)


def ask_as_slow_clients(server, connect, examples):
    big = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: h\r\n\r\n"
    headers = [connect(server) for _ in range(10)]
    bodies = [connect(server) for _ in range(10)]
    tricklers, askers, silent = ([connect(server, 4096) for _ in range(4)] for _ in range(3))
    for connection in headers:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: h\r\nX: ")
    for connection in bodies:
        connection.sendall(request("/v1/encode", b"\x89PNG", declared=9999))
    for connection in tricklers + askers + silent:
        connection.sendall(big * 8)
    everyone = headers + bodies + tricklers + askers + silent
    left = list(everyone)
    served = 0
    started = time.monotonic()
    while left := [connection for connection in left if is_open(connection)]:
        assert time.monotonic() - started < 90, (
            f"still there: {[everyone.index(one) for one in left]}"
        )
        for connection in left:
            with suppress(OSError):
                if connection in bodies and read_now(connection, 9999):
                    connection.close()  # has been told why
            with suppress(OSError):
                if connection in headers or connection in bodies:
                    connection.sendall(b"x")
                elif connection in tricklers:
                    read_now(connection, 100)
                elif connection in askers and served % 8 == 0:
                    connection.sendall(big)  # asks for more, and reads nothing
        file, codes = examples[served % 4]
        assert server.codes(file) == codes  # within 8 s, or it would be answered with 504
        served += 1
        time.sleep(0.03)
    for connection in everyone:
        connection.close()
    # 2 s for headers and readers, 8 s for a request.
    assert 2 < time.monotonic() - started < 60
    assert served > 5


def read_now(connection, count):
    """What there is to read, up to so many bytes; BlockingIOError if nothing."""
    connection.setblocking(False)
    try:
        return connection.recv(count)
    finally:
        connection.settimeout(30)


def is_open(connection):
    """Whether neither side has ended the connection, seen without reading from it."""
    if connection.fileno() < 0:
        return False
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED


def test_a_patient_reader_gets_all_of_its_answer(serve, connect):
    """Slow, but faster than the least rate: cut off by nothing, however long it takes."""
    with serve(client_timeout_s=4) as server:
        read_patiently(server, connect)


def read_patiently(server, connect):
    whole = server.get("/docs/swagger-ui-bundle.js").content
    with connect(server, 64 * 1024) as connection:
        connection.sendall(
            b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        )
        received = b""
        started = time.monotonic()
        while part := connection.recv(16 * 1024):
            received += part
            time.sleep(6 * len(part) / len(whole))
        assert time.monotonic() - started > 5
    assert received.endswith(whole)


def test_a_vanished_client_of_a_kept_connection_leaves_no_trace(server, wait_for):
    """Idle connections of clients that closed them are closed here."""
    before = server.files()
    clients = [httpx.Client() for _ in range(10)]
    for client in clients:
        assert client.get(f"http://127.0.0.1:{server.port}/livez").status_code == 200
    assert server.files() == before + 10
    for client in clients:
        client.close()
    wait_for(lambda: server.files() == before)
