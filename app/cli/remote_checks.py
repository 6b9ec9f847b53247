"""What `tessera doctor --url` looks at: a service that is running, through its own API."""

from __future__ import annotations

import importlib.metadata
import io
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx
import numpy as np
from PIL import Image

from app.cli.checks import Finding
from app.cli.failures import said
from app.cli.service import unreachable
from imaging.decode import decode_image
from imaging.encode import encode_image
from imaging.headers import inspect_image
from tessera_client import ServerError, TesseraError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tessera_client import Client

_SAMPLE = Path(__file__).parents[1] / "playground" / "static" / "samples" / "otter.webp"
_SIZE = 256, 192
_JSON = "application/json"
_PNG: Literal["image/png"] = "image/png"

# PSNR is told with four digits; the two ways may round pixels alike and must not differ by more.
_PSNR_SLACK_DB = 0.001
_REQUESTS = 11
_MUCH_ON_THE_WAY = 3.0  # times the service's own time


def examine_service(client: Client) -> Iterator[Finding]:
    """Look at a service, one thing after the other; stops where nothing further can work."""
    try:
        _send(client, "/livez")
    except ServerError as error:
        advice = "is this address Tessera's, and does a proxy before it pass /livez on?"
        text = f"answers, but not as Tessera does: {_told(error)}"
        yield Finding("service", "bad", text, advice)
        return
    except Unreachable as error:
        advice = (
            "is it running (`tessera serve`), and address, port and firewall as they should be?"
        )
        yield Finding("service", "bad", _told(error), advice)
        return
    yield Finding("service", "ok", "it answers")
    yield from _ready(client)
    try:
        yield _version(client)
        models = _send(client, "/v1/models").json()
    except TesseraError as error:
        yield Finding("access", "bad", _told(error), _advice(error))
        return
    picture = decode_image(inspect_image(_SAMPLE.read_bytes(), max_pixels=2**24), _SIZE).pixels
    for model in models["data"]:
        yield _facts(model, models["default"])
        try:
            yield from _round_trip(client, model, picture)
            yield from _latency(client, model, picture)
        except TesseraError as error:
            yield Finding(model["id"], "bad", _told(error), _advice(error))
        except (ValueError, KeyError, TypeError, OSError) as error:
            yield Finding(
                model["id"],
                "bad",
                f"an answer isn't what the API promises: {error!r}",
                "is a proxy between that changes answers?",
            )


def _ready(client: Client) -> Iterator[Finding]:
    try:
        _send(client, "/readyz")
    except TesseraError as error:
        yield Finding(
            "ready",
            "bad",
            _told(error),
            "wait if it is starting; else its log says what hangs, and a restart mends it",
        )
    else:
        yield Finding("ready", "ok", "every model has lately run")


def _version(client: Client) -> Finding:
    there = _send(client, "/v2").json()["version"]
    try:
        here = importlib.metadata.version("tessera")
    except importlib.metadata.PackageNotFoundError:
        return Finding("version", "ok", f"Tessera {there}")
    if there != here:
        return Finding(
            "version",
            "note",
            f"Tessera {there}; this command is of {here}",
            "stored codes decode with either; for the newer one's options, update the older",
        )
    return Finding("version", "ok", f"Tessera {there}, as this command")


def _facts(model: dict[str, Any], default: str) -> Finding:
    text = (
        f"{'default, ' if model['name'] == default else ''}on {model['device']} in "
        f"{model['precision']}, {model['codebook_size']:,} codes of {model['stride']} × "
        f"{model['stride']} pixels, code space {model['code_space']}"
    )
    if model["device"] != "cpu" and model["precision"] == "fp32":
        advice = "on a GPU fp16 is about twice as fast: leave TESSERA_PRECISION at auto"
        return Finding(model["id"], "note", text, advice)
    return Finding(model["id"], "ok", text)


def _round_trip(
    client: Client, model: dict[str, Any], picture: NDArray[np.uint8]
) -> Iterator[Finding]:
    """Encode, decode, and what the service itself says of the two in one."""
    subject = f"{model['id']} round trip"
    body = encode_image(picture, _PNG)
    answer = _send(client, "/v1/encode", body, _PNG, _JSON, model["id"])
    encoded = answer.json()
    item = encoded["data"][0]
    codes = np.array(item["codes"])
    if codes.ndim == 3:
        codes = codes[0]
    rows, columns = (-(-side // model["stride"]) for side in picture.shape[:2])
    if (
        codes.shape != (rows, columns)
        or not 0 <= codes.min() <= codes.max() < model["codebook_size"]
    ):
        text = f"codes {codes.shape} within {codes.min()}…{codes.max()} are not this model's"
        yield Finding(subject, "bad", text, "look at its log, and export the model anew")
        return
    if encoded["code_space"] != model["code_space"]:
        yield Finding(
            subject,
            "bad",
            f"codes of space {encoded['code_space']}, the model's is another",
            "do several replicas with different models share this address?",
        )
        return
    decoded = _send(client, "/v1/decode", answer.content, _JSON, _PNG)
    ours = _psnr(_pixels(decoded), picture)
    near = _send(client, "/v1/reconstruct", body, _PNG, _PNG, model["id"])
    theirs = float(near.headers["tessera-psnr"])
    text = f"{codes.size} codes, all in range; decoded {ours:.2f} dB near the picture"
    if abs(ours - theirs) > _PSNR_SLACK_DB:
        yield Finding(
            subject,
            "bad",
            f"{text}, but /v1/reconstruct says {theirs:.2f}",
            "replicas of different precision or version behind one address? make them alike",
        )
        return
    yield Finding(subject, "ok", f"{text}, as /v1/reconstruct says")


def _latency(
    client: Client, model: dict[str, Any], picture: NDArray[np.uint8]
) -> Iterator[Finding]:
    body = encode_image(picture, _PNG)
    whole, stages = [], []
    for _ in range(_REQUESTS):
        started = time.perf_counter()
        answer = _send(client, "/v1/encode", body, _PNG, _JSON, model["id"])
        whole.append((time.perf_counter() - started) * 1000)
        stages.append(_stages(answer))
    inside = statistics.median(sum(one.values()) for one in stages)
    waiting = statistics.median(one.get("queue", 0.0) for one in stages)
    middle = statistics.median(whole)
    text = (
        f"encode of {_SIZE[0]} × {_SIZE[1]} takes {middle:.1f} ms (median of {_REQUESTS}, "
        f"{max(whole):.1f} at most), {inside:.1f} of it inside the service"
    )
    subject = f"{model['id']} latency"
    if waiting > inside / 2:
        advice = "others are using it: more replicas, or try when it is quiet"
        yield Finding(subject, "note", f"{text}, {waiting:.1f} of those waiting", advice)
    elif middle > _MUCH_ON_THE_WAY * inside and middle - inside > 5:
        advice = "most is the way there: keep connections open, and send several images a request"
        yield Finding(subject, "note", text, advice)
    else:
        yield Finding(subject, "ok", text)


def _send(
    client: Client,
    path: str,
    body: bytes | None = None,
    content_type: str = "",
    accept: str = _JSON,
    model: str | None = None,
) -> httpx.Response:
    """Ask once: what the service says now is what is to be found."""
    if body is None:
        return client.request("GET", path, retry_for_s=0)
    return client.request(
        "POST",
        path,
        retry_for_s=0,
        content=body,
        headers={"content-type": content_type, "accept": accept},
        params={} if model is None else {"model": model},
    )


def _told(error: TesseraError) -> str:
    if isinstance(error, ServerError):
        return said(error)
    if isinstance(error, Unreachable):
        return unreachable("the service", error)
    return str(error)


def _stages(answer: httpx.Response) -> dict[str, float]:
    """Milliseconds by stage, as `Server-Timing` has them."""
    found = {}
    for part in answer.headers.get("server-timing", "").split(","):
        name, _, value = part.strip().partition(";dur=")
        if value:
            found[name] = float(value)
    return found


def _pixels(answer: httpx.Response) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(answer.content)) as image:
        return np.asarray(image.convert("RGB"))


def _psnr(made: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    error = np.mean((made.astype(np.float64) - wanted) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-9)))


def _advice(error: TesseraError) -> str:
    status = error.status if isinstance(error, ServerError) else None
    return {
        None: "is it still running?",
        401: "give its key: TESSERA_API_KEY in the environment, or --api-key",
        429: "it is full: try when it is quiet, or add replicas",
        503: "it is starting or stopping: try again, and look at its log if that stays",
    }.get(status, "its log has this request: look there")
