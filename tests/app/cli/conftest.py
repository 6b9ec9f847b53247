"""How tests run the `tessera` command in this process."""

from __future__ import annotations

import io
import sys

import pytest

from app.cli import main as cli


class Pipe:
    """Standard input or output that holds bytes and is no terminal."""

    def __init__(self, content: bytes = b"") -> None:
        self.buffer = io.BytesIO(content)

    def isatty(self) -> bool:
        return False


@pytest.fixture
def pipe():
    """Makes a pipe of bytes in the place of standard input or output."""
    return Pipe


@pytest.fixture
def command(monkeypatch, capsysbinary):
    """Makes the command for a folder of models: arguments → exit code, output, errors."""

    def with_models(folder):
        for name in ("TESSERA_URL", "TESSERA_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TESSERA_MODELS_DIR", str(folder))
        monkeypatch.setenv("COLUMNS", "200")

        def run(*arguments: object, stdin: bytes | None = None):
            if stdin is not None:
                monkeypatch.setattr(sys, "stdin", Pipe(stdin))
            with pytest.raises(SystemExit) as ended:
                cli.main([str(argument) for argument in arguments])
            captured = capsysbinary.readouterr()
            out, err = captured.out.decode(), captured.err.decode()
            assert "Traceback" not in err
            return ended.value.code or 0, out, err

        return run

    return with_models
