"""Which models may keep the code space of an earlier bundle (bundle/FORMAT.md)."""

import copy

import pytest
import torch

from bundle import open_bundle
from training.onnx_export.code_space import CodeSpaceLost, kept_code_space
from training.tokenizer.config_file import from_dict
from training.tokenizer.initial_weights import put_into, read_initial_weights, weights_of
from training.tokenizer.model import Tokenizer


@pytest.fixture(scope="module")
def earlier(staged_bundle):
    """Two stages; its further decoder happens to be the better one by PSNR too."""
    return open_bundle(staged_bundle)


@pytest.fixture(scope="module")
def better(earlier):
    """The same encoder and codebooks, with the better decoder as the main one."""
    model = Tokenizer(from_dict(earlier.manifest.training["configuration"]))
    assert put_into(model, read_initial_weights(earlier.path)) == []
    model.decoder.load_state_dict(weights_of(earlier, "decoder-texture"))
    return model.eval().requires_grad_(requires_grad=False)


def test_a_better_decoder_for_the_same_codes_keeps_it(earlier, better, images):
    """What was measured is for the manifest: of every number of stages."""
    facts = kept_code_space(earlier, better, images[:4])
    assert facts["bundle"] == "tiny-staged@1"
    assert facts["images"] == 4
    assert facts["code_agreement"] >= 0.995
    assert len(facts["psnr"]) == len(facts["psnr_before"]) == 2
    assert all(a >= b for a, b in zip(facts["psnr"], facts["psnr_before"], strict=True))


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("codebook", "codebook of stage 2 is another"),
        ("encoder", "of the codes are the same"),
        ("decoder", "the new decoder reaches"),
    ],
)
def test_anything_less_is_another_code_space(part, reason, earlier, better, images):
    """Another codebook, other codes, or worse pictures from them."""
    model = copy.deepcopy(better)
    with torch.no_grad():
        if part == "codebook":
            model.quantizer.stages[1].codebook[3] += 1e-3
        elif part == "encoder":
            model.encoder.to_latents.bias += 0.05
        else:
            model.decoder.to_pixels[0].bias += 0.05
    with pytest.raises(CodeSpaceLost, match=reason):
        kept_code_space(earlier, model, images[:4])
