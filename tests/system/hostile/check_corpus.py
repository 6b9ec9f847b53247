"""All files of a folder through a real server: codes or a refusal, soon, and never a 5xx.

Run by `make corpus-check CORPUS=DIR`, with any folder of odd, broken or hostile image files. Each
is sent raw, to be encoded with the tiny model and default limits.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

# Refusals that the HTTP contract has for an image in a raw body.
REFUSALS = {"image_corrupt", "image_too_large", "unsupported_media_type", "body_too_large"}
REFUSALS |= {"malformed_request"}  # an empty file
SECONDS = 30.0  # valid images of many megapixels take seconds to encode
REFUSED_SECONDS = 1.0
GROWN = 100e6  # of a refusal

FILES = sorted(path for path in Path(os.environ["CORPUS"]).iterdir() if path.is_file())


@pytest.fixture(scope="module")
def outcomes():
    """What became of each file so far; said at the end."""
    found = []
    yield found
    counts = Counter(outcome for outcome, _, _ in found)
    slowest = sorted(found, key=lambda one: one[1])[-3:]
    print(f"\n{len(found)} files: " + ", ".join(f"{n} {name}" for name, n in counts.most_common()))
    refused = [one for one in found if one[0] != "codes"]
    for name, some in (
        ("codes", [one for one in found if one[0] == "codes"]),
        ("refused", refused),
    ):
        if some:
            seconds, grown = max(one[1] for one in some), max(one[2] for one in some)
            print(f"{name}: at most {seconds * 1000:.0f} ms, {grown / 1e6:.0f} MB")
    print(f"slowest: {slowest}")


def test_there_are_files():
    """An empty folder would prove nothing."""
    assert FILES, f"no files in {os.environ['CORPUS']}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name[:60])
def test_every_file_gives_codes_or_a_refusal(server, path, outcomes):
    """Of the contract's table, within its time, and a refusal in little memory."""
    reply = server.post("/v1/encode", path.read_bytes())
    assert reply.status == 200 or reply.code in REFUSALS, (reply.status, reply.body[:300])
    assert reply.seconds < (SECONDS if reply.status == 200 else REFUSED_SECONDS)
    assert reply.status == 200 or reply.grown < GROWN
    outcomes.append(("codes" if reply.status == 200 else reply.code, reply.seconds, reply.grown))
