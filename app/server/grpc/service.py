"""The procedures of the protocol, each by a request to `/v2`."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
import orjson
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from app.api.compat.oip_tensors import HEADER
from app.errors import MalformedRequest, ModelNotFound, TesseraError
from app.server.grpc.in_process import Answer, ask
from app.server.grpc.messages import HEALTH_SERVICE, REQUESTS, RESPONSES, SERVICE
from app.server.grpc.tensors import fill_response, request_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fastapi import FastAPI

    from app.service.lifecycle import Service

_T = TypeVar("_T")

# gRPC's code for each status that an error of the service has.
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    406: grpc.StatusCode.INVALID_ARGUMENT,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    # Not RESOURCE_EXHAUSTED, which says that another try may succeed.
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_INFER = "ModelInfer"
_CHECK = "Check"
_SERVING, _NOT_SERVING = 1, 2
# Metadata of a call that the request has as headers, and headers of the answer that come back.
_SENT = frozenset({"authorization", "x-request-id", "traceparent", "tracestate"})
_RETURNED = ("x-request-id", "server-timing", "tessera-warning", "retry-after")
# Messages above this are taken apart and put together off the event loop.
_SMALL_BYTES = 64 * 1024


class InferenceService:
    """The protocol's procedures.

    Args:
        app: the application that answers them.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._service: Service = app.state.service

    def handlers(self) -> grpc.GenericRpcHandler:
        """All procedures, for gRPC's server."""
        simple: dict[str, Callable[[Any], tuple[str, str]]] = {
            "ServerLive": lambda _: ("GET", "/v2/health/live"),
            "ServerReady": lambda _: ("GET", "/v2/health/ready"),
            "ServerMetadata": lambda _: ("GET", "/v2"),
            "ModelReady": lambda asked: ("GET", f"{_path(asked.name, asked.version)}/ready"),
            "ModelMetadata": lambda asked: ("GET", _path(asked.name, asked.version)),
            "ModelConfig": lambda asked: ("GET", f"{_path(asked.name, asked.version)}/config"),
            "ModelStatistics": lambda asked: ("GET", _statistics_path(asked)),
            "RepositoryIndex": lambda _: ("POST", "/v2/repository/index"),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                partial(self._simple, name, request_line),
                REQUESTS[name].FromString,
                RESPONSES[name].SerializeToString,
            )
            for name, request_line in simple.items()
        }
        # As a stream of which the first message is taken: so it is read here, and not before.
        handlers[_INFER] = grpc.stream_unary_rpc_method_handler(self._infer)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def health_handlers(self) -> grpc.GenericRpcHandler:
        """The health check of gRPC itself, which Kubernetes' probes ask, for gRPC's server."""
        check = grpc.unary_unary_rpc_method_handler(
            self._check_health,
            REQUESTS[_CHECK].FromString,
            RESPONSES[_CHECK].SerializeToString,
        )
        return grpc.method_handlers_generic_handler(HEALTH_SERVICE, {_CHECK: check})

    async def _check_health(self, asked: Any, context: Any) -> Any:
        """As `/readyz`; of the server as a whole, and of the one service that it has."""
        if asked.service not in {"", SERVICE}:
            await _abort(context, 404, "not_found", f"there is one service here: {SERVICE}")
        answer = await ask(self._app, "GET", "/v2/health/ready")
        response = RESPONSES[_CHECK]()
        response.status = _SERVING if answer.status == 200 else _NOT_SERVING
        return response

    async def _simple(
        self,
        procedure: str,
        request_line: Callable[[Any], tuple[str, str]],
        asked: Any,
        context: Any,
    ) -> Any:
        try:
            method, path = request_line(asked)
        except TesseraError as error:
            await _abort(context, error.status, error.code, error.detail)
        answer = await ask(self._app, method, path, _headers(context))
        response = RESPONSES[procedure]()
        if procedure in {"ServerReady", "ModelReady"} and answer.status in {200, 404, 503}:
            response.ready = answer.status == 200
            return response
        body = await _body(context, answer)
        values = orjson.loads(body)
        if procedure == "RepositoryIndex":
            values = {"models": values}
        elif procedure == "ModelConfig":
            values = {"config": values}
        return ParseDict(values, response)

    async def _infer(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        """Run a model. What can be refused without the message is refused before it is read."""
        service = self._service
        headers = _headers(context)
        try:
            service.keys.check(dict(headers).get("authorization"))
            _ = service.models
            service.batcher.check_room()
            async with asyncio.timeout(service.settings.client_timeout_s):
                message = await anext(messages, b"")
            path, body, json_bytes = await _light(len(message), _request, message)
        except TimeoutError:
            await _abort(context, 400, "malformed_request", "the message did not arrive in time")
        except TesseraError as error:
            retry = str(getattr(error, "retry_after_s", ""))
            await _abort(context, error.status, error.code, error.detail, retry)
        del message
        headers += [
            ("content-type", "application/octet-stream"),
            ("content-length", str(len(body))),
            (HEADER, str(json_bytes)),
        ]
        answer = await ask(self._app, "POST", path, headers, body)
        body = await _body(context, answer)
        return await _light(len(body), _response, body, answer.headers.get(HEADER))


def _path(name: str, version: str) -> str:
    if not name or "/" in name + version or name == "stats":
        raise ModelNotFound("no such model is loaded; RepositoryIndex lists what there is")
    return f"/v2/models/{name}" + (f"/versions/{version}" if version else "")


def _statistics_path(asked: Any) -> str:
    return f"{_path(asked.name, asked.version)}/stats" if asked.name else "/v2/models/stats"


def _request(message: bytes) -> tuple[str, bytes, int]:
    """Path and body of the request for an inference, and how many bytes of the body are JSON."""
    try:
        asked = REQUESTS[_INFER].FromString(message)
    except DecodeError as error:
        raise MalformedRequest("the message is not a ModelInferRequest") from error
    path = f"{_path(asked.model_name, asked.model_version)}/infer"
    return path, *request_body(asked)


def _response(body: bytes, json_bytes: str | None) -> bytes:
    response = RESPONSES[_INFER]()
    fill_response(response, body, len(body) if json_bytes is None else int(json_bytes))
    serialized: bytes = response.SerializeToString()
    return serialized


async def _light(size: int, function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function on something of `size` bytes; on what is large, off the event loop."""
    if size <= _SMALL_BYTES:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


def _headers(context: Any) -> list[tuple[str, str]]:
    return [(key, value) for key, value in context.invocation_metadata() or () if key in _SENT]


async def _body(context: Any, answer: Answer) -> bytes:
    """The answer's body; its headers as trailing metadata. Ends the call if it is an error."""
    returned = tuple((name, answer.headers[name]) for name in _RETURNED if name in answer.headers)
    if answer.status == 200:
        context.set_trailing_metadata(returned)
        return answer.body
    error = orjson.loads(answer.body)["error"]
    await context.abort(CODES.get(answer.status, grpc.StatusCode.UNKNOWN), error, returned)
    raise AssertionError("abort raises")


async def _abort(
    context: Any, status: int, code: str, detail: str, retry_after: str = ""
) -> NoReturn:
    metadata = (("retry-after", retry_after),) if retry_after else ()
    await context.abort(CODES[status], f"{code}: {detail}", metadata)
    raise AssertionError("abort raises")
