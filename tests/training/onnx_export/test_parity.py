"""The parity proof: its budgets, and what it counts as the same code."""

import copy

import numpy as np
import pytest
import torch

from training.onnx_export.parity import Parity, ParityError, check
from training.onnx_export.proof import Proof
from training.tokenizer.model import Tokenizer


@pytest.mark.parametrize(
    "figures",
    [
        Parity(1, latent_error=float("nan")),
        Parity(1, code_agreement=0.5),
        Parity(1, psnr=20.0, psnr_torch=20.2),
        Parity(1, embedding_cosine=0.9),
    ],
)
def test_every_figure_is_held_to_its_budget(figures):
    """Each figure out of its budget fails the proof, a NaN too."""
    with pytest.raises(ParityError):
        check({"graph": {"int8": figures}})


class Shifted:
    """A quantizer's session that gives codes of the other half of the codebook."""

    def __init__(self, model):
        self.model, self.half = model, model.config.quantizer.size // 2

    def get_inputs(self):
        return [type("Input", (), {"name": "latents"})]

    def run(self, _outputs, feed):
        codes = self.model.quantizer(torch.from_numpy(feed["latents"])).codes
        return [((codes + self.half) % (2 * self.half)).numpy()]


def test_codes_that_are_equally_near_agree(tiny, images):
    """After a short run many codes are one vector but for rounding, and any of them is right."""
    torch.manual_seed(0)
    model = Tokenizer(tiny).eval().requires_grad_(requires_grad=False)
    other = copy.deepcopy(model)
    half = tiny.quantizer.size // 2
    with torch.no_grad():
        model.quantizer.codebook[half:] = model.quantizer.codebook[:half] + 1e-7
    for tokenizer, agreement in ((model, 1.0), (other, 0.0)):
        proof = Proof(tokenizer, torch.nn.Identity(), [np.asarray(images[0][:64, :64])])
        assert proof.quantizer(Shifted(tokenizer)).code_agreement == agreement
