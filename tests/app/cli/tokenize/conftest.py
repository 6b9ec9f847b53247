"""How tests run `tessera tokenize` in this process."""

from __future__ import annotations

import json

import pytest

from app.cli import main as cli


@pytest.fixture
def tokenize(tiny_bundle, tmp_path, monkeypatch, capsys):
    """Tokenizes into a folder of `tmp_path`: its name, source and options → summary or message."""
    monkeypatch.setenv("TESSERA_MODELS_DIR", str(tiny_bundle.parent))

    def run(out: str, source: object, *options: str):
        with pytest.raises(SystemExit) as ended:
            cli.main(["tokenize", "--json", str(source), str(tmp_path / out), *options])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return json.loads(captured.out) if not ended.value.code else captured.err

    return run
