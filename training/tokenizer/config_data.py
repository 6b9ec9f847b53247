"""What a model sees: the section `data`."""

from __future__ import annotations

from dataclasses import dataclass

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
