"""Every way a request can fail, each with its stable code and HTTP status.

The tree::

    TesseraError
    ├── MalformedRequest      400 malformed_request
    ├── Unauthorized          401 unauthorized
    ├── NotFound              404 not_found
    │   ├── ModelNotFound     404 model_not_found
    │   ├── RecognizerNotFound 404 recognizer_not_found
    │   ├── DecoderNotFound   404 decoder_not_found
    │   ├── PriorNotFound     404 prior_not_found
    │   ├── CardNotFound      404 card_not_found
    │   └── CodebookTooLarge  404 codebook_too_large
    ├── MethodNotAllowed      405 method_not_allowed
    ├── NotAcceptable         406 not_acceptable
    ├── CodeSpaceMismatch     409 code_space_mismatch
    ├── LimitExceeded         413 (one of its three)
    │   ├── BodyTooLarge      413 body_too_large
    │   ├── TooManyImages     413 too_many_images
    │   └── ImageTooLarge     413 image_too_large
    ├── UnsupportedMediaType  415 unsupported_media_type
    ├── Unprocessable         422 (one of its three)
    │   ├── ImageCorrupt      422 image_corrupt
    │   ├── CodesInvalid      422 codes_invalid
    │   └── InvalidParameter  422 invalid_parameter
    ├── Overloaded            429 overloaded          (Retry-After)
    ├── Internal              500 internal
    ├── NotReady              503 not_ready           (Retry-After)
    └── DeadlineExceeded      504 deadline_exceeded

Code anywhere raises these and never builds a response: `app.server.middleware.ErrorMiddleware`
catches them and answers with the error body of the route's protocol (`app.api.compat.errors`),
`application/problem+json` (RFC 9457) unless the protocol has its own.
A `detail` says what to do and never repeats what the client sent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ClassVar, ParamSpec, TypeVar

from imaging.errors import (
    CorruptImage,
    EmptyFile,
    ImageError,
    SideTooLong,
    TooManyPixels,
    UnsupportedFormat,
)
from imaging.errors import ImageTooLarge as SideOutOfRange

_P = ParamSpec("_P")
_T = TypeVar("_T")
_E = TypeVar("_E", bound=BaseException)


class TesseraError(Exception):
    """Base of every failure that a client is told about.

    Attributes:
        code: stable, machine-readable name of the failure.
        status: HTTP status it is answered with.
        title: one short human sentence, the same for every occurrence.
        detail: what happened this time and what to do about it.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class MalformedRequest(TesseraError):
    """The body can't be read as what its Content-Type says it is, or holds no image."""

    code, status, title = "malformed_request", 400, "The request could not be read"


class Unauthorized(TesseraError):
    """API keys are configured and the request carries no valid one."""

    code, status, title = "unauthorized", 401, "A valid API key is required"


class NotFound(TesseraError):
    """No such path."""

    code, status, title = "not_found", 404, "Not found"


class ModelNotFound(NotFound):
    """No loaded model has that name."""

    code, status, title = "model_not_found", 404, "Model not found"


class RecognizerNotFound(NotFound):
    """The model's bundle carries no such recognizer."""

    code, status, title = "recognizer_not_found", 404, "Recognizer not found"


class DecoderNotFound(NotFound):
    """The model's bundle carries no such decoder."""

    code, status, title = "decoder_not_found", 404, "Decoder not found"


class PriorNotFound(NotFound):
    """Codes were coded with a prior that isn't loaded, or are to be coded and there is none."""

    code, status, title = "prior_not_found", 404, "Prior not found"


class CardNotFound(NotFound):
    """The model's bundle has no card."""

    code, status, title = "card_not_found", 404, "Card not found"


class CodebookTooLarge(NotFound):
    """The codes are made up of small tables, and too many for their vectors to be written out."""

    code, status, title = "codebook_too_large", 404, "Codebook too large"


class MethodNotAllowed(TesseraError):
    """The path exists, but not for this method."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


class NotAcceptable(TesseraError):
    """The answer exists in none of the forms that `Accept` names."""

    code, status, title = "not_acceptable", 406, "Not acceptable"


class CodeSpaceMismatch(TesseraError):
    """The codes belong to a code space that no loaded model has."""

    code, status, title = "code_space_mismatch", 409, "Codes of an unknown code space"


class LimitExceeded(TesseraError):
    """A configured limit was passed; the detail names it."""

    code, status, title = "body_too_large", 413, "A limit was exceeded"


class BodyTooLarge(LimitExceeded):
    """The request body is larger than TESSERA_MAX_BODY_BYTES."""

    code, status, title = "body_too_large", 413, "Request body too large"


class TooManyImages(LimitExceeded):
    """The request holds more images than TESSERA_MAX_IMAGES."""

    code, status, title = "too_many_images", 413, "Too many images in one request"


class ImageTooLarge(LimitExceeded):
    """An image has more pixels than TESSERA_MAX_PIXELS, or than there is memory for."""

    code, status, title = "image_too_large", 413, "Image too large"


class UnsupportedMediaType(TesseraError):
    """The body type, or the format of an image in it, is not on the list."""

    code, status, title = "unsupported_media_type", 415, "Unsupported media type"


class Unprocessable(TesseraError):
    """The request was understood, but what it holds can't be processed."""

    code, status, title = "invalid_parameter", 422, "Unprocessable content"


class ImageCorrupt(Unprocessable):
    """An image is truncated or broken."""

    code, status, title = "image_corrupt", 422, "Image corrupt"


class CodesInvalid(Unprocessable):
    """A code grid is ragged, empty, too large or holds codes out of range."""

    code, status, title = "codes_invalid", 422, "Codes invalid"


class InvalidParameter(Unprocessable):
    """A query parameter has a value that makes no sense."""

    code, status, title = "invalid_parameter", 422, "Invalid parameter"


class Overloaded(TesseraError):
    """The queue is full.

    Attributes:
        retry_after_s: seconds until a retry is likely to be accepted, ≥ 1.
    """

    code, status, title = "overloaded", 429, "Too busy right now"

    def __init__(self, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = max(1, retry_after_s)


class Internal(TesseraError):
    """Our own bug; the detail never shows the stack."""

    code, status, title = "internal", 500, "Internal error"


class NotReady(TesseraError):
    """Starting or draining.

    Attributes:
        retry_after_s: seconds until another replica, or this one, is likely to be ready, ≥ 1.
    """

    code, status, title = "not_ready", 503, "Not ready"

    def __init__(self, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = max(1, retry_after_s)


class DeadlineExceeded(TesseraError):
    """The request was not answered within TESSERA_REQUEST_TIMEOUT_S."""

    code, status, title = "deadline_exceeded", 504, "Deadline exceeded"


def without_traceback(error: _E) -> _E:
    """Take its traceback, cause and context off an error that is kept and not raised again.

    Their frames hold the request's body and the pictures made of it, and one of them often holds
    the error: such a cycle would keep all of it in memory until Python next looks for cycles.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


# By what `imaging` raises; subclasses before their base.
_OF_IMAGING: tuple[tuple[type[ImageError], type[TesseraError], str], ...] = (
    (EmptyFile, MalformedRequest, ""),
    (UnsupportedFormat, UnsupportedMediaType, ""),
    (TooManyPixels, ImageTooLarge, " (TESSERA_MAX_PIXELS)"),
    (SideOutOfRange, ImageTooLarge, ""),
    (CorruptImage, ImageCorrupt, ""),
    (SideTooLong, NotAcceptable, ""),
)


def imaging_errors_translated(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have a function that calls `imaging` raise this module's errors instead of that package's."""

    @functools.wraps(function)
    def translated(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except ImageError as error:
            raise _translated(error) from error

    return translated


def _translated(error: ImageError) -> TesseraError:
    for theirs, ours, setting in _OF_IMAGING:
        if isinstance(error, theirs):
            return ours(f"{error}{setting}")
    return Internal("an image failed in a way that has no name")
