"""Terms of the training loss, each named, weighted and logged by itself.

Images are float `[n, 3, h, w]` in [−1, 1]; every term is a scalar mean.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.metrics import ms_ssim
from training.perceptual.features import FrozenFeatures
from training.perceptual.lpips import LPIPS
from training.perceptual.weights import WeightsError, network_facts
from training.tokenizer.config import ConfigError, LossConfig, QuantizerConfig
from training.tokenizer.model import Output


class Losses(nn.Module):
    """All terms of the loss for a batch.

    Args:
        loss: weights of the reconstruction terms.
        quantizer: gives the weights of the quantizer's terms.
        bf16: frozen networks compute in bfloat16.

    Attributes:
        networks: facts about the frozen networks that take part, for the model card.

    Raises:
        ConfigError: a frozen network can't be read.
    """

    def __init__(self, loss: LossConfig, quantizer: QuantizerConfig, *, bf16: bool = False) -> None:
        super().__init__()
        self.weights = loss
        self.quantizer = quantizer
        self.lpips: nn.Module | None = None
        self.perceptual: FrozenFeatures | None = None
        self.networks: list[dict[str, str]] = []
        self._bf16 = bf16
        try:
            if loss.lpips > 0 and loss.lpips_weights:
                self.lpips = load_lpips(Path(loss.lpips_weights))
                self.networks.append({"name": Path(loss.lpips_weights).name})
            elif loss.lpips > 0:
                self.lpips = LPIPS("vgg16")
                self.networks.append(network_facts("vgg16"))
            if loss.perceptual > 0:
                self.perceptual = FrozenFeatures(loss.perceptual_network, bf16=bf16)
                self.networks.append(self.perceptual.facts)
        except WeightsError as error:
            raise ConfigError(str(error)) from error

    def forward(self, output: Output, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise and its unweighted terms by name.

        Args:
            output: of the model.
            pixels: float `[n, 3, h, w]` in [−1, 1], what it should have been.
        """
        made = output.reconstruction.float()
        weights = self.weights
        terms: dict[str, Tensor] = {"mse": F.mse_loss(made, pixels)}
        total = weights.mse * terms["mse"]
        if weights.l1 > 0:
            terms["l1"] = F.l1_loss(made, pixels)
            total = total + weights.l1 * terms["l1"]
        if weights.multiscale > 0:
            terms["multiscale"] = multiscale_l1(made, pixels)
            total = total + weights.multiscale * terms["multiscale"]
        if weights.gradient > 0:
            terms["gradient"] = gradient_l1(made, pixels)
            total = total + weights.gradient * terms["gradient"]
        if weights.ms_ssim > 0:
            similarity = ms_ssim((made + 1) / 2, (pixels + 1) / 2, scales=3)
            terms["ms_ssim"] = 1 - similarity.mean()
            total = total + weights.ms_ssim * terms["ms_ssim"]
        if self.lpips is not None:
            with torch.autocast(made.device.type, torch.bfloat16, enabled=self._bf16):
                terms["lpips"] = self.lpips(made, pixels).mean()
            total = total + weights.lpips * terms["lpips"]
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(made, pixels)
            total = total + weights.perceptual * terms["perceptual"]
        terms |= output.quantized.terms
        return total + self.of_quantizer(terms), terms

    def of_quantizer(self, terms: dict[str, Tensor]) -> Tensor:
        """What the quantizer's terms add to the loss."""
        total = terms["mse"].new_zeros(())
        for name, weight in self.quantizer.term_weights.items():
            total = total + weight * terms[name]
        return total


def load_lpips(path: Path) -> nn.Module:
    """A TorchScript file that maps two image batches in [−1, 1] to distances, on the CPU.

    Raises:
        ConfigError: there is no such file, or it is no TorchScript.
    """
    try:
        network: nn.Module = torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigError(f"{path} is not a readable TorchScript file") from error
    return network


def multiscale_l1(made: Tensor, wanted: Tensor, scales: int = 3) -> Tensor:
    """Mean absolute error of the images halved once, twice … `scales` times."""
    total = made.new_zeros(())
    for _ in range(scales):
        made, wanted = F.avg_pool2d(made, 2), F.avg_pool2d(wanted, 2)
        total = total + F.l1_loss(made, wanted)
    return total / scales


def gradient_l1(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error of differences between horizontal and vertical neighbours."""
    difference = made - wanted
    horizontal = difference[..., :, 1:] - difference[..., :, :-1]
    vertical = difference[..., 1:, :] - difference[..., :-1, :]
    return (horizontal.abs().mean() + vertical.abs().mean()) / 2
