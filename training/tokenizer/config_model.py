"""What a model is made of and what it sees: the sections `data`, `network` and `quantizer`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imaging.samples import MAX_CHANNELS, SampleFormat
from training.tokenizer.config_error import require


@dataclass(frozen=True)
class DataConfig:
    """Which crops of the images a model sees.

    Attributes:
        crop: side of the square training crops, pixels; a multiple of the stride.
        enlarge: enlarge images that are smaller than a crop to its side; otherwise they are
            left out.
        flip: mirror half of the crops left to right.
        validation_fraction: share of the images held out, chosen by a hash of each file's stem.
        cache_gib: decoded images kept in memory at most, GiB; what is beyond is decoded anew.
        seed: of the order of the images, crops and flips.
        synthetic: share of the crops that are not cut from images but drawn: flat colours,
            gradients, shapes, text, charts, screens (`training.data.synthetic`).
        colour_jitter: share of the crops of images that are shown in other colours.
        channels: of the images, 1…16: grey, RGB and RGBA are read from pictures, others from
            `.npy` files `[h, w, channels]`.
        sample_maximum: the sample that is white, 1…65535: 255 for 8 bits, 65535 for 16, 4095 for
            12 bits that are stored in 16.
    """

    crop: int = 96
    enlarge: bool = True
    flip: bool = True
    validation_fraction: float = 0.02
    cache_gib: float = 4.0
    seed: int = 0
    synthetic: float = 0.0
    colour_jitter: float = 0.0
    channels: int = 3
    sample_maximum: int = 255

    @property
    def samples(self) -> SampleFormat:
        """What the pixels are."""
        return SampleFormat(self.channels, self.sample_maximum)

    def __post_init__(self) -> None:
        require(
            1 <= self.channels <= MAX_CHANNELS,
            f"data.channels must be in [1, {MAX_CHANNELS}], not {self.channels}",
        )
        require(
            1 <= self.sample_maximum <= 65535,
            f"data.sample_maximum must be in [1, 65535], not {self.sample_maximum}",
        )
        require(
            self.samples.is_rgb or self.synthetic == self.colour_jitter == 0,
            "data.synthetic and data.colour_jitter are for three channels of 8 bits",
        )
        require(self.crop >= 8, f"data.crop must be at least 8 pixels, not {self.crop}")
        require(
            0 <= self.validation_fraction < 1,
            f"data.validation_fraction must be in [0, 1), not {self.validation_fraction}",
        )
        require(self.cache_gib >= 0, f"data.cache_gib must not be negative: {self.cache_gib}")
        for name in ("synthetic", "colour_jitter"):
            share = getattr(self, name)
            require(0 <= share <= 1, f"data.{name} must be in [0, 1], not {share}")
        require(0 <= self.seed < 2**32, f"data.seed must be in [0, 2³²), not {self.seed}")


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of encoder and decoder, from fine to coarse.

    The stem's strided convolution divides height and width by `stem_stride`;
    each further stage divides them by 2.

    Attributes:
        stem_stride: 2 or 4.
        widths: channels of each stage.
        encoder_depths: residual blocks of each stage of the encoder.
        decoder_depths: the same for the decoder, also written from fine to coarse.
        decoder_widths: channels of each stage of the decoder, where they are not `widths`.
    """

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
class QuantizerConfig:
    """How latents become codes.

    Attributes:
        kind: `ema` learns the codebook as a moving average of the latents
            assigned to it, `gradient` by the codebook loss of the original
            paper, `none` is a plain autoencoder to compare with.
        distance: `cosine` compares directions only, `euclidean` positions.
        size: number of codes K; of the first stage, where there are several.
        width: dimension d of a code vector.
        initialization: `kmeans` on the first latents, or `random`.
        decay: of the moving average, per step.
        commitment: weight beta of the commitment term ‖z − sg(e)‖².
        restart_below: a code whose moving share of the latents is below this
            fraction of the uniform share 1/K is moved onto a latent of the
            batch; 0 never does so.
        residual_sizes: number of codes of each further stage, which codes what the stages before
            it left over; none by default.
        stage_dropout: share of the training images that are decoded without some of their further
            stages, so that every prefix of the stages decodes well.
    """

    kind: Literal["ema", "gradient", "none"] = "ema"
    distance: Literal["cosine", "euclidean"] = "cosine"
    size: int = 4096
    width: int = 8
    initialization: Literal["kmeans", "random"] = "kmeans"
    decay: float = 0.99
    commitment: float = 0.25
    restart_below: float = 0.05
    residual_sizes: tuple[int, ...] = ()
    stage_dropout: float = 0.5

    def __post_init__(self) -> None:
        require(2 <= self.size <= 65536, f"quantizer.size must be in [2, 65536], not {self.size}")
        require(self.width >= 1, f"quantizer.width must be positive, not {self.width}")
        require(0 < self.decay < 1, f"quantizer.decay must be in (0, 1), not {self.decay}")
        require(self.commitment >= 0, "quantizer.commitment must not be negative")
        require(0 <= self.restart_below < 1, "quantizer.restart_below must be in [0, 1)")
        require(
            all(2 <= size <= 65536 for size in self.residual_sizes),
            f"quantizer.residual_sizes must be in [2, 65536]: {list(self.residual_sizes)}",
        )
        require(
            self.kind != "none" or not self.residual_sizes,
            "quantizer.residual_sizes needs codes, and quantizer.kind is none",
        )
        require(
            0 <= self.stage_dropout <= 1,
            f"quantizer.stage_dropout must be in [0, 1], not {self.stage_dropout}",
        )

    @property
    def stages(self) -> tuple[int, ...]:
        """Number of codes of every stage."""
        return (self.size, *self.residual_sizes)
