"""The house rules that no single package can test: imports, pins, and what no file may name."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings

ROOT = Path(__file__).parents[1]

# Paths and registries of some machine; text that a person has on theirs, not in a repository.
_PRIVATE = re.compile(
    r"(?<![\w.~-])/(?:home|root|work|Users)/(?!\.cache/pip\b)[\w.]"
    r"|--(?:extra-)?index-url[ =]|--find-link[s]|--trusted-hos[t]"
)


def _python(code: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_import_contracts_hold() -> None:
    lint_imports = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    _python(lint_imports)


def test_service_starts_where_nothing_of_training_is_installed() -> None:
    absent = ["torch", "onnx", "onnxscript", "training", "sklearn", "tensorboard", "scipy"]
    _python(
        f"import sys; sys.modules.update(dict.fromkeys({absent}));"
        "import app.cli.main, app.server.process; from app.server.app import create_app;"
        "from app.settings import Settings;"
        "app.server.process.create_app(Settings()).openapi()"
    )


def test_bundle_needs_no_installed_package() -> None:
    # -S: without site-packages
    _python(f"import sys; sys.path.insert(0, {str(ROOT)!r}); import bundle", "-I", "-S")


def test_service_sends_no_usage_data() -> None:
    """ONNX Runtime 1.29+ uploads some unless this is set when it is first imported."""
    printed = _python(
        "import os; os.environ.pop('ORT_DISABLE_TELEMETRY', None); import app.runtime.engine;"
        "print(os.environ.get('ORT_DISABLE_TELEMETRY'))"
    )
    assert printed == "1"


def test_the_wall_clock_decides_nothing() -> None:
    """It may jump: it stamps the log and traces; what waits or measures is monotonic."""
    wall = re.compile(
        r"\btime\.(time|time_ns|localtime|ctime)\(|\b(datetime|date)\.(now|today|utc)"
    )
    found = {
        path.relative_to(ROOT / "app").as_posix()
        for path in (ROOT / "app").rglob("*.py")
        if wall.search(path.read_text())
    }
    assert found == {
        "observability/inference_statistics.py",
        "observability/logging.py",
        "observability/tracing.py",
    }


def _pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["cpu.txt", "gpu.txt"])
def test_service_is_pinned_by_hash(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    pins = re.split(r"\n(?=[a-z])", text)[1:]
    assert len(pins) > 20
    assert all("--hash=sha256:" in pin for pin in pins)
    assert not {"torch", "onnx", "onnxscript"} & set(_pins(name))


def test_all_pins_agree() -> None:
    dev = _pins("dev.txt")
    for name in ("cpu.txt", "gpu.txt", "train.txt"):
        pins = _pins(name)
        assert {package: dev.get(package, pins[package]) for package in pins} == pins


def test_one_onnx_runtime_in_each_environment() -> None:
    for name in ("cpu.txt", "dev.txt", "train.txt"):
        assert "onnxruntime-gpu" not in _pins(name)
    assert "onnxruntime" not in _pins("gpu.txt")


def _files() -> list[Path]:
    """Those that git keeps or would; all, where this is no checkout."""
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in ROOT.glob("[!.]*/**/*") if "__pycache__" not in path.parts]


def test_no_file_names_a_machine() -> None:
    found = []
    for path in _files():
        content = path.read_bytes() if path.is_file() else b"\0"
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            if _PRIVATE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


@pytest.mark.parametrize("name", ["Dockerfile", "Makefile", "docker-compose.yml"])
def test_deployment_names_settings_that_exist(name: str) -> None:
    named = set(re.findall(r"\bTESSERA_([A-Z_]*[A-Z])", (ROOT / name).read_text()))
    assert named
    assert {setting.lower() for setting in named} <= set(Settings.model_fields)


def test_promises_name_tests_that_exist() -> None:
    named = re.findall(
        r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/operations.md").read_text()
    )
    assert len(named) > 30
    for file, test in named:
        assert f"def {test}" in (ROOT / file).read_text(), (file, test)


def test_requirements_name_no_place() -> None:
    for path in (ROOT / "requirements").iterdir():
        text = path.read_text()
        assert "://" not in text
        assert not re.search(r"^-[^-]|^--(?!hash)", text, re.MULTILINE)
