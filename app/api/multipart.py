"""`multipart/form-data` bodies, taken apart in memory: no temporary files, no field left unread."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import MalformedRequest, TooManyImages

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_HEADERS = 8
_MAX_HEADER_BYTES = 4096
_MAX_NAME_CHARACTERS = 255

_EXTENDED_NAME = re.compile(
    rb";\s*filename\*\s*=\s*\"?([\w.:-]{0,40})'[^'\";]*'([^;\"\s]*)", re.IGNORECASE
)


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)


def read_files(body: bytes, content_type: str, *, max_files: int) -> list[tuple[str | None, bytes]]:
    """The file parts of a body, in order, whatever their fields are called.

    A part is a file if it has a file name or a type of its own other than text. Empty file inputs,
    which browsers send for fields left blank, are skipped.

    Args:
        body: all of it.
        content_type: the request's `Content-Type`, with its boundary.
        max_files: most parts of the body.

    Returns:
        For each file its name, the last component of what was sent, and its content.

    Raises:
        MalformedRequest: no boundary, broken or unfinished multipart, oversized headers, or a
            part that is a form field.
        TooManyImages: more parts than `max_files`.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedRequest("the multipart Content-Type names no boundary")
    collector = _Collector(max_files)
    try:
        parser = MultipartParser(
            boundary,
            collector.callbacks(),
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
        )
        parser.write(_without_preamble(body, boundary))
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise MalformedRequest("the multipart body is broken") from error
    if not collector.ended:
        raise MalformedRequest("the multipart body ends before its last boundary")
    files = []
    for part in collector.parts:
        file = _file(part)
        if file is not None:
            files.append(file)
    return files


class _Collector:
    """Gathers parts from the parser's callbacks, which get positions in one buffer."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[_Part] = []
        self.ended = False
        self._max_parts = max_parts
        self._name = b""
        self._value = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == self._max_parts:
            raise TooManyImages(
                f"more than {self._max_parts} parts in one request (TESSERA_MAX_IMAGES)"
            )
        self.parts.append(_Part())

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self.parts[-1].headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].pieces.append(data[start:end])

    def _end(self) -> None:
        self.ended = True


def _without_preamble(body: bytes, boundary: bytes) -> bytes:
    """The body from its first boundary on; RFC 2046 lets text come before, to be ignored."""
    delimiter = b"--" + boundary
    if body.startswith((delimiter, b"\r\n" + delimiter)):
        return body
    start = body.find(b"\n" + delimiter)
    return body if start < 0 else body[start + 1 :]


def _file_name(disposition: bytes) -> bytes | None:
    """The file name of a part: `filename*` (RFC 5987) before `filename`; None without either."""
    extended = _EXTENDED_NAME.search(disposition)
    if extended:
        charset, encoded = (group.decode("latin-1") for group in extended.groups())
        try:
            return unquote(encoded, charset or "utf-8", "replace").encode("utf-8", "replace")
        except LookupError:  # no such character set
            return unquote(encoded, "utf-8", "replace").encode("utf-8", "replace")
    _, options = parse_options_header(disposition)
    return options.get(b"filename")


def _file(part: _Part) -> tuple[str | None, bytes] | None:
    content = part.pieces[0] if len(part.pieces) == 1 else b"".join(part.pieces)
    file_name = _file_name(part.headers.get(b"content-disposition", b""))
    name = plain_name(_text(file_name or b""))
    kind = part.headers.get(b"content-type", b"text/plain").lower()
    if file_name is None and kind.startswith(b"text/"):
        raise MalformedRequest(
            "a form field is not a file; parameters such as model or size go in the query string"
        )
    if not name and not content:
        return None
    return name, content


def _text(name: bytes) -> str:
    """A file name as text: UTF-8, or else Latin-1, so that two names can be told apart."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")


def plain_name(text: str) -> str | None:
    """A client's name for an image, fit to be shown: no path, no control characters, not long."""
    last = text.replace("\\", "/").rpartition("/")[2]
    shown = "".join(character for character in last if character.isprintable())
    return shown[:_MAX_NAME_CHARACTERS] or None
