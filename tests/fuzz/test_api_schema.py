"""The API keeps to its OpenAPI document whatever it is sent. `make fuzz-api` does it for longer."""

import re
import runpy
from pathlib import Path

api = runpy.run_path(str(Path(__file__).with_name("api.py")))


def test_requests_made_of_the_document_break_nothing(tmp_path):
    """No 5xx, every answer as documented, wrong requests refused, a key required throughout."""
    done = api["run"](2, "fuzzing", tmp_path, seed=3)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert re.search(r"[1-9]\d* generated, ([1-9]\d*) passed", done.stdout)
    assert '"tessera.crash"' not in (tmp_path / "log").read_text()
