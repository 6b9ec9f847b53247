"""SECURITY.md says nothing that isn't there: every defence has its code, every threat its test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_TABLE = (ROOT / "SECURITY.md").read_text().partition("| threat |")[2].partition("\n\n")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in _TABLE.splitlines()[2:]]


def test_the_table_is_found():
    """And no row has lost a cell."""
    assert len(ROWS) > 20
    assert {len(row) for row in ROWS} == {4}
    assert all(cell for row in ROWS for cell in row)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_every_threat_names_code_and_tests_that_exist(row):
    """A test that was renamed or taken away is missed here."""
    for path in re.findall(r"`([^`]+)`", row[2]):
        assert (ROOT / path).exists(), path
    named = re.findall(r"`([^`]+)`", row[3])
    assert named
    for test in named:
        path, _, name = test.partition("::")
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), test


@pytest.mark.parametrize("name", ["cpu.txt", "gpu.txt"])
def test_every_package_of_the_service_is_pinned_with_hashes(name):
    """One exact version, and the SHA-256 of each of its files."""
    text = (ROOT / "requirements" / name).read_text().replace("\\\n", " ")
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    assert len(lines) > 10
    for line in lines:
        assert re.match(r"[a-z0-9-]+==[\w.+!]+\s", line), line[:60]
        assert "--hash=sha256:" in line, line[:60]
