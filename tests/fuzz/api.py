"""The whole API under requests that Schemathesis makes of its OpenAPI document.

    python tests/fuzz/api.py --examples 100     # `make fuzz-api`

A real server with the tiny model and a key. All of Schemathesis' checks: no 5xx, every status,
header and body as the document says, wrong requests refused, keys required where it says so. But
for one: that what the schema allows is accepted, since a string is hardly ever an image.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEY = "a-key-for-schemathesis"


def run(examples: int, phases: str, folder: Path, seed: int) -> subprocess.CompletedProcess[str]:
    """Serve, attack, stop.

    Args:
        examples: most for each operation and kind of check in fuzzing.
        phases: some of examples, coverage, fuzzing, stateful; separated by commas.
        folder: for the server's log.
        seed: of what is made up.

    Returns:
        Schemathesis' end: its exit code is 0 if nothing was found.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
    settings = {
        "TESSERA_MODELS_DIR": str(ROOT / "tests" / "data" / "bundles"),
        "TESSERA_HOST": "127.0.0.1",
        "TESSERA_PORT": str(port),
        "TESSERA_API_KEYS": KEY,
    }
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"], cwd=ROOT, env=kept | settings, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        return subprocess.run(
            [
                *(Path(sys.executable).parent / "schemathesis", "run"),
                f"http://127.0.0.1:{port}/openapi.json",
                *("--header", f"Authorization: Bearer {KEY}"),
                *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
                *("--phases", phases, "--max-examples", str(examples), "--seed", str(seed)),
                *("--generation-database", "none", "--continue-on-failure", "--no-color"),
                *("--suppress-health-check", "all", "--request-timeout", "60"),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        server.terminate()
        server.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the API by its OpenAPI document.")
    parser.add_argument("--examples", type=int, default=100, help="most for each operation")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = run(
            options.examples, "examples,coverage,fuzzing,stateful", Path(folder), options.seed
        )
        print(done.stdout, done.stderr)
        log = (Path(folder) / "log").read_text()
    crashes = [line for line in log.splitlines() if '"tessera.crash"' in line]
    print("\n".join(crashes))
    return done.returncode or bool(crashes)


if __name__ == "__main__":
    sys.exit(main())
