"""`multipart/form-data` with absurd boundaries, headers, names and numbers of parts."""

from __future__ import annotations

import json

import pytest

LINES = b"\r\n"


def part(content: bytes, *headers: bytes) -> bytes:
    lines = headers or (b'content-disposition: form-data; name="f"; filename="a.png"',)
    return b"--b\r\n" + LINES.join(lines) + b"\r\n\r\n" + content + b"\r\n"


def sent(server, body: bytes, kind: str = "multipart/form-data; boundary=b"):
    return server.post("/v1/encode", body, kind)


def test_a_million_parts_are_refused_at_the_first_too_many(server, refused):
    """Whether they hold something or nothing."""
    for one in (b"--b\r\n\r\n\r\n", part(b"")):
        body = one * (10**6 if len(one) < 20 else 300_000) + b"--b--\r\n"
        refused(sent(server, body), "too_many_images")


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=" + "b" * 60_000,
        "multipart/form-data; boundary=\u00ff\u00fe",
        "multipart/form-data; boundary=b; boundary=c",
        'multipart/form-data; boundary="b\\"; x="',
        "multipart/form-data; boundary*=utf-8''b%00",
        "multipart/form-data; boundary=--",
        "multipart/form-data; boundary=b" + "; a=b" * 9000,
        "multipart/form-data;" * 3000,
        "multipart/mixed; boundary=b",
        "multipart/form-data, multipart/form-data; boundary=b",
    ],
    ids=lambda kind: kind[:48].encode("unicode_escape").decode(),
)
def test_absurd_boundaries_are_refused_or_harmless(server, kind):
    """Missing, empty, endless, in two versions, or with what no boundary may have."""
    for body in (part(b"x") + b"--b--\r\n", b"", b"--" * 1000, b"\r\n----\r\n"):
        reply = sent(server, body, kind)
        assert 400 <= reply.status < 500
        assert reply.seconds < 10


@pytest.mark.parametrize(
    "body",
    [
        b"--" * 4_000_000,
        b"\r\n--" * 2_000_000,
        b"\r" * 8_000_000,
        b"\r\n" * 4_000_000,
        b"--b\r\n" + b"a" * 8_000_000,
        b"--b\r\n" + b"a: b\r\n" * 1_000_000 + b"\r\nx\r\n--b--\r\n",
        b"--b\r\na: " + b"b" * 8_000_000 + b"\r\n\r\nx\r\n--b--\r\n",
        part(b"\r\n-" * 2_000_000) + b"--b--\r\n",
        part(b"\r\n--" * 2_000_000) + b"--b--\r\n",
        part(b"x")[:-2],
        part(b"x"),
        b"--b--\r\n",
        b"--b",
        b"preamble" * 100_000 + part(b"x") + b"--b--\r\n",
        part(b"x", b"content-disposition") + b"--b--\r\n",
        part(b"x", b": x") + b"--b--\r\n",
        part(b"x", b"a\0b: x") + b"--b--\r\n",
        part(b"x", b'content-disposition: form-data; name="model"') + b"--b--\r\n",
    ],
    ids=lambda body: f"{body[:24].decode().encode('unicode_escape').decode()} of {len(body)}",
)
def test_broken_bodies_are_refused_in_time_linear_in_their_length(server, refused, body):
    """Unfinished, without parts, with headers without end, and all but boundaries."""
    refused(
        sent(server, body),
        "malformed_request",
        "unsupported_media_type",
        seconds=15,
        grown=100e6,
    )


@pytest.mark.parametrize(
    "name",
    [
        b"../../../../etc/passwd",
        b"..\\..\\windows\\win.ini",
        b"/absolute/path.png",
        b"C:\\a.png",
        b"a\0b.png",
        b"\xff\xfe\xfd",
        b"a" * 3000,
        "\u202egnp.exe".encode(),
        b"<script>alert(1)</script>",
        b"%2e%2e%2f",
        b"a\x1b[31mred",
        b"a\x08\x07b",
        b"{{7*7}}",
        b"$(touch called)",
        b"; rm -rf /",
        b"",
        b".",
        b"..",
        b"nul",
    ],
    ids=lambda name: name[:24].decode("latin-1").encode("unicode_escape").decode(),
)
def test_absurd_names_are_shown_without_their_teeth_and_never_opened(server, picture, name):
    """No path, no control character, no more than 255 characters; the image is what was sent."""
    header = b'content-disposition: form-data; name="f"; filename="' + name + b'"'
    reply = sent(server, part(picture, header, b"content-type: image/png") + b"--b--\r\n")
    assert reply.status == 200
    (item,) = json.loads(reply.body)["data"]
    shown = item.get("name") or ""
    assert len(shown) <= 255
    assert not {"/", "\\", "\0"} & set(shown)
    assert shown.isprintable()
    assert not server.called.exists()


def test_many_files_in_one_part_of_another_multipart_are_one_file(server, refused, picture):
    """What is nested isn't unfolded: it is no image."""
    inner = part(picture).replace(b"--b", b"--c") + b"--c--\r\n"
    body = part(
        inner,
        b'content-disposition: form-data; name="f"',
        b"content-type: multipart/mixed; boundary=c",
    )
    refused(sent(server, body + b"--b--\r\n"), "unsupported_media_type")
