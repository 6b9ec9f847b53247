"""Who is compared: how each is installed, started, asked, and how its answer is read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inputs import form, request, tensor_request
from benchmarks.servers import Server, ServerFailed
from bundle import open_bundle

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
BUILD = ROOT / "build/bench"

# The same runtime and JPEG decoder for everyone.
_COMMON = ("onnxruntime==1.32.0", "pillow==13.0.0")


@dataclass(frozen=True)
class Candidate:
    """A server that turns a JPEG into codes.

    Attributes:
        key: short name, also of its environment.
        title: name in tables.
        port: where it listens; Triton takes the next two as well.
        ready: path that answers 200 once it is up.
        command: what starts it; `{python}` is its environment's interpreter, `{bin}` its folder.
        ask: JPEG file → whole HTTP request.
        read: body of the answer and the grid's shape → codes `[rows, columns]`.
        requirements: of its environment, pinned; empty for Tessera, which runs in ours.
        python: version that its environment needs; empty for ours.
        environment: variables added to ours.
        pausable: whether it survives being stopped while others are measured. Triton doesn't: the
            locks it shares with its Python processes time out by the clock on the wall.
    """

    key: str
    title: str
    port: int
    ready: str
    command: tuple[str, ...]
    ask: Callable[[bytes], bytes]
    read: Callable[[bytes, tuple[int, int]], np.ndarray]
    requirements: tuple[str, ...] = ()
    python: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    pausable: bool = True


def _raw(body: bytes, shape: tuple[int, int]) -> np.ndarray:
    return np.frombuffer(body, "<i8").reshape(shape)


def _npy(body: bytes, shape: tuple[int, int]) -> np.ndarray:
    return np.frombuffer(body[-8 * shape[0] * shape[1] :], "<i8").reshape(shape)


def _after_json(body: bytes, shape: tuple[int, int]) -> np.ndarray:
    return _raw(body[-8 * shape[0] * shape[1] :], shape)


def _json(body: bytes, shape: tuple[int, int]) -> np.ndarray:
    return np.array(json.loads(body)).reshape(shape)


def _as_form(path: str, field_name: str) -> Callable[[bytes], bytes]:
    return lambda jpeg: request(path, *form(field_name, jpeg))


def _ask_tessera(jpeg: bytes) -> bytes:
    return request("/v1/encode", "image/jpeg", jpeg, accept="application/x-npy")


_TESSERA: dict[str, Any] = {
    "ready": "/readyz",
    "command": (sys.executable, "-m", "app", "serve"),
    "ask": _ask_tessera,
    "read": _npy,
}

TESSERA = Candidate("tessera", "Tessera", 9001, **_TESSERA)
TESSERA_INT8 = Candidate(
    "tessera-int8", "Tessera, int8", 9002, environment={"TESSERA_PRECISION": "int8"}, **_TESSERA
)
TRITON = Candidate(
    "triton",
    "Triton (pytriton)",
    9010,
    "/v2/models/encode/ready",
    ("{python}", str(PEERS / "triton_peer.py")),
    lambda jpeg: tensor_request("/v2/models/encode/infer", jpeg),
    _after_json,
    ("nvidia-pytriton==0.7.0", *_COMMON),
    python="3.12",
    pausable=False,
)
LITSERVE = Candidate(
    "litserve",
    "LitServe",
    9020,
    "/health",
    ("{python}", str(PEERS / "litserve_peer.py")),
    lambda jpeg: request("/predict", "image/jpeg", jpeg),
    _raw,
    ("litserve==0.2.19", *_COMMON),
)
BENTOML = Candidate(
    "bentoml",
    "BentoML",
    9030,
    "/readyz",
    ("{bin}/bentoml", "serve", "bentoml_peer:Encode", "--host", "127.0.0.1", "--port", "9030"),
    _as_form("/encode", "images"),
    _json,
    ("bentoml==1.4.38", *_COMMON),
    environment={"BENTOML_DO_NOT_TRACK": "true"},
)
TORCH = Candidate(
    "torch",
    "FastAPI + PyTorch",
    9040,
    "/health",
    ("{bin}/uvicorn", "torch_peer:app", "--port", "9040", "--no-access-log"),
    _as_form("/encode", "image"),
    _json,
    (
        "torch==2.13.0",
        "onnx==1.23.2",
        "numpy==2.4.6",
        "fastapi==0.165.0",
        "uvicorn[standard]==0.54.0",
        "python-multipart==0.0.34",
        "pillow==13.0.0",
    ),
)
PEER_CANDIDATES = (TRITON, LITSERVE, BENTOML, TORCH)
CANDIDATES = (TESSERA, *PEER_CANDIDATES, TESSERA_INT8)


def environment_folder(candidate: Candidate) -> Path:
    """Its virtual environment, ignored by git."""
    return ROOT / f".venv-bench-{candidate.key}"


def install(candidate: Candidate) -> None:
    """Make its environment, unless there is one of exactly these requirements.

    Raises:
        ServerFailed: there is no such Python, or pip failed.
    """
    if not candidate.requirements:
        return
    folder = environment_folder(candidate)
    wanted = "\n".join(candidate.requirements)
    stamp = folder / ".requirements"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing {candidate.title} into {folder.name}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    python = _find_python(candidate.python) if candidate.python else sys.executable
    subprocess.run([python, "-m", "venv", folder], check=True)
    done = subprocess.run(
        [
            *(folder / "bin/python", "-m", "pip", "install", "-q", "--no-input"),
            "--disable-pip-version-check",
            *candidate.requirements,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServerFailed(f"{candidate.title} can't be installed:\n{done.stderr[-2000:]}")
    stamp.write_text(wanted)


def start(candidate: Candidate, bundle: Path, threads: int, **settings: str) -> Server:
    """Start it on a bundle.

    Args:
        candidate: whom.
        bundle: folder of the model.
        threads: it may use, as many as there are cores.
        settings: environment variables that override its own.
    """
    folder = environment_folder(candidate)
    names = {"python": str(folder / "bin/python"), "bin": str(folder / "bin")}
    environment = {
        "BUNDLE": str(bundle.resolve()),
        "PORT": str(candidate.port),
        "THREADS": str(threads),
        "ORT_DISABLE_TELEMETRY": "1",
        **candidate.environment,
        **settings,
    }
    if candidate.python:
        # Triton's Python backend links against libpython, which virtual environments don't have.
        environment["LD_LIBRARY_PATH"] = _library_folder(folder / "bin/python")
    if not candidate.requirements:
        environment = {
            "TESSERA_HOST": "127.0.0.1",
            "TESSERA_PORT": str(candidate.port),
            **serving(bundle),
            "TESSERA_DEVICE": "cpu",
            "ORT_DISABLE_TELEMETRY": "1",
            **candidate.environment,
            **settings,
        }
    return Server(
        candidate.title,
        [part.format(**names) for part in candidate.command],
        candidate.port,
        candidate.ready,
        environment,
        ROOT if not candidate.requirements else PEERS,
        BUILD / "logs" / f"{candidate.key}.log",
        candidate.pausable,
    )


def serving(bundle: Path) -> dict[str, str]:
    """Tessera's settings to serve a bundle by default, whatever lies in the folder beside it."""
    model = open_bundle(bundle).manifest
    return {
        "TESSERA_MODELS_DIR": str(bundle.resolve().parent),
        "TESSERA_DEFAULT_MODEL": f"{model.name}@{model.version}",
    }


def version(candidate: Candidate) -> str:
    """Of the package that does the serving."""
    return candidate.requirements[0] if candidate.requirements else "this commit"


def _find_python(wanted: str) -> str:
    found = shutil.which(f"python{wanted}")
    if found and subprocess.run([found, "-V"], capture_output=True, check=False).returncode == 0:
        return found
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for folder in sorted(root.glob(f"{wanted}*"), reverse=True):
        if (folder / "bin/python").exists():
            return str(folder / "bin/python")
    raise ServerFailed(f"Python {wanted} is needed, as python{wanted} on the path or in pyenv")


def _library_folder(python: Path) -> str:
    asked = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"
    return subprocess.run(
        [python, "-c", asked], capture_output=True, text=True, check=True
    ).stdout.strip()
