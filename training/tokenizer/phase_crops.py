"""Which crops a phase of a run is trained on, and which drawn ones it is validated on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rich.console import Console

from training.data.dataset import Folder, Pixels
from training.data.mixture import Mixture
from training.data.synthetic import FontError, Synthetic, find_fonts
from training.tokenizer.config import Config, ConfigError, DataConfig
from training.tokenizer.distributed import DistributedContext

# Drawn pictures that are validated on, of a seed of their own.
_DRAWN, _DRAWN_SEED = 32, 0xD7A7


class Drawing:
    """Draws synthetic crops, where a configuration asks for any."""

    def __init__(self, config: Config, report: Callable[[str], object]) -> None:
        shares = [phase.config.data.synthetic for phase in config.resolved_phases()]
        self._fonts = None
        if max(shares) > 0:
            try:
                self._fonts = find_fonts(tell=report)
            except FontError as error:
                raise ConfigError(str(error)) from error

    def of(self, settings: DataConfig) -> Synthetic | None:
        """What draws crops for training."""
        if self._fonts is None:
            return None
        return Synthetic(settings.seed, settings.crop, self._fonts)

    def held_out(self, settings: DataConfig) -> Pixels | None:
        """Pictures that the training doesn't see: uint8 `[n, crop, crop, 3]`."""
        if settings.synthetic == 0 or self._fonts is None:
            return None
        synthetic = Synthetic(_DRAWN_SEED, settings.crop, self._fonts)
        return np.stack([synthetic.crop_of(0, index) for index in range(_DRAWN)])


def crops_of(
    settings: DataConfig,
    images: Folder,
    drawing: Drawing,
    context: DistributedContext,
    console: Console,
) -> Mixture:
    """Crops for a phase; says where images are smaller than those."""
    synthetic = drawing.of(settings)
    crops = Mixture(
        images,
        crop=settings.crop,
        flip=settings.flip,
        seed=settings.seed,
        cache_gib=settings.cache_gib / context.processes,
        enlarge=settings.enlarge,
        synthetic=settings.synthetic,
        colour_jitter=settings.colour_jitter,
        draw=None if synthetic is None else synthetic.crop_of,
    )
    if crops.smaller:
        done = "enlarged to it" if settings.enlarge else "left out"
        console.print(
            f"warning: {crops.smaller} of {len(images.paths)} images are smaller than a crop of "
            f"{settings.crop}×{settings.crop} and are {done}; data.crop sets its side"
        )
    return crops
