"""Requests that no HTTP library would send: heads, targets, lengths, encodings, and smuggling."""

from __future__ import annotations

import gzip
import json
import threading
import time
import zlib

import pytest

MB = 10**6
HEAD = b"POST /v1/encode HTTP/1.1\r\nhost: h\r\ncontent-type: image/png\r\n"
GET = b"GET /livez HTTP/1.1\r\nhost: h\r\n"


# --- heads -------------------------------------------------------------------------------------

HUGE = {
    "a header's value": GET + b"a: " + b"x" * 5 * MB + b"\r\n\r\n",
    "a header's name": GET + b"x" * 5 * MB + b": a\r\n\r\n",
    "a key": GET + b"authorization: Bearer " + b"x" * MB + b"\r\n\r\n",
    "headers": GET + b"a: b\r\n" * MB + b"\r\n",
    "a target": b"GET /" + b"x" * 5 * MB + b" HTTP/1.1\r\nhost: h\r\n\r\n",
    "a query": b"GET /livez?" + b"x" * 5 * MB + b" HTTP/1.1\r\nhost: h\r\n\r\n",
    "parameters": b"GET /v1/models?" + b"a=b&" * MB + b" HTTP/1.1\r\nhost: h\r\n\r\n",
    "a chunk's extension": HEAD + b"transfer-encoding: chunked\r\n\r\n1;" + b"x" * 5 * MB,
    "a trailer": HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\na: " + b"x" * 5 * MB,
    "trailers": HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"a: b\r\n" * MB,
    "line ends before a request": b"\r\n" * 2 * MB + GET + b"\r\n",
}


@pytest.mark.parametrize("name", HUGE)
def test_what_is_not_the_body_is_bounded(server, refused, name):
    """Megabytes of it are refused at 64 KiB, without costing time or memory."""
    refused(server.raw(HUGE[name]), "malformed_request")


def test_a_head_up_to_the_bound_is_served(server):
    """60 KB of headers are odd, but harmless."""
    reply = server.raw(GET + b"a: " + b"x" * 60_000 + b"\r\n\r\n", "GET")
    assert reply.status == 200
    reply = server.raw(GET + b"a: b\r\n" * 10_000 + b"\r\n", "GET")
    assert reply.status == 200


def test_a_huge_head_holds_nobody_up(server, picture):
    """While one client sends 20 MB of header, another is served as ever, in the best of three."""
    head = GET + b"a: " + b"x" * 20 * MB + b"\r\n\r\n"
    slowest = []
    for _ in range(3):
        attack = threading.Thread(target=server.raw, args=(head,))
        attack.start()
        slowest.append(0.0)
        while attack.is_alive():
            started = time.perf_counter()
            assert server.post("/v1/encode", picture).status == 200
            slowest[-1] = max(slowest[-1], time.perf_counter() - started)
    assert min(slowest) < 1


def test_many_requests_ahead_of_their_answers_are_cut_off(server):
    """A hundred thousand in one go: some are answered, in order, and memory stays flat."""
    before = server.memory("VmRSS")
    received = server.all_of((GET + b"\r\n") * 100_000)
    assert 1 <= received.count(b"HTTP/1.1 200 OK") <= 100
    assert server.memory("VmRSS") - before < 30e6


def test_a_few_requests_ahead_are_all_answered(server):
    """Each once."""
    received = server.all_of((GET + b"\r\n") * 19 + GET + b"connection: close\r\n\r\n")
    assert received.count(b"HTTP/1.1 200 OK") == received.count(b"HTTP/1.1") == 20


BROKEN = {
    "nothing sensible": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(64),  # TLS
    "a NUL in a value": GET + b"a: b\0c\r\n\r\n",
    "a NUL in a name": GET + b"a\0: b\r\n\r\n",
    "a lone CR in a value": GET + b"a: b\rc: d\r\n\r\n",
    "a space before the colon": GET + b"content-length : 5\r\n\r\n",
    "no colon": GET + b"nonsense\r\n\r\n",
    "an empty name": GET + b": b\r\n\r\n",
    "a folded line": GET + b"a: b\r\n folded\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "HTTP/9.9": b"GET /livez HTTP/9.9\r\nhost: h\r\n\r\n",
    "an unknown method": b"HACK /livez HTTP/1.1\r\nhost: h\r\n\r\n",
    "a lower-case method": b"get /livez HTTP/1.1\r\nhost: h\r\n\r\n",
    "a NUL in the target": b"GET /livez\0 HTTP/1.1\r\nhost: h\r\n\r\n",
    "a space in the target": b"GET /livez x HTTP/1.1\r\nhost: h\r\n\r\n",
    "a raw byte in the target": b"GET /\xff\xfe HTTP/1.1\r\nhost: h\r\n\r\n",
    "a target that is no path": b"GET livez HTTP/1.1\r\nhost: h\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_http_is_refused(server, refused, name):
    """As a problem like any other, and the connection is closed."""
    received = server.all_of(BROKEN[name])
    head, _, body = received.partition(b"\r\n\r\n")
    assert received.count(b"HTTP/1.1 ") == 1
    assert head.startswith(b"HTTP/1.1 4")
    assert json.loads(body)["code"] in {"malformed_request", "not_found"}
    assert b"x-content-type-options: nosniff" in head


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models/%00",
        "/v1/models/%ff%fe",
        "/v1/models/%0d%0aset-cookie:%20a=b",
        "/v1/models/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/models/../../../etc/passwd",
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/../../app/settings.py",
        "//etc/passwd",
        "/docs/..%2fsettings.py",
        "/v1/models/" + "a" * 60_000,
        "/v1/models/" + "%41" * 20_000,
        "/v1/models/tiny/codebook/",
        "/v1/models/{{7*7}}",
        "/v1/models/%24%7bjndi:ldap:%2f%2flocalhost%2fa%7d",
        "/v1/models/tiny%20",
        "/V1/MODELS",
        "/v1/models;x=y",
        "http://localhost/etc/passwd",
    ],
    ids=lambda target: target[:32],
)
def test_paths_lead_nowhere_else(server, target):
    """Up, out, into another header, or to a file: there is nothing."""
    reply = server.get(target)
    assert reply.status in {400, 404}
    assert b"root:" not in reply.body
    assert "set-cookie" not in reply.headers
    assert reply.code in {"not_found", "model_not_found", "malformed_request"}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("model=tiny&model=absent", {404}),
        ("model=absent&model=tiny", {200}),  # the last counts, as FastAPI has it
        ("model=%00", {404}),
        ("model=%ff%fe", {404}),
        ("model=tiny%0d%0aset-cookie:%20a=b", {404}),
        ("model=../../../etc", {404}),
        ("model=" + "a" * 60_000, {404}),
        ("&".join(f"a{n}=b" for n in range(5000)), {200}),
        ("size=0x0", {422}),
        ("size=-1x-1", {422}),
        ("size=99999999999999999999x1", {422}),
        ("size=%D9%A1%D9%A6x%D9%A1%D9%A6", {422}),  # digits, but not ours
        ("size=1e3x1e3", {422}),
        ("size=16x16x16", {422}),
        ("size=" + "9" * 5000 + "x1", {422}),
        ("fit=" + "x" * 5000, {422}),
        ("fit=cover&fit=nonsense", {422}),
        ("=&=&==;;%", {200}),
        ("model[]=tiny&model[a]=b", {200}),
        ("%6dodel=tiny", {200}),
    ],
    ids=lambda value: str(value)[:32],
)
def test_queries_mean_one_thing_or_are_refused(server, picture, query, status):
    """Repeated, endless, encoded twice, or with what no name has."""
    reply = server.post(f"/v1/encode?{query}", picture)
    assert reply.status in status
    assert "set-cookie" not in reply.headers
    assert len(reply.body) < 3000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-request-id", "a\tb"),
        ("x-request-id", "<script>" * 9),
        ("x-request-id", "a" * 129),
        ("x-request-id", "\u00ff"),
        ("accept", "," * 50_000),
        ("accept", "a/b;q=" + "9" * 5000),
        ("accept", "*/*;q=nan, image/png;q=-1"),
        ("content-type", "\u00ff" * 1000),
        ("content-type", "image/png;" + "a=b;" * 10_000),
        ("content-type", ""),
        ("traceparent", "00-" + "f" * 50_000),
        ("authorization", "Bearer \u00ff\u00fe"),
        ("authorization", "Basic " + "A" * 5000),
        ("host", "evil.example"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "evil.example"),
        ("x-http-method-override", "DELETE"),
        ("expect", "nonsense"),
        ("range", "bytes=0-0,-1" * 99),
        ("if-none-match", "*"),
        ("cookie", "a=b;" * 9000),
        ("origin", "https://evil.example"),
        ("te", "trailers, deflate;q=0.5"),
        ("connection", "close, upgrade, x-request-id"),
        ("inference-header-content-length", "-5"),
    ],
    ids=lambda value: value[:24].encode("unicode_escape").decode(),
)
def test_headers_are_harmless(server, picture, name, value):
    """Whatever stands in them, the answer is the image's codes, or a refusal."""
    reply = server.post("/v1/encode", picture, **({name: value} | {}))
    assert reply.status == 200 or 400 <= reply.status < 500
    assert "access-control-allow-origin" not in reply.headers
    shown = reply.headers["x-request-id"]
    assert len(shown) <= 128
    assert shown.isascii()
    assert "<" not in shown


# --- lengths and smuggling ---------------------------------------------------------------------

INNER = b"GET /v1/models/smuggled HTTP/1.1\r\nhost: h\r\n\r\n"
AMBIGUOUS = {
    "both lengths": HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "both, the other way round": HEAD
    + b"transfer-encoding: chunked\r\ncontent-length: %d\r\n\r\n0\r\n\r\n" % (5 + len(INNER)),
    "two lengths": HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcde",
    "two equal lengths": HEAD + b"content-length: 5\r\ncontent-length: 5\r\n\r\nabcde",
    "a list of lengths": HEAD + b"content-length: 5, 5\r\n\r\nabcde",
    "a negative length": HEAD + b"content-length: -5\r\n\r\nabcde",
    "a length with a sign": HEAD + b"content-length: +5\r\n\r\nabcde",
    "a length in hexadecimal": HEAD + b"content-length: 0x5\r\n\r\nabcde",
    "a length with a space": HEAD + b"content-length: 5 0\r\n\r\nabcde",
    "a length of 10^30": HEAD + b"content-length: 1" + b"0" * 30 + b"\r\n\r\nabcde",
    "an empty length": HEAD + b"content-length:\r\n\r\nabcde",
    "a coding that is unknown": HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding after chunked": HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a coding in two lines": HEAD
    + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "a coding with a tab": HEAD + b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "a coding in quotes": HEAD + b'transfer-encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "a chunk of size -1": HEAD + b"transfer-encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
    "a chunk of size 0x1": HEAD + b"transfer-encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
    "a chunk of size 2^64": HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n",
    "a chunk longer than said": HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n",
    "chunks ended by LF alone": HEAD + b"transfer-encoding: chunked\r\n\r\n1\nx\n0\n\n",
    "HTTP/1.0 with chunks": HEAD.replace(b"1.1", b"1.0")
    + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_body_of_doubtful_length_smuggles_nothing(server, name):
    """What follows such a request is never served: not by us, whatever a proxy made of it."""
    received = server.all_of(AMBIGUOUS[name] + INNER)
    assert b"model_not_found" not in received
    assert received.count(b"HTTP/1.1 ") <= 1
    assert b" 200 " not in received
    assert b" 50" not in received.partition(b"\r\n")[0]


def test_trailers_are_not_headers(server, picture):
    """What comes after the body can't say what the request was."""
    body = b"%x\r\n%b\r\n0\r\n" % (len(picture), picture)
    trailers = b"x-request-id: from-a-trailer\r\naccept: image/png\r\ncontent-encoding: gzip\r\n"
    reply = server.raw(HEAD + b"transfer-encoding: chunked\r\n\r\n" + body + trailers + b"\r\n")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"] != "from-a-trailer"


def test_a_body_shorter_than_said_is_refused_when_its_sender_leaves(server):
    """Nothing is made of half a body."""
    with server.connect() as connection:
        connection.sendall(HEAD + b"content-length: 100\r\n\r\nhalf")
    assert server.get("/livez").status == 200


def test_a_body_longer_than_said_is_answered_and_the_rest_refused(server, picture):
    """The request ends where it said; the connection with it."""
    head = HEAD + b"content-length: %d\r\n\r\n" % len(picture)
    received = server.all_of(head + picture + b"and some more\r\n\r\n")
    assert received.count(b"HTTP/1.1 ") == 1
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in received.lower()


def test_chunks_of_one_byte_are_read(server, picture):
    """They are slow and silly, and legal."""
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in picture)
    reply = server.raw(HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert reply.status == 200


@pytest.mark.parametrize(
    "length", [b"content-length: 40000000\r\n", b"transfer-encoding: chunked\r\n"]
)
def test_a_body_above_the_limit_is_refused_before_it_is_all_there(server, refused, length):
    """Declared, or counted while it arrives."""
    chunk = b"%x\r\n" % MB + bytes(MB) + b"\r\n"
    body = chunk * 40 if b"chunked" in length else bytes(40 * MB)
    refused(server.raw(HEAD + length + b"\r\n" + body), "body_too_large", seconds=30)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "compress", "identity, gzip"])
def test_compressed_bodies_are_refused_unread(server, refused, coding):
    """A few bytes could unfold to gigabytes; so too where a second line says how."""
    bomb = gzip.compress(bytes(5 * MB), 1) if coding == "gzip" else zlib.compress(bytes(5 * MB), 1)
    for path in ("/v1/encode", "/v1/decode", "/v1/embeddings", "/v2/models/tiny/infer"):
        reply = server.post(path, bomb, content_encoding=coding)
        assert reply.status == 415
        assert reply.grown < 10e6
    twice = HEAD + b"content-encoding: identity\r\ncontent-encoding: gzip\r\n"
    refused(
        server.raw(twice + b"content-length: %d\r\n\r\n" % len(bomb) + bomb),
        "unsupported_media_type",
    )


def test_other_protocols_are_not_spoken(server, picture):
    """An upgrade that is asked for isn't made; the request is served or refused as it is."""
    for upgrade in (b"websocket", b"h2c", b"nonsense"):
        asked = b"connection: upgrade, close\r\nupgrade: " + upgrade + b"\r\n\r\n"
        received = server.all_of(GET + asked)
        assert not received.startswith(b"HTTP/1.1 101")
        assert received[9:10] in {b"2", b"4"}


def test_a_client_that_says_nothing_costs_nothing(server):
    """Two hundred connections without a byte."""
    before = server.memory("VmRSS")
    connections = [server.connect() for _ in range(200)]
    assert server.get("/livez").status == 200
    assert server.memory("VmRSS") - before < 20e6
    for connection in connections:
        connection.close()
