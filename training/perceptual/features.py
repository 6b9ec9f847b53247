"""Perceptual training loss: distance between normalised features of a frozen network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from training.perceptual.efficientnet_lite import EfficientNetLite
from training.perceptual.lpips import LPIPS, unit_length
from training.perceptual.weights import WeightsError, network_facts

# The last blocks at strides 2, 4, 8, 16 and 32.
_LITE0_BLOCKS = (0, 2, 4, 10, 15)


class FrozenFeatures(nn.Module):
    """The mean squared distance of two batches' channel-normalised features.

    Gradients reach the first batch alone; no parameter learns and nothing else changes, in
    training mode either. With `vgg16` it is LPIPS with its published heads, a sum over five
    layers; with the others each layer's squared distance, 0…4, counts equally and their mean
    is taken.

    Args:
        network: `lite0`, `vgg16`, or the path of a TorchScript file that maps images
            `[n, 3, h, w]` in [−1, 1] to a list of feature maps `[n, c, h', w']`.
        bf16: run the network in bfloat16; distances are computed in float32 all the same.

    Attributes:
        widths: channels of each feature map; None for a file, which doesn't tell.
        facts: for the manifest and the model card: name, package, SHA-256, licence.

    Raises:
        WeightsMissing: the package with the weights is not installed.
        WeightsError: its file is not the pinned one, or the user's can't be read.
    """

    def __init__(self, network: str, *, bf16: bool = True) -> None:
        super().__init__()
        self._bf16 = bf16
        self.widths: tuple[int, ...] | None
        self.network: nn.Module
        if network == "lite0":
            self.network = EfficientNetLite("lite0")
            self.widths = tuple(self.network.widths[i] for i in _LITE0_BLOCKS)
            self.facts = network_facts(network)
        elif network == "vgg16":
            self.network = LPIPS("vgg16")
            self.widths = self.network.widths
            self.facts = network_facts(network)
        else:
            self.network = _read_script(Path(network))
            self.widths = None
            self.facts = {"name": Path(network).name, "licence": "not stated: a file of the user's"}
        self.requires_grad_(requires_grad=False).eval()

    def train(self, mode: bool = True) -> FrozenFeatures:
        """Stays in evaluation mode, whatever a module around it does."""
        del mode
        return super().train(mode=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Channel-normalised feature maps, differentiable with respect to the images.

        Args:
            images: float `[n, 3, h, w]` in [−1, 1].

        Returns:
            float32 `[n, c, h', w']`, of unit length over c, from fine to coarse.
        """
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._bf16):
            images = images.contiguous(memory_format=torch.channels_last)
            if isinstance(self.network, LPIPS):
                return self.network.features(images)
            found: Sequence[Tensor]
            if isinstance(self.network, EfficientNetLite):
                found = self.network.features(images, _LITE0_BLOCKS)
            else:
                found = self.network(images)
        return [unit_length(x) for x in found]

    def compare(self, made: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """The distance, a scalar, of two batches by what `features` gave for them."""
        if isinstance(self.network, LPIPS):
            return self.network.compare(made, wanted).mean()
        layers = [(a - b).square().sum(dim=1).mean() for a, b in zip(made, wanted, strict=True)]
        return torch.stack(layers).mean()

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """The distance, a scalar; `made` alone receives gradients.

        Args:
            made: reconstructions, float `[n, 3, h, w]` in [−1, 1].
            wanted: what they should have been, the same.
        """
        with torch.no_grad():
            target = self.features(wanted)
        return self.compare(self.features(made), target)


def _read_script(path: Path) -> nn.Module:
    try:
        network: nn.Module = torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise WeightsError(
            f"{path} is neither lite0, vgg16 nor a readable TorchScript file"
        ) from error
    return network
