"""The shape of encoder and decoder: the section `network`, one class of settings for each kind.

`network.kind` says which of them a table holds. Each has `stride`, the pixels along one side of
the patch that one code stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.tokenizer.config_error import require


@dataclass(frozen=True)
class ConvolutionalConfig:
    """Plain convolutions, from fine to coarse.

    The stem's strided convolution divides height and width by `stem_stride`;
    each further stage divides them by 2.

    Attributes:
        kind: `convolutional`.
        stem_stride: 2 or 4.
        widths: channels of each stage.
        encoder_depths: residual blocks of each stage of the encoder.
        decoder_depths: the same for the decoder, also written from fine to coarse.
        decoder_widths: channels of each stage of the decoder, where they are not `widths`.
    """

    kind: Literal["convolutional"] = "convolutional"
    stem_stride: int = 4
    widths: tuple[int, ...] = (96, 192)
    encoder_depths: tuple[int, ...] = (2, 4)
    decoder_depths: tuple[int, ...] = (3, 6)
    decoder_widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(self.stem_stride in (2, 4), f"network.stem_stride is 2 or 4: {self.stem_stride}")
        stages = len(self.widths)
        require(stages >= 1, "network.widths needs at least one stage")
        require(
            len(self.encoder_depths) == stages == len(self.decoder_depths),
            "network.widths, encoder_depths and decoder_depths must be equally long",
        )
        require(
            len(self.decoder_widths) in (0, stages),
            "network.decoder_widths must be as long as network.widths, or empty",
        )
        for name in ("widths", "decoder_widths"):
            widths = getattr(self, name)
            require(
                all(w >= 4 and w % 4 == 0 for w in widths),
                f"network.{name} must be multiples of 4: {list(widths)}",
            )
        require(
            all(d >= 0 for d in self.encoder_depths + self.decoder_depths),
            "network depths must not be negative",
        )

    @property
    def decoder_channels(self) -> tuple[int, ...]:
        """Channels of each stage of the decoder, from fine to coarse."""
        return self.decoder_widths or self.widths

    @property
    def stride(self) -> int:
        """Pixels along one side of the patch that one code stands for."""
        return self.stem_stride << (len(self.widths) - 1)


@dataclass(frozen=True)
class VQGANConfig:
    """Encoder and decoder of VQGAN: group normalisation, and attention at the coarse scale.

    The first scale has the images' own resolution; each further one divides it by 2.

    Attributes:
        kind: `vqgan`.
        widths: channels of each scale, from fine to coarse.
        depth: residual blocks of each scale of the encoder; the decoder has one more.
        groups: of channels that are normalised together.
        attention: at the coarsest scale, over the whole image: its memory grows with the square
            of the number of codes.
    """

    kind: Literal["vqgan"] = "vqgan"
    widths: tuple[int, ...] = (32, 32, 64, 128)
    depth: int = 1
    groups: int = 8
    attention: bool = True

    def __post_init__(self) -> None:
        require(len(self.widths) >= 2, "network.widths needs at least two scales")
        require(self.groups >= 1, f"network.groups must be positive, not {self.groups}")
        require(
            all(w >= self.groups and w % self.groups == 0 for w in self.widths),
            f"network.widths must be multiples of network.groups ({self.groups}): "
            f"{list(self.widths)}",
        )
        require(self.depth >= 1, f"network.depth must be positive, not {self.depth}")

    @property
    def stride(self) -> int:
        """Pixels along one side of the patch that one code stands for."""
        return 1 << (len(self.widths) - 1)


NetworkConfig = ConvolutionalConfig | VQGANConfig
