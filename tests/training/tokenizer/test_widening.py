"""Facts about decoders that begin with the function of smaller ones."""

import pytest
import torch

from training.tokenizer.config import ConvolutionalConfig
from training.tokenizer.networks.convolutional import Decoder
from training.tokenizer.widening import widen_into


def decoder(widths, depths, stem_stride=4):
    """A decoder whose every weight is random, those that would begin at zero too."""
    config = ConvolutionalConfig(
        stem_stride=stem_stride, widths=widths, encoder_depths=depths, decoder_depths=depths
    )
    made = Decoder(config, 4)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.1)
    return made


def fresh(widths, depths, stem_stride=4):
    """A decoder as a run begins with it."""
    config = ConvolutionalConfig(
        stem_stride=stem_stride, widths=widths, encoder_depths=depths, decoder_depths=depths
    )
    return Decoder(config, 4)


@pytest.mark.parametrize(
    ("widths", "depths", "stem_stride"),
    [
        ((8, 16), (1, 2), 4),  # the same
        ((12, 16), (1, 2), 4),  # wider at the finer stage
        ((12, 24), (3, 2), 4),  # wider and deeper
        ((12, 24), (3, 4), 2),
    ],
)
def test_the_function_is_kept(widths, depths, stem_stride):
    """Whatever was added, the pixels are those of the smaller decoder."""
    torch.manual_seed(0)
    old = decoder((8, 16), (1, 2), stem_stride)
    new = fresh(widths, depths, stem_stride)
    assert widen_into(new, old)
    vectors = torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(new(vectors), old(vectors), rtol=1e-4, atol=1e-4)


def test_what_was_added_learns():
    """Weights that see new channels begin at zero and have a gradient."""
    torch.manual_seed(0)
    new = fresh((12, 16), (2, 2))
    assert widen_into(new, decoder((8, 16), (1, 2)))
    new(torch.randn(1, 4, 4, 4)).square().mean().backward()
    seen = new.to_pixels[0].weight
    assert (seen[:, 4:] == 0).all()
    assert seen.grad[:, 4:].abs().sum() > 0


@pytest.mark.parametrize(
    ("widths", "depths"), [((4, 16), (1, 2)), ((8, 16), (0, 2)), ((8, 16, 16), (1, 2, 1))]
)
def test_a_smaller_one_stays_as_it_was(widths, depths):
    """Narrower, shallower or of more stages: nothing is taken over."""
    new = fresh(widths, depths)
    before = [parameter.clone() for parameter in new.parameters()]
    assert not widen_into(new, decoder((8, 16), (1, 2)))
    assert all(torch.equal(a, b) for a, b in zip(before, new.parameters(), strict=True))
