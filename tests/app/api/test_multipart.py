"""Multipart bodies are taken apart within bounds."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.multipart import plain_name, read_files
from app.errors import MalformedRequest, TesseraError, TooManyImages

TYPE = "multipart/form-data; boundary=b"


def body(*parts: tuple[str, bytes]) -> bytes:
    """A body of parts, each its header lines and content."""
    made = b"".join(
        b"--b\r\n" + headers.encode() + b"\r\n\r\n" + content + b"\r\n"
        for headers, content in parts
    )
    return made + b"--b--\r\n"


def file(name: str, content: bytes) -> tuple[str, bytes]:
    """A file part."""
    return f'Content-Disposition: form-data; name="x"; filename="{name}"', content


def test_files_come_in_order_with_their_names():
    """Contents are kept to the byte, line ends and dashes included."""
    contents = [b"\r\n--a\r\n", b"", bytes(range(256)), b"--b"]
    parts = [file(f"{i}.png", content) for i, content in enumerate(contents)]
    read = read_files(body(*parts), TYPE, max_files=9)
    assert read == [(f"{i}.png", content) for i, content in enumerate(contents)]


def test_a_part_with_a_type_but_no_file_name_is_a_file():
    """Some clients send none."""
    part = ('Content-Disposition: form-data; name="x"\r\nContent-Type: image/png', b"data")
    assert read_files(body(part), TYPE, max_files=1) == [(None, b"data")]


def test_an_empty_file_input_is_skipped():
    """Browsers send one for each field left blank."""
    assert read_files(body(file("", b""), file("a", b"1")), TYPE, max_files=2) == [("a", b"1")]


def test_a_form_field_is_refused_and_told_where_it_belongs():
    """Silently ignoring `model=…` would run another model."""
    with pytest.raises(MalformedRequest, match="query"):
        read_files(body(('Content-Disposition: form-data; name="model"', b"x")), TYPE, max_files=9)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", TYPE),
        (b"--b\r\n", TYPE),
        (body(file("a", b"1"))[:-6], TYPE),
        (body(file("a", b"1")), "multipart/form-data"),
        (body(file("a", b"1")), "multipart/form-data; boundary=other"),
        (body(file("a", b"1")), "multipart/form-data; boundary=" + "b" * 300),
        (b"--b\r\nNo colon\r\n\r\n1\r\n--b--", TYPE),
        (body(("X: " + "y" * 9000, b"1")), TYPE),
        (body(("\r\n".join(f"X{i}: y" for i in range(50)), b"1")), TYPE),
    ],
)
def test_a_broken_body_is_malformed(content, kind):
    """Unfinished, without a boundary, or with absurd headers."""
    with pytest.raises(MalformedRequest):
        read_files(content, kind, max_files=9)


def test_too_many_parts_are_refused():
    """A million of them cost no more than the first few."""
    with pytest.raises(TooManyImages):
        read_files(body(*[file("a", b"1")] * 4), TYPE, max_files=3)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\a.png", "a.png"),
        ("a\x00b\nc", "abc"),
        ("", None),
        ("x" * 999, "x" * 255),
    ],
)
def test_names_are_fit_to_be_shown(sent, shown):
    """No path, no control characters, not long."""
    assert plain_name(sent) == shown


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(content):
    """Nothing else ever comes of them."""
    for made in (content, b"--b\r\n" + content, b"--b\r\n\r\n" + content + b"\r\n--b--"):
        with contextlib.suppress(TesseraError):
            read_files(made, TYPE, max_files=3)


FORM = "multipart/form-data; boundary=b"


def part(disposition: str) -> bytes:
    return b"--b\r\ncontent-disposition: %b\r\n\r\nx\r\n" % disposition.encode()


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("form-data; name=a; filename*=UTF-8''na%C3%AFve%20one.png", "naïve one.png"),
        ("form-data; name=a; filename=\"x.png\"; filename*=utf-8'en'%E2%82%AC.png", "€.png"),
        ("form-data; name=a; filename*=UTF-8''%E2%82%AC.png; filename=\"x.png\"", "€.png"),
        ("form-data; name=a; filename*=iso-8859-1''%A3.png", "£.png"),
        ("form-data; name=a; filename*=\"UTF-8''q.png\"", "q.png"),
        ("form-data; name=a; filename*=no-such-set''%C3%AF.png", "ï.png"),
        ("form-data; name=a; filename*=UTF-8''%2e%2e%2fpasswd", "passwd"),
        ("form-data; name=a; filename*=UTF-8''a%00%0Ab.png", "ab.png"),
        ('form-data; name=a; filename="x;filename*=y.png"', "x;filename*=y.png"),
    ],
)
def test_extended_file_names_are_read(disposition, name):
    """RFC 5987: `filename*` comes before `filename`, and is no less untrusted."""
    (found,) = read_files(
        part(disposition) + b"--b--\r\n", "multipart/form-data; boundary=b", max_files=2
    )
    assert found == (name, b"x")


def test_names_that_are_not_utf_8_stay_different():
    """Of old clients: two names that differ in one letter don't become one."""
    part_of = b'--b\r\ncontent-disposition: form-data; name=a; filename="%b"\r\n\r\nx\r\n'
    body = b"".join(part_of % name for name in ("é.png".encode("latin-1"), b"\xe8.png"))
    assert [name for name, _ in read_files(body + b"--b--\r\n", FORM, max_files=2)] == [
        *("é.png", "è.png")
    ]


@pytest.mark.parametrize(
    "preamble", [b"Ignore me.\r\n", b"\r\n", b"two\r\nlines\r\n", b"--not-b\r\n"]
)
def test_text_before_the_first_boundary_is_ignored(preamble):
    """RFC 2046, section 5.1.1."""
    body = preamble + part('form-data; name=a; filename="f"') + b"--b--\r\n"
    assert read_files(body, FORM, max_files=2) == [("f", b"x")]
