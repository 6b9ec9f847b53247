"""`tessera doctor --url` against real services: good ones, and several kinds of bad ones."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from app.cli import main as cli


@pytest.fixture
def doctor(monkeypatch, capsys):
    """Runs `tessera doctor --url …`: arguments → exit code, output, errors."""
    for name in ("TESSERA_URL", "TESSERA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("COLUMNS", "300")

    def run(url: object, *arguments: str):
        with pytest.raises(SystemExit) as ended:
            cli.main(["doctor", "--url", str(url), *arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return ended.value.code or 0, captured.out, captured.err

    return run


def _by_subject(out: str) -> dict[str, dict]:
    return {finding["subject"]: finding for finding in json.loads(out)}


def test_a_good_service_has_no_bad_finding(doctor, client):
    """Ready, its models, a picture there and back as near as the service says, latency."""
    code, out, _ = doctor(client.base_url, "--json")
    found = _by_subject(out)
    assert code == 0
    assert {"service", "ready", "version", "tiny@1", "tiny@1 round trip"} <= found.keys()
    assert all(finding["state"] != "bad" for finding in found.values())
    facts = client.get("/v1/models/tiny").json()
    for said in (facts["code_space"], "fp32", "on cpu"):
        assert said in found["tiny@1"]["text"]
    assert re.search(r"768 codes, all in range; decoded \d\d\.\d\d dB", str(found))
    assert re.search(r"takes [\d.]+ ms .* inside the service", found["tiny@1 latency"]["text"])


def test_nobody_there_ends_with_3(doctor):
    """Not reached is not the same as found bad."""
    code, out, err = doctor("http://127.0.0.1:9")
    assert code == 3
    assert "can't be reached" in out
    assert "→ is it running" in out
    assert "1 of 1 findings is bad" in err


def test_a_missing_key_is_named(doctor, run_app, tiny_bundle):
    """Health needs no key; the rest does, and the advice says where it goes."""
    with run_app(models_dir=tiny_bundle.parent, api_keys="open-sesame") as client:
        code, out, _ = doctor(client.base_url)
        assert code == 1
        assert "→ give its key: TESSERA_API_KEY" in out
        assert doctor(client.base_url, "--api-key", "open-sesame")[0] == 0


@pytest.fixture
def meddling(client):
    """Starts a proxy before the service that changes answers: `change(path, answer) → body`."""
    servers = []

    def start(change):
        class Handler(BaseHTTPRequestHandler):
            def _pass(self):
                length = int(self.headers.get("content-length", 0))
                keep = {
                    k: v for k, v in self.headers.items() if k.lower() in {"accept", "content-type"}
                }
                answer = client.build_request(
                    self.command, self.path, content=self.rfile.read(length), headers=keep
                )
                with httpx.Client(timeout=60) as inner:
                    answer = inner.send(answer)
                status, body = change(self.path, answer)
                self.send_response(status)
                for name in ("content-type", "tessera-psnr", "server-timing"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = _pass  # noqa: N815  (http.server's names)

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_codes_out_of_range_are_found(doctor, meddling):
    """A code that the codebook doesn't have."""

    def change(path, answer):
        if path.startswith("/v1/encode"):
            body = answer.json()
            body["data"][0]["codes"][0][0] = 256
            return 200, json.dumps(body).encode()
        return answer.status_code, answer.content

    code, out, _ = doctor(meddling(change), "--json")
    assert code == 1
    assert "…256 are not this model's" in _by_subject(out)["tiny@1 round trip"]["text"]


def test_codes_of_another_space_are_found(doctor, meddling):
    """As where replicas with different models share an address."""

    def change(path, answer):
        if path.startswith("/v1/encode"):
            return 200, json.dumps(answer.json() | {"code_space": "0" * 64}).encode()
        return answer.status_code, answer.content

    found = _by_subject(doctor(meddling(change), "--json")[1])["tiny@1 round trip"]
    assert found["state"] == "bad"
    assert "replicas" in found["advice"]


def test_a_picture_that_decodes_otherwise_is_found(doctor, meddling, client):
    """What decode gives must be as near as reconstruct says."""
    grey = client.post(
        "/v1/decode",
        json={
            "code_space": client.get("/v1/models/tiny").json()["code_space"],
            "data": [{"width": 256, "height": 192, "codes": [[0] * 32] * 24}],
        },
    ).content

    def change(path, answer):
        if path.startswith("/v1/decode"):
            return 200, grey
        return answer.status_code, answer.content

    found = _by_subject(doctor(meddling(change), "--json")[1])["tiny@1 round trip"]
    assert found["state"] == "bad"
    assert "but /v1/reconstruct says" in found["text"]


@pytest.mark.parametrize(
    ("path", "status", "subject", "says"),
    [
        ("/livez", 404, "service", "not as Tessera does"),
        ("/readyz", 503, "ready", "answered 503"),
        ("/v1/models", 502, "access", "answered 502"),
        ("/v1/encode", 500, "tiny@1", "answered 500"),
    ],
)
def test_each_failure_is_a_finding_with_advice(doctor, meddling, path, status, subject, says):
    """Whatever fails, doctor says what it was and what to do, and ends with 1 or 3."""

    def change(asked, answer):
        if asked.startswith(path):
            return status, b"<html>"
        return answer.status_code, answer.content

    code, out, _ = doctor(meddling(change), "--json")
    found = _by_subject(out)[subject]
    assert code == (3 if path == "/livez" else 1)
    assert found["state"] == "bad"
    assert says in found["text"]
    assert found["advice"]


def test_flags_of_this_machine_are_misused(doctor):
    """--precision is the service's own affair."""
    code, _, err = doctor("http://127.0.0.1:9", "--precision", "int8")
    assert code == 2
    assert "--precision is for this process" in err
