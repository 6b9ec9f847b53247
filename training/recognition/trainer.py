"""Training a recognizer: what is done to the grids, the loop, and when it stops.

What is learnt from is a `Source` (`training.recognition.dataset`): grids of codes, or, for
comparison, pixels. All that happens to a grid here happens to its looked-up vectors, so
that both get the same.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.crops import random_window
from training.recognition.augmented_views import PLAIN_VIEWS
from training.recognition.calibration import Logits, negative_log_likelihood
from training.recognition.dataset import Source
from training.recognition.network import Network
from training.tokenizer.averaging import early_decay, move_average
from training.tokenizer.schedule import warmup_cosine

# Positions of the grids that are scored together when nothing is learnt.
_BATCH_POSITIONS = 1 << 14
# Steps in which the learning rate rises, or a tenth of all steps.
_WARMUP = 100


@dataclass(frozen=True)
class Recipe:
    """How a recognizer is trained.

    Attributes:
        epochs: at most; the learning rate rises shortly and falls to zero over them (cosine).
        batch: grids in a step.
        rate: highest learning rate.
        decay: weight decay (AdamW; Loshchilov & Hutter 2019).
        plain: share of the grids that are the image itself or its mirror image; the others
            are random views.
        crop: every other batch is cut to between this share of its sides and all of them.
        hidden: up to twice this share of a grid's positions are masked.
        cutmix: share of the steps in which a rectangle comes from another grid (CutMix; Yun
            et al. 2019).
        mixup: in the other steps the vectors of two grids are mixed by shares from
            Beta(mixup, mixup) (Zhang et al. 2018).
        smoothing: share of the labels' weight that is spread over all classes.
        average: decay of the moving average of the weights, which is what is kept.
        patience: epochs after the best one until the run stops (early stopping).
        seed: of everything random.
        bf16: convolutions in bfloat16.
    """

    epochs: int = 90
    batch: int = 64
    rate: float = 2e-3
    decay: float = 0.05
    plain: float = 0.1
    crop: float = 0.75
    hidden: float = 0.1
    cutmix: float = 0.5
    mixup: float = 0.2
    smoothing: float = 0.1
    average: float = 0.99
    patience: int = 20
    seed: int = 0
    bf16: bool = True


@dataclass(frozen=True)
class Trained:
    """A trained network and how its training went.

    Attributes:
        network: the averaged weights of the best epoch, evaluation mode, on the CPU.
        epochs: run.
        best_epoch: whose weights are kept, from 1.
        loss: negative log-likelihood of the held-out images.
        accuracy: on the held-out images.
    """

    network: Network
    epochs: int
    best_epoch: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Epoch:
    """An epoch's number from 1, its losses and its held-out accuracy."""

    number: int
    training_loss: float
    loss: float
    accuracy: float


def train(
    network: Network,
    source: Source,
    fit: NDArray[np.int64],
    held_out: NDArray[np.int64],
    recipe: Recipe,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    device: torch.device = torch.device("cpu"),  # noqa: B008  (immutable)
) -> Trained:
    """Trains until the held-out images' likelihood no longer grows.

    Args:
        network: changed in place.
        source: of all training images.
        fit: indices of those to learn from.
        held_out: indices of those that decide which epoch is kept.
        recipe: of the training.
        on_epoch: called after each epoch.
        device: to train on.
    """
    torch.manual_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed)
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    optimizer = _optimizer(network, recipe)
    batch = min(recipe.batch, len(fit))
    per_epoch = len(fit) // batch
    steps, step = recipe.epochs * per_epoch, 0
    warmup = min(_WARMUP, max(1, steps // 10))
    best: Trained | None = None
    for epoch in range(1, recipe.epochs + 1):
        network.train()
        losses = []
        for images in random.permutation(fit)[: per_epoch * batch].reshape(per_epoch, batch):
            rise = min(1.0, (step + 1) / warmup)  # within the cosine, which begins at once
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * rise * warmup_cosine(step, steps, 0, 0.0)
            loss = _loss(network, source, images, recipe, random, device)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimizer.step()
            move_average(average, network, early_decay(step, recipe.average))
            losses.append(loss.item())
            step += 1
        logits = score(average, source, held_out, bf16=recipe.bf16, device=device)
        labels = source.labels[held_out]
        told = Epoch(
            epoch,
            float(np.mean(losses)),
            negative_log_likelihood(logits, labels),
            float((logits.argmax(axis=1) == labels).mean()),
        )
        on_epoch(told)
        if best is None or told.loss < best.loss:
            kept = copy.deepcopy(average).cpu().eval()
            best = Trained(kept, epoch, epoch, told.loss, told.accuracy)
        if epoch - best.best_epoch >= recipe.patience:
            break
    if best is None:
        raise ValueError("no epoch was run")
    return Trained(best.network, epoch, best.best_epoch, best.loss, best.accuracy)


def score(
    network: Network,
    source: Source,
    images: NDArray[np.int64],
    *,
    view: int = 0,
    bf16: bool = False,
    device: torch.device = torch.device("cpu"),  # noqa: B008  (immutable)
) -> Logits:
    """Logits float32 `[len(images), classes]` of one view of images of any sizes."""
    shapes = [source.shape(int(i), view) for i in images]
    rows: dict[int, NDArray[np.float32]] = {}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for part in same_shapes(shapes):
            codes = source.batch([int(images[i]) for i in part], [view] * len(part))
            made = network(codes.to(device))[0].float().cpu().numpy()
            rows.update(zip(part, made, strict=True))
    return np.stack([rows[i] for i in range(len(images))])


def same_shapes(shapes: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    """Indices of grids of equal shape, some 16 thousand positions together, or one grid."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(index)
    for shape, indices in groups.items():
        size = max(1, _BATCH_POSITIONS // max(1, math.prod(shape)))
        for first in range(0, len(indices), size):
            yield indices[first : first + size]


def _loss(
    network: Network,
    source: Source,
    images: NDArray[np.int64],
    recipe: Recipe,
    random: np.random.Generator,
    device: torch.device,
) -> Tensor:
    """Cross-entropy of one batch, its grids edited."""
    views = random.integers(min(PLAIN_VIEWS, source.views - 1), source.views, len(images))
    plain = random.random(len(images)) < recipe.plain
    views[plain] = random.integers(0, min(PLAIN_VIEWS, source.views), int(plain.sum()))
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16):
        inputs = source.batch(images.tolist(), views.tolist()).to(device)
        vectors = network.look_up(inputs)
    classes = network.classes
    targets = F.one_hot(torch.from_numpy(source.labels[images]), classes).float().to(device)
    targets = targets * (1 - recipe.smoothing) + recipe.smoothing / classes
    if random.random() < 0.5:
        vectors = _cut(vectors, recipe.crop, random)
    hidden = torch.rand(len(vectors), 1, *vectors.shape[2:], device=device)
    hide = hidden < 2 * recipe.hidden * random.random()
    vectors = torch.where(hide, network.hidden_vector[None, :, None, None], vectors)
    other = torch.randperm(len(vectors), device=device)
    if random.random() < recipe.cutmix:
        vectors, share = _patched(vectors, other, random)
    elif recipe.mixup:
        share = float(random.beta(recipe.mixup, recipe.mixup))
        share = max(share, 1 - share)
        vectors = share * vectors + (1 - share) * vectors[other]
    else:
        share = 1.0
    targets = share * targets + (1 - share) * targets[other]
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16):
        logits = network.score(vectors)[0]
    return -(targets * F.log_softmax(logits.float(), dim=1)).sum(dim=1).mean()


def _cut(vectors: Tensor, least: float, random: np.random.Generator) -> Tensor:
    """A random part of all grids, the same of each: both sides cut by the same share."""
    share = random.uniform(least, 1)
    rows, columns = (max(1, round(share * side)) for side in vectors.shape[2:])
    height, width = vectors.shape[2:]
    down, across = random_window(random, height, width, rows, columns)
    return vectors[:, :, down, across]


def _patched(vectors: Tensor, other: Tensor, random: np.random.Generator) -> tuple[Tensor, float]:
    """A rectangle of each grid from another; and which share of a grid is still its own."""
    height, width = vectors.shape[2:]
    side = math.sqrt(random.random())
    rows, columns = max(1, round(height * side)), max(1, round(width * side))
    down, across = random_window(random, height, width, rows, columns)
    inside = torch.zeros(1, 1, height, width, dtype=torch.bool, device=vectors.device)
    inside[:, :, down, across] = True
    return torch.where(inside, vectors[other], vectors), 1 - rows * columns / (height * width)


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW with weight decay on weights, and none on scales and biases."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": weights, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0}],
        lr=recipe.rate,
        betas=(0.9, 0.98),
    )
