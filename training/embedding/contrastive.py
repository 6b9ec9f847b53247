"""A network over code grids, taught without labels which edits are of one photograph.

Two edited copies of a photograph are to be more alike than those of any two
photographs (InfoNCE; van den Oord et al. 2018, "Representation learning with
contrastive predictive coding"; as in SimCLR, Chen et al. 2020, with a head that is
thrown away afterwards). The network that is kept gives features for each position of the grid.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from training.embedding.grid_features import fold, pool
from training.tokenizer.schedule import warmup_cosine

# Of the pooled features, in parts along one side: while learning, and of what is exported.
# Positions say more than the contrastive loss asks for, since random crops move everything.
_LEARNING_LEVELS = (1, 2)
_LEVELS = (1, 2, 4)
# Steps in which the learning rate rises, or a quarter of all; and its share of the peak at the end.
_WARMUP = 50
_LAST_RATE = 0.02


@dataclass(frozen=True)
class Recipe:
    """How the network is trained.

    Attributes:
        steps: of AdamW; the learning rate follows a warm-up and a cosine to almost zero.
        batch: photographs in a step, each in two edited copies.
        rate: highest learning rate.
        decay: weight decay.
        temperature: divides the cosines; the lower, the more the hardest pairs count.
        smallest: grids are cropped to a side between this share of theirs and all of it.
        hidden: up to twice this share of a grid's positions are masked.
        width: channels of the network.
        blocks: residual blocks.
        features: channels of the features that the network gives for each position.
        seed: of everything random.
        bf16: convolutions in bfloat16.
    """

    steps: int = 400
    batch: int = 192
    rate: float = 2e-3
    decay: float = 1e-4
    temperature: float = 0.2
    smallest: float = 0.64
    hidden: float = 0.15
    width: int = 128
    blocks: int = 2
    features: int = 96
    seed: int = 0
    bf16: bool = True


class _Block(nn.Module):
    """A residual block of a 3×3 and a 1×1 convolution, the identity at initialization."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(width, width, 3), _convolution(width, width, 1)
        nn.init.zeros_(cast("Tensor", self.second[1].weight))

    def forward(self, values: Tensor) -> Tensor:
        """`[n, width, h, w]` → the same."""
        made: Tensor = self.second(F.relu(self.first(values)))
        return F.relu(values + made)


class FeatureNetwork(nn.Module):
    """Codes looked up in a learnt table, then convolutions at half of the grid's resolution.

    Args:
        table: float32 `[K, m]`, what the table begins with.
        recipe: its width, blocks and features.
    """

    def __init__(self, table: Tensor, recipe: Recipe) -> None:
        super().__init__()
        self.table = nn.Parameter(table.clone())
        # The vector of masked positions, used in training alone.
        self.hidden_vector = nn.Parameter(torch.zeros(table.shape[1]))
        self.stem = _convolution(table.shape[1], recipe.width, 3, stride=2)
        self.blocks = nn.Sequential(*(_Block(recipe.width) for _ in range(recipe.blocks)))
        self.last = _convolution(recipe.width, recipe.features, 1)

    def forward(self, codes: Tensor, hidden: Tensor | None = None) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, features, ⌈rows/2⌉, ⌈columns/2⌉]`, ≥ 0.

        `hidden`, bool of the codes' shape, says which positions are masked.
        """
        vectors = F.embedding(codes, self.table)
        if hidden is not None:
            vectors = torch.where(hidden[..., None], self.hidden_vector, vectors)
        values = F.relu(self.stem(vectors.permute(0, 3, 1, 2)))
        return F.relu(self.last(self.blocks(values)))


class PooledFeatures(nn.Module):
    """Grid features (`training.embedding.grid_features`): a network's, pooled over a pyramid.

    Mirror images together, and square roots of the means, as for visual words: a few
    positions of large values should not outweigh all others.

    Args:
        features: codes int64 `[n, rows, columns]` → float32 `[n, c, h, w]`, ≥ 0.
    """

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, 11·c]`."""
        features = self.features(codes)
        return torch.cat([fold(pool(features, n)).sqrt().flatten(1) for n in _LEVELS], dim=1)


def learn_features(
    table: Tensor,
    views: NDArray[np.uint16],
    recipe: Recipe,
    on_step: Callable[[int, float, float], None] = lambda *_: None,
) -> FeatureNetwork:
    """Trains the network.

    Args:
        table: float32 `[K, m]`, vectors of codes to begin with, of about unit variance.
        views: codes of edited copies, `[photographs, copies, side, side]`.
        recipe: of network and training.
        on_step: called after each step with its number from 1, its loss, and the share of the
            copies whose other half was found among all in the batch.

    Returns:
        For evaluation, normalisation folded into the convolutions.

    Raises:
        ValueError: fewer than two photographs, or fewer than two copies of each.
    """
    photographs, copies, side, _ = views.shape
    if photographs < 2 or copies < 2:
        raise ValueError("two photographs with two edited copies each are the least to learn from")
    torch.manual_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed)
    network = FeatureNetwork(table, recipe).train()
    head = nn.Sequential(
        nn.Linear(sum(n * ((n + 1) // 2) for n in _LEARNING_LEVELS) * recipe.features, 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Linear(256, 128),
    )
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=recipe.decay)
    batch = min(recipe.batch, photographs)
    warmup = max(1, min(_WARMUP, recipe.steps // 4))
    for step in range(recipe.steps):
        rise = min(1.0, (step + 1) / warmup)  # within the cosine, which begins at once
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * rise * warmup_cosine(step, recipe.steps, 0, _LAST_RATE)
        chosen = random.choice(photographs, batch, replace=False)
        one = random.integers(copies, size=batch)
        other = (one + random.integers(1, copies, size=batch)) % copies
        cut = int(random.integers(max(1, round(recipe.smallest * side)), side + 1))
        pairs = np.concatenate([views[chosen, one], views[chosen, other]])
        codes = torch.from_numpy(_cut(pairs, cut, random).astype(np.int64))
        share = 2 * recipe.hidden * torch.rand(2 * batch, 1, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
            features = network(codes, torch.rand(codes.shape) < share)
            pooled = [fold(pool(features, n)).flatten(1) for n in _LEARNING_LEVELS]
            vectors = head(torch.cat(pooled, dim=1))
        loss, found = info_nce(vectors.float(), recipe.temperature)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        on_step(step + 1, loss.item(), found)
    return _with_folded_normalization(network)


def info_nce(vectors: Tensor, temperature: float) -> tuple[Tensor, float]:
    """The InfoNCE loss of a batch, and how often a vector's other half is its nearest.

    Args:
        vectors: float32 `[2·n, e]`; rows i and n + i are of one photograph.
        temperature: divides the cosines.
    """
    unit = F.normalize(vectors, dim=1)
    similarity = unit @ unit.T / temperature
    similarity = similarity.masked_fill(torch.eye(len(unit), dtype=torch.bool), -torch.inf)
    other = torch.arange(len(unit)).roll(len(unit) // 2)
    found = float((similarity.argmax(dim=1) == other).float().mean())
    return F.cross_entropy(similarity, other), found


def _cut(grids: NDArray[np.uint16], side: int, random: np.random.Generator) -> NDArray[np.uint16]:
    """A random square of each grid: `[n, side, side]`."""
    top, left = random.integers(grids.shape[1] - side + 1, size=(2, len(grids), 1, 1))
    across = np.arange(side)
    made: NDArray[np.uint16] = grids[
        np.arange(len(grids))[:, None, None], top + across[:, None], left + across
    ]
    return made


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


def _with_folded_normalization(network: FeatureNetwork) -> FeatureNetwork:
    """A copy for evaluation, each batch normalisation folded into the convolution before it."""
    done = copy.deepcopy(network).eval()
    for module in list(done.modules()):
        if isinstance(module, nn.Sequential) and isinstance(module[-1], nn.BatchNorm2d):
            convolution, norm = cast("nn.Conv2d", module[0]), module[-1]
            module[0] = nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
            module[1] = nn.Identity()
    return done.requires_grad_(requires_grad=False)
