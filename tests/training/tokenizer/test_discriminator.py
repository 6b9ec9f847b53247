"""The adversarial term: losses, balance, and what happens when it collapses."""

import io

import pytest
import torch
from torch import Tensor, nn

from training.perceptual.features import FrozenFeatures
from training.tokenizer.discriminator import (
    Adversary,
    CollapseWatch,
    DiscriminatorCollapsed,
    FeatureDiscriminator,
    PatchDiscriminator,
    accuracy,
    backward_balanced,
    hinge_loss,
)

CPU = torch.device("cpu")


def _photographs(seed: int) -> Tensor:
    """Smooth random pictures `[4, 3, 48, 48]` with fine grain."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(4, 3, 6, 6, generator=generator) * 2 - 1
    smooth = nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")
    return (smooth + 0.2 * torch.randn(4, 3, 48, 48, generator=generator)).clamp(-1, 1)


def _blurred(images: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(images, 5, stride=1, padding=2)


def test_hinge_loss():
    """Half of each side's mean, no more to gain beyond a margin of 1."""
    real, made = [torch.tensor([2.0, 0.5])], [torch.tensor([-3.0, 0.0])]
    assert float(hinge_loss(real, made)) == pytest.approx(((0 + 0.5) / 2 + (0 + 1) / 2) / 2)


def test_accuracy_counts_signs():
    """A logit of 0 is right for neither side."""
    assert accuracy([torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, -2.0])]) == 0.75


def test_balanced_terms_pull_equally():
    """Weighted by 0.5, the adversarial gradient is half as long as that of the reconstruction."""
    made = torch.tensor([1.0, -2.0], requires_grad=True)
    pull, other = torch.tensor([3.0, 3.0]), torch.tensor([0.1, 0.2])
    backward_balanced((made * pull).sum(), torch.zeros(()), (made * other).sum(), made, 0.5)
    assert torch.allclose(made.grad, pull + 0.5 * other * pull.norm() / other.norm())


def test_what_is_beside_the_reconstruction_keeps_its_gradient():
    """A commitment reaches the weights as it would without an adversarial term."""
    weight = torch.tensor([2.0], requires_grad=True)
    made, beside = 3 * weight, 5 * weight.sum()
    backward_balanced(made.sum() + beside, beside, (0 * made).sum(), made, 1.0)
    assert weight.grad == 3 + 5


def test_patch_discriminator_sees_34_pixels():
    """A logit's gradient reaches 34×34 pixels."""
    images = torch.zeros(1, 3, 96, 96, requires_grad=True)
    torch.manual_seed(0)
    (logits,) = PatchDiscriminator(width=8)(images + 0.1 * torch.randn(1, 3, 96, 96))
    logits[0, 0, 10, 10].backward()
    assert images.grad is not None
    rows = images.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == 34


@pytest.fixture(params=["pixels", "features"])
def discriminator(request) -> nn.Module:
    torch.manual_seed(0)
    if request.param == "pixels":
        return PatchDiscriminator(width=16)
    return FeatureDiscriminator(FrozenFeatures("lite0", bf16=False), width=16)


def test_it_learns_and_teaches(discriminator):
    """It learns to tell grain from blur; then its term's gradient asks for a sharper picture."""
    adversary = Adversary(discriminator, CPU, learning_rate=2e-3, lecam=0.01, warmup=30, bf16=False)
    figures = {}
    for seed in range(30):
        figures = adversary.learn(_blurred(_photographs(seed)), _photographs(seed))
    assert figures["discriminator/accuracy"] > 0.9
    assert figures["discriminator/loss"] < 0.7
    made = _blurred(_photographs(100)).requires_grad_()
    adversary.loss(made).backward()
    assert made.grad is not None
    better = made.detach() - 0.02 * made.grad / made.grad.abs().max()
    assert float(adversary.loss(better)) < float(adversary.loss(made.detach()))
    assert float(adversary.loss(_photographs(100))) < float(adversary.loss(made.detach()))


def test_the_tokenizers_term_leaves_the_discriminator_alone(discriminator):
    """Its backward pass gives the discriminator no gradient, and the forward pass changes nothing.

    Otherwise spectral normalisation would move on at every look.
    """
    adversary = Adversary(discriminator, CPU, warmup=0, bf16=False)
    before = {key: value.clone() for key, value in discriminator.state_dict().items()}
    adversary.loss(_photographs(0).requires_grad_()).backward()
    assert all(p.grad is None for p in discriminator.parameters())
    for key, value in discriminator.state_dict().items():
        assert torch.equal(value, before[key])


def test_the_term_is_zero_until_the_discriminator_has_learnt():
    """So many steps it learns alone, and the gradient is that of the other terms."""
    adversary = Adversary(PatchDiscriminator(width=8), CPU, warmup=2, patience=1, bf16=False)
    made = _blurred(_photographs(0)).requires_grad_()
    for _ in range(2):
        adversarial = adversary.loss(made)
        made.grad = None
        backward_balanced(made.square().sum(), torch.zeros(()), adversarial, made, 1.0)
        assert torch.equal(made.grad, 2 * made.detach())
        adversary.learn(made, _photographs(0))
    assert adversary.loss(made).item() != 0


def test_its_step_leaves_the_tokenizer_alone(discriminator):
    """Learning sends no gradient into what made the pictures."""
    made = _photographs(0).requires_grad_()
    Adversary(discriminator, CPU, bf16=False).learn(made, _photographs(1))
    assert made.grad is None


def test_frozen_features_are_not_part_of_its_state():
    """A checkpoint holds the heads alone, and no optimizer reaches the frozen network."""
    heads = FeatureDiscriminator(FrozenFeatures("lite0"), width=16)
    assert all(key.startswith("heads.") for key in heads.state_dict())
    assert len(list(heads.parameters())) == len(heads.heads) * 6


def test_the_frozen_network_is_told():
    """A trainer records it; a discriminator on pixels has none."""
    heads = FeatureDiscriminator(FrozenFeatures("lite0"), width=16)
    assert [n["name"] for n in Adversary(heads, CPU).networks] == ["lite0"]
    assert Adversary(PatchDiscriminator(width=8), CPU).networks == []


def test_it_goes_on_from_its_state():
    """Two that share a checkpoint take the very same next step."""

    def fresh() -> Adversary:
        return Adversary(PatchDiscriminator(width=8), CPU, lecam=0.1, bf16=False)

    first, second = fresh(), fresh()
    first.learn(_blurred(_photographs(0)), _photographs(0))
    kept = io.BytesIO()
    torch.save(first.state_dict(), kept)
    kept.seek(0)
    second.load_state_dict(torch.load(kept))
    batches = _blurred(_photographs(1)), _photographs(1)
    assert first.learn(*batches) == second.learn(*batches)
    assert first.learn(*batches) == second.learn(*batches)


@pytest.mark.parametrize("share", [0.99, 0.3])
def test_collapse_is_told_after_so_many_steps(share):
    """Too good or too bad for the whole of its patience is a collapse; a pause begins anew."""
    watch = CollapseWatch(patience=3)
    watch.look(0.1, share)
    watch.look(0.1, share)
    watch.look(0.1, 0.7)
    watch.look(0.1, share)
    watch.look(0.1, share)
    with pytest.raises(DiscriminatorCollapsed, match=f"for 3 steps .* at last {share:.3f}"):
        watch.look(0.1, share)


def test_a_loss_that_is_no_number_stops_at_once():
    """NaN in what was made raises before any weight of the discriminator changes."""
    network = PatchDiscriminator(width=8)
    adversary = Adversary(network, CPU, bf16=False)
    before = {key: value.clone() for key, value in network.named_parameters()}
    with pytest.raises(DiscriminatorCollapsed, match="loss became nan"):
        adversary.learn(torch.full((4, 3, 48, 48), torch.nan), _photographs(0))
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())


def test_heads_on_a_file_are_refused(tmp_path):
    """A frozen network of the user's doesn't tell its channels: an error that says what would."""
    features = FrozenFeatures("lite0")
    features.widths = None
    with pytest.raises(ValueError, match="needs lite0 or vgg16"):
        FeatureDiscriminator(features)
