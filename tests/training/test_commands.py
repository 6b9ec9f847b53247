"""The commands that help texts and documentation tell people to type are ones that exist."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "train", "evaluate", "export", "recognize", "learn_embedder", "compare_embedders",
    "embedding_sizes", "compare_quantizers",
)  # fmt: skip


def parser_of(command):
    module = importlib.import_module(f"training.{command}")
    if hasattr(module, "__path__"):  # a package is run by its __main__
        module = importlib.import_module(f"training.{command}.__main__")
    return module.parse_arguments


def typed(text):
    """Every `python -m training.…` of a text, as (command, arguments).

    What may be left out, in square brackets, is taken in.
    """
    found = []
    for line in re.findall(r"python -m (training\.[a-z_]+[^\n`;|]*)", text.replace("\\\n", " ")):
        module, *arguments = shlex.split(re.sub(r"[\[\]]", "", line), comments=True)
        # A sentence may go on after the command, which ends with a path or a name in capitals.
        found.append((module.partition(".")[2], arguments))
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_help_texts_name_commands_that_parse(command, capsys):
    """What `--help` ends with, to be typed next, has all that the next command needs."""
    with pytest.raises(SystemExit):
        parser_of(command)(["--help"])
    paragraphs = capsys.readouterr().out.strip().split("\n\n")
    # One sentence is one line again, and ends before what follows in the text.
    epilog = re.sub(r"\s+", " ", paragraphs[-1])
    if "python -m" in epilog and "usage:" not in epilog:
        for name, arguments in typed(re.sub(r"(, and |\. |\.$)", r"\n", epilog)):
            parser_of(name)(arguments)


@pytest.mark.parametrize("page", ["training.md", "recognition.md", "quantizers.md"])
def test_commands_of_the_pages_parse(page):
    """Every command in a code block, as it stands."""
    blocks = re.findall(r"```[a-z]*\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    commands = [command for block in blocks for command in typed(block)]
    assert len(commands) >= 2
    for name, arguments in commands:
        parser_of(name)(arguments)
