"""Facts that hold for every quantizer, and what each member's codes are, recomputed in NumPy."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from training.tokenizer.config import (
    BinaryConfig,
    FSQConfig,
    NearestConfig,
    NoQuantizerConfig,
    ProductConfig,
    SimVQConfig,
)
from training.tokenizer.quantizers import NoQuantizer, quantizer_of
from training.tokenizer.quantizers.entropy import entropy_penalty
from training.tokenizer.quantizers.protocol import choices, codes_of_choices

MEMBERS = {
    "ema": NearestConfig(size=24, width=4, restart_below=0.2),
    "gradient": NearestConfig(kind="gradient", size=24, width=4, distance="euclidean"),
    "residual": NearestConfig(size=16, width=4, residual_sizes=(8,)),
    "simvq": SimVQConfig(size=24, width=4),
    "fsq": FSQConfig(levels=(5, 4, 3, 8)),
    "lfq": BinaryConfig(kind="lfq", bits=4),
    "bsq": BinaryConfig(kind="bsq", bits=4),
    "product": ProductConfig(sizes=(6, 5), width=4, restart_below=0.2),
    "product, cosine": ProductConfig(sizes=(6, 5), width=4, distance="cosine"),
}
members = pytest.mark.parametrize("member", MEMBERS)


def make(member, seed=0):
    """A quantizer in training mode that has seen latents."""
    torch.manual_seed(seed)
    quantizer = quantizer_of(MEMBERS[member], seed)
    quantizer(latents(seed=9))
    return quantizer


def latents(seed=1, n=2, d=4, h=5, w=7):
    """Random latents `[n, d, h, w]`."""
    return torch.randn(n, d, h, w, generator=torch.Generator().manual_seed(seed))


def rows(z):
    """`[n, d, h, w]` → NumPy float64 `[t, d]`."""
    return z.detach().permute(0, 2, 3, 1).reshape(-1, z.shape[1]).double().numpy()


def state(quantizer):
    """A copy of everything that a checkpoint keeps."""
    return {name: value.clone() for name, value in quantizer.state_dict().items()}


def nearest(z, book):
    """The nearest row of each latent."""
    return np.square(z[:, None] - book[None]).sum(axis=2).argmin(axis=1)


def unit(z):
    """Rows of unit length."""
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_simvq_takes_the_nearest_row_of_the_product():
    """Codes and vectors are of C·W, Euclidean."""
    quantizer = make("simvq").eval()
    book = (quantizer.frozen_codebook @ quantizer.layer).detach().double().numpy()
    made = quantizer(latents())
    wanted = nearest(rows(latents()), book)
    assert np.array_equal(made.codes.reshape(-1).numpy(), wanted)
    assert np.allclose(rows(made.vectors), book[wanted], atol=1e-5)


def test_simvq_learns_the_layer_alone():
    """A step of gradient descent moves all code vectors, and never the frozen codebook."""
    quantizer = make("simvq")
    frozen, before = quantizer.frozen_codebook.clone(), quantizer.codebooks()[0].clone()
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=1.0)
    first = quantizer(latents()).terms["codebook"]
    first.backward()
    optimizer.step()
    assert torch.equal(quantizer.frozen_codebook, frozen)
    assert (quantizer.codebooks()[0] - before).abs().amax(dim=1).min() > 0
    assert quantizer(latents()).terms["codebook"] < first


def test_fsq_rounds_each_dimension():
    """Levels and codes are the paper's: ⌊L/2⌋ levels below zero, the first dimension fastest."""
    quantizer = make("fsq").eval()
    levels = np.array([5, 4, 3, 8])
    reach, offset = (levels - 1) * 1.001 / 2, np.where(levels % 2 == 0, 0.5, 0.0)
    z = 3 * latents()
    bounded = np.tanh(rows(z) + np.arctanh(offset / reach)) * reach - offset
    numbers = (np.round(bounded) + levels // 2).astype(int)
    made = quantizer(z)
    assert np.array_equal(made.codes.reshape(-1).numpy(), numbers @ np.array([1, 5, 20, 60]))
    wanted = (numbers - levels // 2) / (levels // 2)
    assert np.allclose(rows(made.vectors), wanted, atol=1e-6)
    assert made.vectors.min() == -1.0
    assert (numbers.min(axis=0) == 0).all()
    assert (numbers.max(axis=0) == levels - 1).all()
    assert made.terms == {}


@pytest.mark.parametrize("member", ["lfq", "bsq"])
def test_binary_codes_are_signs(member):
    """Bit i of the code says whether dimension i is positive; zero is not."""
    quantizer = make(member).eval()
    z = latents()
    z[0, :, 0, 0] = 0
    bits = rows(z) > 0
    made = quantizer(z)
    assert np.array_equal(made.codes.reshape(-1).numpy(), bits @ (1 << np.arange(4)))
    value = 1.0 if member == "lfq" else 0.5
    assert np.allclose(rows(made.vectors), np.where(bits, value, -value), atol=1e-6)
    points = rows(z) if member == "lfq" else rows(F.normalize(z, dim=1))
    error = np.square(points - np.where(bits, value, -value)).mean()
    assert made.terms["commitment"].item() == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("member", ["product", "product, cosine"])
def test_product_codes_are_of_the_parts(member):
    """Each half of a latent gets the nearest vector of its codebook; the first counts fastest."""
    quantizer = make(member).eval()
    (table,) = quantizer.codebooks()
    books = table[:6].double().numpy(), table[6:].double().numpy()
    halves = rows(latents())[:, :2], rows(latents())[:, 2:]
    if member == "product, cosine":
        halves = tuple(unit(half) for half in halves)
    first, second = (nearest(z, book) for z, book in zip(halves, books, strict=True))
    made = quantizer(latents())
    assert np.array_equal(made.codes.reshape(-1).numpy(), first + 6 * second)
    vectors = np.concatenate([books[0][first], books[1][second]], axis=1)
    assert np.allclose(rows(made.vectors), vectors, atol=1e-5)


def test_no_quantizer_passes_latents_through():
    """A plain autoencoder has no codes, no sizes and no terms."""
    quantizer = quantizer_of(NoQuantizerConfig(width=4), 0)
    assert isinstance(quantizer, NoQuantizer)
    made = quantizer(latents())
    assert torch.equal(made.vectors, latents())
    assert (made.terms, quantizer.sizes, quantizer.codebooks()) == ({}, (), ())
    for asked in (quantizer.assignment, lambda: quantizer.vectors_of(made.codes)):
        with pytest.raises(ValueError, match="has no codes"):
            asked()


@members
def test_codes_are_in_range_and_have_the_vectors_that_training_saw(member):
    """Each stage within its size; `vectors_of` is what the decoder was trained with."""
    quantizer = make(member).eval()
    made = quantizer(latents())
    stages = made.codes.unbind(1) if made.codes.ndim == 4 else (made.codes,)
    assert len(stages) == len(quantizer.sizes)
    for codes, size in zip(stages, quantizer.sizes, strict=True):
        assert codes.dtype == torch.int64
        assert 0 <= codes.min() <= codes.max() < size
    assert torch.allclose(quantizer.vectors_of(made.codes), made.vectors, atol=1e-5)
    assert made.vectors.shape == latents().shape


@members
def test_the_graphs_assignment_gives_the_codes_of_training(member):
    """What is exported chooses as the quantizer does."""
    quantizer = make(member).eval()
    assert torch.equal(quantizer.assignment()(latents()), quantizer(latents()).codes)


@pytest.mark.parametrize("member", [m for m in MEMBERS if m != "residual"])
def test_codes_to_vectors_to_codes_is_the_identity(member):
    """Every code's vector has that code.

    Not of several stages, where a sum may lie nearer to another first stage's vector.
    """
    quantizer = make(member).eval()
    size = quantizer.sizes[0]
    codes = torch.arange(size).reshape(1, 1, size)
    vectors = quantizer.vectors_of(codes)
    assert torch.equal(vectors[0, :, 0].T, quantizer.normalized_codebook())
    if member == "fsq":  # whose latents are bounded on their way to the vectors
        middle, reach, offset, shift = (
            getattr(quantizer, name).reshape(1, -1, 1, 1)
            for name in ("middle", "reach", "offset", "shift")
        )
        vectors = torch.atanh((vectors * middle + offset) / reach) - shift
    assert torch.equal(quantizer(vectors).codes, codes)


@members
def test_gradients_reach_the_latents(member):
    """Of the vectors, and of every term that isn't there for the codebook alone."""
    quantizer = make(member)
    z = latents().requires_grad_()
    made = quantizer(z)
    (gradient,) = torch.autograd.grad(
        (made.vectors * torch.randn(z.shape)).sum(), z, retain_graph=True
    )
    assert gradient.isfinite().all()
    assert (gradient != 0).any(dim=1).all()  # at each place of the grid
    for name, term in made.terms.items():
        if name != "codebook":
            (gradient,) = torch.autograd.grad(term, z, retain_graph=True)
            assert gradient.abs().sum() > 0, name


@members
def test_nothing_moves_in_evaluation_mode_or_frozen(member):
    """Nor without gradients; in training mode, what learns by itself does move."""
    quantizer = make(member)
    before = state(quantizer)
    quantizer.eval()
    quantizer(latents())
    quantizer.train()
    with torch.no_grad():
        quantizer(latents())
    quantizer.frozen = True
    quantizer(latents())
    now = state(quantizer)
    assert all(torch.equal(before[name], now[name]) for name in before)
    quantizer.frozen = False
    quantizer(latents())
    moved = any(not torch.equal(before[n], v) for n, v in state(quantizer).items())
    assert moved == (member in ("ema", "gradient", "residual", "product", "product, cosine"))


def run(quantizer, first, last):
    """Steps of training on random latents, with gradient descent on what has parameters."""
    parameters = list(quantizer.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.1) if parameters else None
    for step in range(first, last):
        terms = quantizer(latents(seed=step).requires_grad_(), step).terms
        if optimizer is not None:
            optimizer.zero_grad()
            sum(terms.values()).backward()
            optimizer.step()


@members
def test_resuming_is_exact(member):
    """Ten steps are, bit for bit, five and then five of a quantizer with the state of the first."""
    whole, before = make(member), make(member)
    run(whole, 0, 10)
    run(before, 0, 5)
    resumed = make(member, seed=0)
    resumed.load_state_dict(before.state_dict())
    run(resumed, 5, 10)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@members
def test_a_trained_quantizer_can_be_gone_on_from(member):
    """A new one of the same settings that starts from its codebooks gives the same codes."""
    trained = make(member).eval()
    torch.manual_seed(7)
    new = quantizer_of(MEMBERS[member], 7)
    assert new.start_from([book.detach().clone() for book in trained.codebooks()]) == []
    new.eval()
    assert torch.equal(new(latents()).codes, trained(latents()).codes)
    with pytest.raises(ValueError, match=r"others|can't start"):
        new.start_from([torch.zeros(3, 1)])


@members
def test_float32_under_autocast(member):
    """Under autocast the codes are those without it."""
    quantizer = make(member).eval()
    z = latents(n=8)
    with torch.autocast("cpu", torch.bfloat16):
        made = quantizer(z)
    assert made.vectors.dtype == torch.float32
    assert torch.equal(made.codes, quantizer(z).codes)


@members
def test_latents_of_another_width_are_refused(member):
    """Not cut, and not broadcast."""
    with pytest.raises(ValueError, match=r"channels"):
        make(member)(latents(d=3))


_TWO = """
import sys, torch
from training.tokenizer.config_file import from_dict
from training.tokenizer.quantizers import quantizer_of
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
)
found = {}
for member, values in torch.load(f"{folder}/members.pt").items():
    torch.manual_seed(0)
    quantizer = quantizer_of(from_dict({"name": "x", "quantizer": values}).quantizer, 0)
    for step, latents in enumerate(torch.load(f"{folder}/latents.pt")):
        z = latents.chunk(2)[rank].requires_grad_()
        made = quantizer(z, step)
        loss = sum(made.terms.values(), made.vectors.square().mean())
        loss.backward()
    found[member] = (made.codes, z.grad / 2, quantizer.state_dict())
torch.save(found, f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.mark.timeout(300)
def test_two_processes_do_what_one_does(tmp_path):
    """Each with half of the batch: the same codes, gradients and learnt codebooks."""
    batches = torch.randn(3, 4, 4, 5, 7, generator=torch.Generator().manual_seed(1))
    torch.save(batches, tmp_path / "latents.pt")
    torch.save({m: dataclasses.asdict(c) for m, c in MEMBERS.items()}, tmp_path / "members.pt")
    started = [
        subprocess.Popen([sys.executable, "-c", _TWO, str(rank), str(tmp_path)]) for rank in (0, 1)
    ]
    assert [process.wait(250) for process in started] == [0, 0]
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for member, config in MEMBERS.items():
        torch.manual_seed(0)
        alone = quantizer_of(config, 0)
        for step, batch in enumerate(batches):
            z = batch.clone().requires_grad_()
            made = alone(z, step)
            sum(made.terms.values(), made.vectors.square().mean()).backward()
        codes, gradients = (torch.cat([half[member][i] for half in halves]) for i in (0, 1))
        assert torch.equal(codes, made.codes), member
        torch.testing.assert_close(gradients, z.grad, msg=member)
        for half in halves:
            for name, value in alone.state_dict().items():
                torch.testing.assert_close(half[member][2][name], value, msg=f"{member} {name}")


def test_the_entropy_penalty_is_that_of_all_codes():
    """Over the table of all 2^d codes: exact for one latent; of a batch, its bits' sum."""
    logits = 2 * torch.randn(40, 5, generator=torch.Generator().manual_seed(3))
    sure = torch.sigmoid(logits).double().numpy()
    bits = (np.arange(32)[:, None] >> np.arange(5)) & 1
    table = np.where(bits, sure[:, None], 1 - sure[:, None]).prod(axis=2)
    each = -(table * np.log(table)).sum(axis=1).mean()
    assert entropy_penalty(logits, 0.0).item() == pytest.approx(each, rel=1e-5)
    share = sure.mean(axis=0)
    even = -(share * np.log(share) + (1 - share) * np.log(1 - share)).sum()
    assert entropy_penalty(logits, 0.7).item() == pytest.approx(each - 0.7 * even, rel=1e-5)
    mean = table.mean(axis=0)
    assert -(mean * np.log(mean)).sum() <= even  # an upper bound, as the paper says


def test_the_entropy_penalty_makes_bits_sure_and_even():
    """Descending it, all bits leave the border, and a batch that was all 1 has both values."""
    points = (0.3 + 0.2 * torch.randn(256, 6, generator=torch.Generator().manual_seed(4))).clone()
    points.requires_grad_()
    optimizer = torch.optim.Adam([points], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        entropy_penalty(4 * points, 1.0).backward()
        optimizer.step()
    assert points.abs().mean() > 1
    assert (points > 0).float().mean().item() == pytest.approx(0.5, abs=0.1)


factors = st.lists(st.integers(2, 9), min_size=1, max_size=6).map(tuple)


@given(factors=factors, data=st.data())
def test_codes_and_choices_are_the_same_thing(factors, data):
    """Any code of any factors is a choice of each, and back."""
    total = math.prod(factors)
    codes = torch.tensor(data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=20)))
    chosen = choices(codes, factors)
    assert (chosen >= 0).all()
    assert (chosen < torch.tensor(factors)).all()
    assert torch.equal(codes_of_choices(chosen, factors), codes)


configs = st.one_of(
    st.lists(st.integers(3, 9), min_size=1, max_size=5).map(
        lambda levels: FSQConfig(levels=tuple(levels))
    ),
    st.builds(BinaryConfig, kind=st.sampled_from(["lfq", "bsq"]), bits=st.integers(1, 16)),
    st.builds(
        NearestConfig,
        size=st.integers(2, 40),
        width=st.integers(1, 6),
        distance=st.sampled_from(["cosine", "euclidean"]),
        residual_sizes=st.lists(st.integers(2, 9), max_size=2).map(tuple),
    ),
    st.builds(SimVQConfig, size=st.integers(2, 40), width=st.integers(1, 6)),
    st.lists(st.integers(2, 9), min_size=2, max_size=4).flatmap(
        lambda sizes: st.builds(
            ProductConfig,
            sizes=st.just(tuple(sizes)),
            width=st.integers(1, 3).map(lambda part: part * len(sizes)),
        )
    ),
)


@settings(max_examples=40, deadline=None)
@given(config=configs, seed=st.integers(0, 1000), height=st.integers(1, 4))
def test_any_configuration(config, seed, height):
    """Of any settings and grid: codes in range, graph and training agree, vectors come back."""
    torch.manual_seed(seed)
    quantizer = quantizer_of(config, seed)
    z = latents(seed, n=2, d=config.width, h=height, w=3)
    quantizer(z.clone().requires_grad_())
    quantizer.eval()
    made = quantizer(z)
    assert quantizer.sizes == config.stages
    stages = made.codes.unbind(1) if len(config.stages) > 1 else (made.codes,)
    for codes, size in zip(stages, config.stages, strict=True):
        assert 0 <= codes.min() <= codes.max() < size
    # Their vectors, since a codebook that began with copies of few latents has equally near codes.
    for codes in (made.codes, quantizer.assignment()(z)):
        assert torch.allclose(quantizer.vectors_of(codes), made.vectors, atol=1e-4)
    assert set(made.terms) == set(config.term_weights)
