"""Facts about quantization, recomputed in NumPy."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.tokenizer.config import NearestConfig
from training.tokenizer.quantizers import NearestQuantizer, nearest_codes

CONFIG = NearestConfig(size=16, width=4, initialization="random", restart_below=0.0, decay=0.9)


def make(seed=0, **changes):
    """A quantizer in training mode."""
    torch.manual_seed(seed)
    return NearestQuantizer(dataclasses.replace(CONFIG, **changes), seed)


def latents(seed=1, n=2, h=5, w=7, d=4):
    """Random latents `[n, d, h, w]`."""
    return torch.randn(n, d, h, w, generator=torch.Generator().manual_seed(seed))


def flat(z):
    """`[n, d, h, w]` → NumPy `[t, d]`."""
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1]).numpy()


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_nearest_code(distance):
    """Each latent gets the code that NumPy finds nearest, up to one near tie in a thousand."""
    quantizer = make(distance=distance, size=64)
    z = flat(latents(n=8, h=16, w=16))
    book = quantizer.codebook.numpy()
    if distance == "cosine":
        wanted = (z / np.linalg.norm(z, axis=1, keepdims=True) @ book.T).argmax(axis=1)
    else:
        wanted = np.square(z[:, None] - book[None]).sum(axis=2).argmin(axis=1)
    made = nearest_codes(torch.from_numpy(z), quantizer.codebook, distance).numpy()
    assert (made == wanted).mean() >= 0.999


def test_ties_take_the_lowest_code():
    """Of equally near codes the lowest is taken, so that results don't depend on the machine."""
    book = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    z = torch.tensor([[2.0, 0.0]])
    assert nearest_codes(z, book, "cosine").tolist() == [0]
    assert nearest_codes(z, book, "euclidean").tolist() == [0]


@pytest.mark.parametrize("step", [0, 500])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_ema_update(distance, step):
    """The moving averages and the codebook after one step are what NumPy computes."""
    quantizer = make(distance=distance)
    book, counts, sums = (
        t.clone().numpy() for t in (quantizer.codebook, quantizer.counts, quantizer.sums)
    )
    z = latents()
    codes = quantizer(z, step).codes.reshape(-1).numpy()
    rows = flat(z)
    if distance == "cosine":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    decay = min(0.9, (1 + step) / (10 + step))
    for code in range(16):
        mine = rows[codes == code]
        counts[code] = decay * counts[code] + (1 - decay) * len(mine)
        sums[code] = decay * sums[code] + (1 - decay) * mine.sum(axis=0)
        book[code] = sums[code] / counts[code]
    if distance == "cosine":
        book /= np.linalg.norm(book, axis=1, keepdims=True)
    assert np.allclose(quantizer.counts.numpy(), counts, atol=1e-5)
    assert np.allclose(quantizer.codebook.numpy(), book, atol=1e-5)


def test_codebook_moves_only_in_training():
    """The codebook moves in training mode, and never in evaluation mode or without gradients."""
    quantizer = make(restart_below=0.5)
    before = quantizer.codebook.clone()
    quantizer.eval()
    quantizer(latents())
    assert torch.equal(quantizer.codebook, before)
    quantizer.train()
    with torch.no_grad():
        quantizer(latents())
    assert torch.equal(quantizer.codebook, before)
    quantizer(latents())
    assert not torch.equal(quantizer.codebook, before)


def test_straight_through():
    """The gradient of the vectors reaches the latents unchanged (Euclidean)."""
    quantizer = make(distance="euclidean").eval()
    z = latents().requires_grad_()
    weights = torch.randn(2, 4, 5, 7)
    (quantizer(z).vectors * weights).sum().backward()
    assert torch.allclose(z.grad, weights)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_vectors_are_the_codes_vectors(distance):
    """What the decoder sees in training is what it will see from the codes alone."""
    quantizer = make(distance=distance).eval()
    made = quantizer(latents())
    assert torch.allclose(made.vectors, quantizer.vectors_of(made.codes), atol=1e-6)


def test_commitment_moves_the_latents_and_codebook_loss_the_codes():
    """The commitment term has a gradient for the latents alone, the codebook term for the codes."""
    quantizer = make(kind="gradient", distance="euclidean")
    z = latents().requires_grad_()
    quantizer(z).terms["commitment"].backward()
    assert z.grad.abs().sum() > 0
    assert quantizer.codebook.grad is None
    z.grad = None
    quantizer(z).terms["codebook"].backward()
    assert z.grad is None
    assert quantizer.codebook.grad.abs().sum() > 0


def test_loss_values():
    """Both terms are the mean square of latent minus code vector."""
    quantizer = make(kind="gradient", distance="euclidean")
    z = latents()
    made = quantizer(z)
    wanted = np.square(flat(z) - quantizer.codebook.detach().numpy()[made.codes.reshape(-1)]).mean()
    assert made.terms["commitment"].item() == pytest.approx(wanted, rel=1e-5)
    assert made.terms["codebook"].item() == pytest.approx(wanted, rel=1e-5)


def test_gradient_codebook_learns():
    """With the codebook loss alone, gradient descent brings codes to the latents."""
    quantizer = make(kind="gradient", distance="euclidean")
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=5.0)
    z = latents(n=4)
    first = quantizer(z).terms["codebook"].item()
    for _ in range(50):
        optimizer.zero_grad()
        quantizer(z).terms["codebook"].backward()
        optimizer.step()
    assert quantizer(z).terms["codebook"].item() < 0.7 * first


def test_dead_codes_are_restarted():
    """A code that no latent chooses moves onto a latent; with 0 it never does."""
    z = latents(n=4) + 5  # all of them far to one side
    for restart, revived in ((0.2, True), (0.0, False)):
        quantizer = make(distance="euclidean", restart_below=restart)
        quantizer.codebook[7] = -100.0
        quantizer.counts[7], quantizer.sums[7] = 1.0, torch.full((4,), -100.0)
        for step in range(60):
            quantizer(z.requires_grad_(), step)
        assert (quantizer.codebook[7].min() > -50) == revived


def test_kmeans_initialization():
    """k-means on the first batch puts the codes where the latents are."""
    centres = torch.tensor([[3.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 3.0]])
    noise = 0.01 * torch.randn(64, 4, generator=torch.Generator().manual_seed(2))
    z = (centres.repeat(16, 1) + noise).reshape(1, 8, 8, 4).permute(0, 3, 1, 2)
    quantizer = make(distance="euclidean", size=4, initialization="kmeans")
    made = quantizer(z)
    assert made.terms["commitment"] < 0.01
    assert quantizer.initialized


def test_fewer_latents_than_codes():
    """A first batch with fewer latents than codes initialises all codes nevertheless."""
    quantizer = make(size=64, initialization="kmeans")
    quantizer(latents(n=1, h=2, w=3))
    assert torch.isfinite(quantizer.codebook).all()


def test_wrong_width_is_refused():
    """Latents of another width are refused with both numbers."""
    with pytest.raises(ValueError, match="3 channels, the codebook 4"):
        make()(latents(d=3))


def test_float32_under_autocast():
    """Under autocast the quantizer still computes in float32: the codes are those without it."""
    quantizer = make(size=256).eval()
    z = latents(n=8, h=16, w=16)
    with torch.autocast("cpu", torch.bfloat16):
        made = quantizer(z)
    assert made.vectors.dtype == torch.float32
    assert torch.equal(made.codes, quantizer(z).codes)


def test_cosine_codes_stay_on_the_sphere():
    """Cosine code vectors have unit length, also after learning and restarts."""
    quantizer = make(restart_below=0.3, initialization="kmeans")
    for step in range(20):
        quantizer(latents(seed=step), step)
    assert torch.allclose(quantizer.codebook.norm(dim=1), torch.ones(16), atol=1e-5)
    assert torch.allclose(F.normalize(quantizer.codebook), quantizer.normalized_codebook())


def test_a_trained_codebook_is_slow_from_the_first_step():
    """Its averages don't forget it in the early steps, as those of a new codebook do."""
    z = latents(n=8, h=16, w=16)
    trained = torch.randn(16, 4, generator=torch.Generator().manual_seed(5))
    moved = {}
    for settled in (True, False):
        quantizer = make(distance="euclidean", decay=0.99)
        quantizer.start_from([trained])
        quantizer.settled.fill_(settled)
        quantizer.counts.fill_(128.0)
        quantizer.sums.copy_(128.0 * trained)
        quantizer(z, 0)
        moved[settled] = (quantizer.codebook - trained).norm()
    assert moved[True] < 0.05 * moved[False]


def test_a_codebook_of_another_shape_is_refused():
    """With both shapes."""
    with pytest.raises(ValueError, match=r"\[8, 4\] numbers can't start one of \[16, 4\]"):
        make().start_from([torch.zeros(8, 4)])


def test_state_from_before_a_codebook_could_be_settled():
    """It loads, as that of a codebook that isn't."""
    quantizer = make()
    state = quantizer.state_dict()
    del state["settled"]
    quantizer.settled.fill_(True)
    quantizer.load_state_dict(state)
    assert not quantizer.settled
