"""The published document says what the service does, no more and no less."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import orjson
import pytest

from app import errors
from app.api import model_schemas, schemas
from app.server.app import create_app
from app.settings import read_settings
from imaging.encode import encode_image

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document():
    return create_app(read_settings({})).openapi()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_the_committed_document_is_the_present_one(document):
    """`python -m app openapi docs/openapi.json` writes it."""
    assert orjson.loads(COMMITTED.read_bytes()) == orjson.loads(orjson.dumps(document))


def test_every_reference_leads_somewhere(document):
    """And every schema is referred to."""
    text = orjson.dumps(document).decode()
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert referred == set(document["components"]["schemas"])


def test_every_error_is_promised_somewhere_under_its_status(document):
    """The error tree and the document can't drift apart."""
    promised = {}
    for _, operation in operations(document):
        for status, response in operation["responses"].items():
            codes = re.findall(r"`(\w+)`", response["description"].partition(":")[0])
            for code in codes if status != "200" else ():
                promised.setdefault(code, set()).add(int(status))
    raised = {}
    waiting = list(errors.TesseraError.__subclasses__())
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        raised[kind.code] = {kind.status}
    # Of no operation: such a path or method has none.
    for code in ("not_found", "method_not_allowed"):
        assert code not in promised
        del raised[code]
    assert promised == raised


def test_every_operation_says_which_headers_its_answers_carry(document):
    """Request id and times on all, when to return on 429 and 503."""
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            assert {"X-Request-ID", "Server-Timing"} <= set(response["headers"]), name
            assert ("Retry-After" in response["headers"]) == (status in {"429", "503"}), name


PROBES = {"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}


def test_only_probes_need_no_key(document):
    """All else says 401."""
    for name, operation in operations(document):
        probe = name.split()[1] in PROBES
        assert ("401" in operation["responses"]) != probe
        assert (operation.get("security") == []) == probe


def test_answers_are_as_their_schemas_say(client):
    """No field that isn't declared, and none of another type."""
    image = base64.b64encode(encode_image(np.zeros((8, 8, 3), np.uint8), "image/png")).decode()
    images = {"images": [image, "!", image]}
    encoded = client.post("/v1/encode", json=images)
    for answer, schema in (
        (encoded, schemas.Encoded),
        (client.post("/v1/decode", json=encoded.json()), schemas.Pictures),
        (client.post("/v1/reconstruct", json=images), schemas.Reconstructions),
        (client.post("/v1/embed", json=images), schemas.Embedded),
        (client.get("/v1/models"), model_schemas.ModelList),
        (client.get("/v1/models/tiny"), model_schemas.ModelFacts),
        (client.get("/v1/models/tiny/codebook"), model_schemas.Codebook),
        (client.get("/livez"), schemas.Alive),
        (client.get("/readyz"), schemas.Ready),
        (client.get("/v1/models/absent"), schemas.Problem),
    ):
        schema.model_validate(answer.json(), strict=True)
