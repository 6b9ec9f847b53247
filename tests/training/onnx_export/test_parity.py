"""The parity proof's budgets."""

import pytest

from training.onnx_export.parity import Parity, ParityError, check


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
