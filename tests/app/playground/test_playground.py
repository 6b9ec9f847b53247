"""The page at `/` as files: complete, under a strict policy, open without a key, from one host."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[3] / "app" / "playground" / "static"
FILES = sorted(path for path in STATIC.rglob("*") if path.is_file())
NAMES = [path.relative_to(STATIC).as_posix() for path in FILES]


def _path(name: str) -> str:
    return "/" if name == "index.html" else f"/playground/{name}"


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_served_as_what_it_is(client, name):
    """With its content, a media type that browsers run or show, and the policy."""
    answer = client.get(_path(name))
    assert answer.status_code == 200
    assert answer.content == (STATIC / name).read_bytes()
    kinds = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
    assert answer.headers["content-type"].startswith(kinds.get(Path(name).suffix, ""))
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_a_browser_has_is_not_sent_again(client):
    tag = client.get("/").headers["etag"]
    again = client.get("/", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_nothing_else_is_served(client):
    """Neither what isn't there nor what is elsewhere."""
    for path in ("/playground/", "/playground/../cli.py", "/playground/%2e%2e/__init__.py"):
        assert client.get(path).status_code == 404


def test_modules_name_only_what_is_there():
    """Every import and every address in the page leads to a file."""
    for path in STATIC.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', path.read_text()):
            assert name in NAMES, f"{path.name}: {name}"
    page = (STATIC / "index.html").read_text()
    for name in re.findall(r'(?:src|href)="playground/([^"]+)"', page):
        assert name in NAMES


def test_no_other_host_and_nothing_inline():
    """Addresses of others are in comments and licences alone; styles and scripts in files."""
    page = (STATIC / "index.html").read_text()
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert not re.search(r"<style|\sstyle=|<script(?![^>]*src=)|\son\w+=", page)
    for path in [*STATIC.glob("*.js"), *STATIC.glob("*.css")]:
        code = re.sub(
            r"//.*|/\*.*?\*/", "", path.read_text(), flags=re.DOTALL if path.suffix == ".css" else 0
        )
        assert "http" not in code, path.name
        assert "innerHTML" not in code


def test_the_page_needs_no_key_and_the_api_does(tiny_bundle, run_app):
    with run_app(models_dir=tiny_bundle.parent, api_keys="sesame") as client:
        assert client.get("/").status_code == 200
        assert client.get("/playground/main.js").status_code == 200
        assert client.get("/v1/models").status_code == 401


def test_samples_have_their_licence_beside_them():
    licence = (STATIC / "samples" / "LICENCE.txt").read_text()
    for path in (STATIC / "samples").glob("*.webp"):
        assert path.name in licence
