"""The speed of training: what is counted, and what is refused."""

import pytest

from training.speed import forward_macs, main
from training.tokenizer.model import Tokenizer


def test_multiply_adds_grow_with_the_area(tiny):
    """Four times as many for a crop of twice the side."""
    model = Tokenizer(tiny)
    assert forward_macs(model, 64) == 4 * forward_macs(model, 32) > 0


@pytest.mark.filterwarnings("ignore:`torch.jit.load`:DeprecationWarning")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo-f9"], "no preset"),
        (["tiny", "--repeats", "0"], "--repeats must be at least 1, not 0"),
        (["tiny", "--device", "gpu"], "auto, cpu, cuda or cuda:N"),
        (["tiny", "--set", "loss.lpips=1.0", "--set", "loss.lpips_weights=absent.pt"], "absent.pt"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments, words, capsys):
    """Exit code 2, and what is wrong."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
