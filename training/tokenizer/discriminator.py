"""The adversarial term: a discriminator tells photographs from reconstructions, place by place.

A trainer makes one `Adversary` and, in every step after the one at which the term begins:

    backward_balanced(loss, commitment, adversary.loss(made), made, weight)
    figures = adversary.learn(made, pixels)    # one step of the discriminator; log its figures
    optimizer.step()                           # of the tokenizer

At first the discriminator knows nothing, and the balance would give its random gradient as much
weight as everything else: measured, the reconstruction was more than twice as bad after 60 steps.
So the term is zero until the discriminator has learnt for `warmup` steps.

`Adversary.state_dict` goes into the checkpoint. Images are float `[n, 3, h, w]` in [−1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from training.perceptual.features import FrozenFeatures

# Of the adversarial term, where its gradient all but vanishes.
_LARGEST_FACTOR = 1e3


class DiscriminatorCollapsed(ArithmeticError):
    """The discriminator has won or given up for too long: the term no longer teaches anything."""


class PatchDiscriminator(nn.Module):
    """A PatchGAN on pixels (Isola et al. 2017, arXiv:1611.07004) with spectral normalisation.

    Each logit sees 34×34 pixels: several codes of an f8 tokenizer, so that seams between them
    are seen, and too little to judge what is depicted.

    Args:
        width: channels of the first convolution; the following have twice and four times as many.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            spectral_norm(nn.Conv2d(3, width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(2 * width, 4 * width, 4, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(4 * width, 1, 4, padding=1)),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """`[n, 3, h, w]` in [−1, 1] → one map of logits, positive where it looks real."""
        return [self.layers(images)]


class FeatureDiscriminator(nn.Module):
    """One small head on each feature map of a frozen network.

    As in Projected GANs (Sauer et al. 2021, arXiv:2111.01007), without their random mixing of
    features.

    Args:
        features: the frozen network; no part of this module's state.
        width: channels inside each head.

    Attributes:
        facts: of the frozen network, for the manifest and the model card.

    Raises:
        ValueError: the frozen network is a file, which doesn't tell its features' channels.
    """

    def __init__(self, features: FrozenFeatures, width: int = 64) -> None:
        super().__init__()
        if features.widths is None:
            raise ValueError("a discriminator on frozen features needs lite0 or vgg16")
        self.facts = features.facts
        # In a tuple: its weights are neither learnt nor saved with this module's.
        self._features = (features,)
        self.heads = nn.ModuleList(
            [
                nn.Sequential(
                    spectral_norm(nn.Conv2d(channels, width, 1)),
                    nn.LeakyReLU(0.2),
                    spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
                    nn.LeakyReLU(0.2),
                    spectral_norm(nn.Conv2d(width, 1, 1)),
                )
                for channels in features.widths
            ]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """`[n, 3, h, w]` in [−1, 1] → a map of logits for each feature map, positive for real."""
        found = self._features[0].features(images)
        # Features of unit length over c channels are of size 1/√c each.
        return [head(x * math.sqrt(x.shape[1])) for head, x in zip(self.heads, found, strict=True)]


class Adversary:
    """A discriminator with its optimizer, its regularisation and the watch for a collapse.

    Args:
        discriminator: images → maps of logits.
        device: to run on.
        learning_rate: of AdamW with betas (0.5, 0.9).
        lecam: weight of the LeCam regularisation (Tseng et al. 2021, arXiv:2104.03310), which
            holds back a discriminator that is too sure of itself on little data; 0 leaves it out.
        warmup: steps for which the discriminator learns alone: `loss` is zero until then.
        patience: steps in a row, counted from the end of the warm-up, after which an accuracy
            above 0.98 or below 0.4 is a collapse.
        bf16: run the discriminator under bfloat16 autocast.

    Attributes:
        networks: facts about the frozen network that the discriminator looks through, if any.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        device: torch.device,
        *,
        learning_rate: float = 2e-4,
        lecam: float = 0.0,
        warmup: int = 500,
        patience: int = 500,
        bf16: bool = True,
    ) -> None:
        self.discriminator = discriminator.to(device)
        self.networks: list[dict[str, str]] = []
        if isinstance(discriminator, FeatureDiscriminator):
            self.networks.append(discriminator.facts)
        self._optimizer = torch.optim.AdamW(
            discriminator.parameters(), lr=learning_rate, betas=(0.5, 0.9), weight_decay=0.0
        )
        self._device, self._bf16, self._lecam = device, bf16, lecam
        self._means = {"real": 0.0, "made": 0.0}
        self._warmup, self._steps = warmup, 0
        self._watch = CollapseWatch(patience)

    def loss(self, made: Tensor) -> Tensor:
        """The term for the tokenizer: minus the mean logit of its reconstructions.

        Zero, with a graph, until the warm-up is over. The discriminator's own parameters receive
        no gradient from it.

        Args:
            made: reconstructions, with their graph.
        """
        if self._steps < self._warmup:
            return made.sum() * 0
        self.discriminator.eval().requires_grad_(requires_grad=False)
        return -_mean(self._judge(made))

    def learn(self, made: Tensor, pixels: Tensor) -> dict[str, float]:
        """One step of the discriminator by the hinge loss.

        Args:
            made: reconstructions; their graph is not touched.
            pixels: the photographs that they are of.

        Returns:
            `discriminator/loss`, and `discriminator/accuracy`: the share of places judged rightly.

        Raises:
            DiscriminatorCollapsed: its loss is no number, or it has been all right or mostly
                wrong for too long; its weights are as before this step.
        """
        self.discriminator.train().requires_grad_(requires_grad=True)
        both = self._judge(torch.cat([pixels.detach(), made.detach()]))
        real, fake = [x[: len(pixels)] for x in both], [x[len(pixels) :] for x in both]
        hinge = hinge_loss(real, fake)
        loss = hinge
        if self._lecam > 0:
            loss = loss + self._lecam * self._lecam_term(real, fake)
        figures = {
            "discriminator/loss": float(hinge.detach()),
            "discriminator/accuracy": accuracy(real, fake),
        }
        if self._steps >= self._warmup or not math.isfinite(figures["discriminator/loss"]):
            self._watch.look(figures["discriminator/loss"], figures["discriminator/accuracy"])
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._steps += 1
        return figures

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "means": dict(self._means),
            "steps": self._steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what a checkpoint kept."""
        self.discriminator.load_state_dict(state["discriminator"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._means, self._steps = dict(state["means"]), state["steps"]

    def _judge(self, images: Tensor) -> list[Tensor]:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            logits: list[Tensor] = self.discriminator(images)
        return [x.float() for x in logits]

    def _lecam_term(self, real: list[Tensor], fake: list[Tensor]) -> Tensor:
        """Squared distance of each side's logits from the moving mean of the other side's."""
        for name, logits in (("real", real), ("made", fake)):
            self._means[name] = 0.99 * self._means[name] + 0.01 * float(_mean(logits).detach())
        towards_made = [F.relu(x - self._means["made"]).square() for x in real]
        towards_real = [F.relu(self._means["real"] - x).square() for x in fake]
        return _mean(towards_made) + _mean(towards_real)


class CollapseWatch:
    """Counts the steps in a row in which a discriminator is of no use.

    Args:
        patience: so many are a collapse.
        highest: an accuracy above has won: its gradient vanishes.
        lowest: an accuracy below is worse than a coin's.
    """

    def __init__(self, patience: int = 500, highest: float = 0.98, lowest: float = 0.4) -> None:
        self._patience, self._highest, self._lowest = patience, highest, lowest
        self._steps = 0

    def look(self, loss: float, share_right: float) -> None:
        """Takes note of a step.

        Raises:
            DiscriminatorCollapsed: this was one too many.
        """
        if not math.isfinite(loss):
            raise DiscriminatorCollapsed(f"the discriminator's loss became {loss}")
        useless = not self._lowest <= share_right <= self._highest
        self._steps = self._steps + 1 if useless else 0
        if self._steps >= self._patience:
            raise DiscriminatorCollapsed(
                f"for {self._steps} steps the discriminator's accuracy was above {self._highest} "
                f"or below {self._lowest}, at last {share_right:.3f}"
            )


def hinge_loss(real: Sequence[Tensor], made: Sequence[Tensor]) -> Tensor:
    """The discriminator's loss: E[max(0, 1 − D(real))] / 2 + E[max(0, 1 + D(made))] / 2.

    Args:
        real: maps of logits for photographs; each map counts equally, whatever its size.
        made: the same for reconstructions.
    """
    return (_mean([F.relu(1 - x) for x in real]) + _mean([F.relu(1 + x) for x in made])) / 2


def accuracy(real: Sequence[Tensor], made: Sequence[Tensor]) -> float:
    """Share of places with the right sign, 0…1; each map of logits counts equally."""
    right = [(x > 0).float() for x in real] + [(x < 0).float() for x in made]
    return float(_mean(right))


def backward_balanced(
    loss: Tensor, beside: Tensor, adversarial: Tensor, made: Tensor, weight: float
) -> None:
    """Gradients of a loss and of an adversarial term that is brought to the loss' size first.

    The term's factor is `weight` × ‖∇ loss‖ / ‖∇ adversarial‖ (Esser et al. 2021,
    arXiv:2012.09841, equation 7), with respect to the reconstruction and not to the decoder's
    last layer: frozen networks are gone through backwards once, and not once more for the norms.

    Args:
        loss: scalar, of the reconstruction, and `beside` with it.
        beside: what of the loss doesn't depend on the reconstruction, such as the commitment.
        adversarial: scalar, of the reconstruction.
        made: the reconstruction, with its graph.
        weight: 1 makes both pull equally hard.
    """
    (gradient,) = torch.autograd.grad(loss, made)
    (term,) = torch.autograd.grad(adversarial, made)
    size = gradient.float().norm() / term.float().norm().clamp_min(1e-12)
    pull = gradient + (weight * size.clamp_max(_LARGEST_FACTOR)).to(gradient.dtype) * term
    roots, gradients = ([made, beside], [pull, None]) if beside.requires_grad else ([made], [pull])
    torch.autograd.backward(roots, gradients)


def _mean(maps: Sequence[Tensor]) -> Tensor:
    return torch.stack([x.mean() for x in maps]).mean()
