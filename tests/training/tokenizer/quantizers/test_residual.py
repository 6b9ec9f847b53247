"""Facts about residual quantization, recomputed in NumPy."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.tokenizer.config import NearestConfig
from training.tokenizer.quantizers import NearestQuantizer, ResidualQuantizer

CONFIG = NearestConfig(
    size=16, width=4, initialization="random", restart_below=0.0, decay=0.9, residual_sizes=(8, 4)
)


def make(seed=0, **changes):
    """A quantizer in training mode whose later stages have seen latents."""
    torch.manual_seed(seed)
    quantizer = ResidualQuantizer(dataclasses.replace(CONFIG, **changes), seed)
    with torch.no_grad():
        for stage in quantizer.stages:
            stage.initialized.fill_(True)
            if stage is not quantizer.stages[0]:
                stage.codebook.normal_(std=0.4)
    return quantizer


def latents(seed=1, n=2, h=5, w=7, d=4):
    """Random latents `[n, d, h, w]`."""
    return torch.randn(n, d, h, w, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_each_stage_codes_what_is_left(distance):
    """Codes and vectors of three stages are what NumPy finds, stage by stage."""
    quantizer = make(distance=distance).eval()
    z = latents()
    made = quantizer(z)
    left = z.permute(0, 2, 3, 1).reshape(-1, 4).double().numpy()
    if distance == "cosine":
        left = left / np.linalg.norm(left, axis=1, keepdims=True)
    total = np.zeros_like(left)
    assert made.codes.shape == (2, 3, 5, 7)
    for stage, book in enumerate(quantizer.codebooks()):
        book = book.double().numpy()
        codes = np.square(left[:, None] - book[None]).sum(axis=2).argmin(axis=1)
        assert np.array_equal(made.codes[:, stage].reshape(-1).numpy(), codes)
        total, left = total + book[codes], left - book[codes]
    vectors = made.vectors.permute(0, 2, 3, 1).reshape(-1, 4).numpy()
    assert np.allclose(vectors, total, atol=1e-5)


def test_more_stages_come_closer():
    """On k-means of what is left, every further stage lowers the error."""
    quantizer = make(initialization="kmeans", residual_sizes=(16, 16))
    for stage in quantizer.stages:
        stage.initialized.fill_(False)
    z = latents(n=8, h=16, w=16)
    quantizer(z)
    quantizer.eval()
    codes, unit = quantizer(z).codes, F.normalize(z, dim=1)
    errors = [F.mse_loss(quantizer.vectors_of(codes[:, :kept]), unit) for kept in (1, 2, 3)]
    assert errors[0] > 1.2 * errors[1] > 1.2 * 1.2 * errors[2]


def test_a_new_stage_adds_nothing():
    """Until it has seen latents, the vectors are those of the first stage."""
    quantizer = ResidualQuantizer(CONFIG).eval()
    made = quantizer(latents())
    assert torch.equal(quantizer.vectors_of(made.codes), quantizer.vectors_of(made.codes[:, :1]))


def test_every_prefix_has_vectors():
    """`[n, h, w]` is the first stage alone; more stages add theirs; too many are refused."""
    quantizer = make().eval()
    codes = quantizer(latents()).codes
    first = quantizer.stages[0].vectors_of(codes[:, 0])
    assert torch.equal(quantizer.vectors_of(codes[:, 0]), first)
    assert torch.equal(quantizer.vectors_of(codes[:, :1]), first)
    both = first + quantizer.stages[1].vectors_of(codes[:, 1])
    assert torch.allclose(quantizer.vectors_of(codes[:, :2]), both)
    with pytest.raises(ValueError, match="4 stages of codes, 3 of codebooks"):
        quantizer.vectors_of(torch.cat([codes, codes[:, :1]], dim=1))


def test_the_first_stage_is_the_quantizer_without_others():
    """Its codes and what it learns are those of a quantizer of one stage, bit for bit."""
    alone = make(seed=3).stages[0]
    torch.manual_seed(3)
    single = NearestQuantizer(dataclasses.replace(CONFIG, residual_sizes=()), 3)
    several = make(seed=3, distance="euclidean")
    single_euclidean = NearestQuantizer(
        dataclasses.replace(CONFIG, residual_sizes=(), distance="euclidean"), 3
    )
    assert torch.equal(alone.codebook, single.codebook)
    single_euclidean.load_state_dict(several.stages[0].state_dict())
    for step in range(5):
        codes = several(latents(seed=step), step).codes[:, 0]
        assert torch.equal(codes, single_euclidean(latents(seed=step), step).codes)
    assert torch.equal(several.stages[0].codebook, single_euclidean.codebook)


def test_dropped_stages_are_left_out_of_the_vectors():
    """With a share of 1 each training image is decoded from a prefix of its codes."""
    quantizer = make(stage_dropout=1.0)
    quantizer.frozen = True
    z = latents(n=64)
    made = quantizer(z, step=5)
    prefixes = [quantizer.vectors_of(made.codes[:, :kept]) for kept in (1, 2, 3)]
    kept = [
        next(
            k for k, p in enumerate(prefixes, 1) if torch.allclose(p[i], made.vectors[i], atol=1e-5)
        )
        for i in range(64)
    ]
    assert set(kept) == {1, 2}
    assert torch.equal(quantizer(z, step=5).vectors, made.vectors)
    assert not torch.equal(quantizer(z, step=6).vectors, made.vectors)


def test_half_of_the_images_are_complete():
    """With a share of 0.5 about half of the training images keep all stages; at rest all do."""
    quantizer = make(stage_dropout=0.5)
    kept = torch.stack([quantizer._kept_stages(64, step) for step in range(50)])
    assert (kept == 3).float().mean() == pytest.approx(0.5, abs=0.03)
    assert (kept == 1).float().mean() == pytest.approx(0.25, abs=0.03)
    assert (quantizer.eval()._kept_stages(64, 0) == 3).all()


def test_straight_through():
    """The gradient of the sum reaches the latents unchanged (Euclidean)."""
    quantizer = make(distance="euclidean").eval()
    z = latents().requires_grad_()
    weights = torch.randn(2, 4, 5, 7)
    (quantizer(z).vectors * weights).sum().backward()
    assert torch.allclose(z.grad, weights)


def test_commitment_is_the_sum_over_the_stages_that_are_kept():
    """Each stage adds the mean square of what it leaves; a dropped one adds nothing."""
    quantizer = make(distance="euclidean", stage_dropout=0.0)
    quantizer.frozen = True
    z = latents()
    made = quantizer(z)
    lefts = [z - quantizer.vectors_of(made.codes[:, :kept]) for kept in (1, 2, 3)]
    wanted = sum(left.square().mean() for left in lefts)
    assert made.terms["commitment"].item() == pytest.approx(wanted.item(), rel=1e-5)
    z.requires_grad_()
    quantizer(z).terms["commitment"].backward()
    assert z.grad.abs().sum() > 0


def test_all_stages_learn_and_a_frozen_quantizer_does_not():
    """Every codebook moves in training; none when frozen, nor in evaluation mode."""
    quantizer = make()
    before = [book.clone() for book in quantizer.codebooks()]
    quantizer.frozen = True
    quantizer(latents())
    quantizer.eval()
    quantizer.frozen = False
    quantizer(latents())
    assert all(torch.equal(a, b) for a, b in zip(before, quantizer.codebooks(), strict=True))
    quantizer.train()
    quantizer(latents())
    assert not any(torch.equal(a, b) for a, b in zip(before, quantizer.codebooks(), strict=True))


def test_a_frozen_quantizer_that_has_seen_nothing_takes_its_first_latents():
    """Its codebooks would otherwise be random numbers for ever."""
    quantizer = ResidualQuantizer(dataclasses.replace(CONFIG, initialization="kmeans"))
    quantizer.frozen = True
    quantizer(latents(n=8))
    assert all(stage.initialized for stage in quantizer.stages)
