"""Training from Python: from arrays or a folder to a trained, measured, exported model.

::

    from training.notebook import TrainableTokenizer

    tokenizer = TrainableTokenizer("small-f4", {"name": "mine", "optimizer.steps": 500})
    tokenizer.fit(images)
    print(tokenizer.evaluate(others))
    tokenizer.export("models/mine")

It is the commands' own code: `fit` is `python -m training.train`, `evaluate` and `export` are the
commands of those names. docs/python.md has the whole way.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from rich.console import Console
from torch import nn

from bundle import Bundle
from bundle.manifest import PRECISIONS
from training.data.arrays import images_of
from training.data.dataset import DataError, Folder, Pixels
from training.evaluation.quality import Measures
from training.evaluation.rate_distortion import evaluate
from training.export import export, sample
from training.onnx_export.any_size import decode_grids, encode_images
from training.onnx_export.codec import CheckpointCodec
from training.tokenizer.checkpoint import Checkpoint, load_checkpoint
from training.tokenizer.config import Config, ConfigError
from training.tokenizer.config_file import load_config, override
from training.tokenizer.distributed import choose_context
from training.tokenizer.model import Tokenizer
from training.tokenizer.quantizers import Quantizer
from training.tokenizer.run import TrainingInterrupted, train

# Lines of figures of a whole run; the first comes after a twentieth of it.
_LINES = 20

_NOT_TRAINED = "the tokenizer is not trained yet: call fit first"


class TrainableTokenizer:
    """A tokenizer made of encoder, quantizer and decoder, and the way to train it.

    Args:
        config: a preset's name, the path of a TOML file, or a `Config`.
        settings: by name, as `--set` of the command takes them: `{"optimizer.steps": 500}`.
        encoder: one's own module, pixels `[n, 3, h, w]` in [−1, 1] → `[n, d, h/s, w/s]`, where d
            is `quantizer.width` and s the stride; None takes the configuration's.
        quantizer: one's own; None takes the configuration's.
        decoder: one's own module, `[n, d, h/s, w/s]` → pixels `[n, 3, h, w]`; None takes the
            configuration's.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Attributes:
        config: of the run.
        network: encoder, quantizer and decoder; after `fit` with the averaged weights.

    Raises:
        ConfigError: a setting that is unknown or impossible, or a module of another shape.
    """

    def __init__(
        self,
        config: str | Config,
        settings: Mapping[str, Any] | None = None,
        *,
        encoder: nn.Module | None = None,
        quantizer: Quantizer | None = None,
        decoder: nn.Module | None = None,
        device: str = "auto",
    ) -> None:
        config = load_config(config) if isinstance(config, str) else config
        settings = dict(settings or {})
        config = override(config, [f"{name}={_toml(value)}" for name, value in settings.items()])
        if "run.log_every" not in settings:
            every = max(1, min(config.run.log_every, config.steps // _LINES))
            config = override(config, [f"run.log_every={every}"])
        self.config = config
        self._context = choose_context(device)
        own = {"encoder": encoder, "quantizer": quantizer, "decoder": decoder}
        self._own = [name for name, module in own.items() if module is not None]
        torch.manual_seed(config.run.seed)
        self.network = Tokenizer(config, encoder=encoder, quantizer=quantizer, decoder=decoder)
        _check_shapes(self.network)
        self._folder: Path | None = None
        self._images: Folder | None = None
        self._checkpoint: Checkpoint | None = None

    def fit(
        self,
        images: Any,
        *,
        value_range: tuple[float, float] | None = None,
        out: str | Path | None = None,
        minutes: float | None = None,
    ) -> Self:
        """Trains, with a bar and lines of figures; stopped by Ctrl-C it goes on when called again.

        Args:
            images: the path of a folder or several of them, or arrays (`training.data.arrays`).
                A share, `data.validation_fraction`, is held out.
            value_range: what black and white are, where arrays don't tell.
            out: folder for checkpoints and TensorBoard; None takes a temporary one.
            minutes: stop after so long, as by Ctrl-C.

        Raises:
            DataError: there is nothing to train on, or it isn't clear what the images are.
            TrainingDiverged: the loss became NaN or infinite.
            CheckpointError: `out` holds another run.
        """
        self._images = images_of(images, self.config.data.samples, value_range=value_range)
        if out is None:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="tessera-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            out = self._folder
        try:
            last = train(
                self.config,
                self._images,
                Path(out),
                self._context,
                minutes=minutes,
                model=self.network,
            )
        except TrainingInterrupted as interruption:
            print(str(interruption).replace("the same command", "fit, called again,"))
            last = Path(out) / "last.pt"
        self._checkpoint = load_checkpoint(last)
        self.network.cpu().load_state_dict(self._checkpoint.averaged)
        self.network.eval().requires_grad_(requires_grad=False)
        return self

    def evaluate(
        self, images: Any, *, value_range: tuple[float, float] | None = None
    ) -> dict[str, float]:
        """Measures on images that it wasn't trained on.

        `python -m training.evaluate` measures more, beside JPEG, WebP and AVIF.

        Args:
            images: as for `fit`.
            value_range: as for `fit`.

        Returns:
            Means over the images: `psnr` in dB, `ssim` and `ms_ssim` where the images are large
            enough for them; `bits_per_pixel` as stored; of the first stage's codes the share
            that occurs, `codes_used`, and their `perplexity`.

        Raises:
            DataError: no image, or it isn't clear what they are.
        """
        found = evaluate(
            self._codec(),
            images_of(images, self.config.data.samples, value_range=value_range),
            baseline_images=0,
            measures=Measures(),
            synthetic=False,
        )
        figures = {
            "images": found.images,
            "psnr": found.quality.psnr,
            "ssim": found.quality.ssim,
            "ms_ssim": found.quality.ms_ssim,
            "bits_per_pixel": found.bits_per_pixel,
            "codes_used": found.usage.used,
            "perplexity": found.usage.perplexity,
        }
        return {name: round(value, 4) for name, value in figures.items() if value is not None}

    def reconstruct(
        self, images: Any, *, value_range: tuple[float, float] | None = None
    ) -> list[Pixels]:
        """What encoding and decoding makes of images: `[h, w, channels]` each.

        Args:
            images: as for `fit`.
            value_range: as for `fit`.
        """
        folder = images_of(images, self.config.data.samples, value_range=value_range)
        codec, given = self._codec(), [folder.read(path) for path in folder.paths]
        made = decode_grids(codec, encode_images(codec, given))
        return [
            picture[: image.shape[0], : image.shape[1]]
            for picture, image in zip(made, given, strict=True)
        ]

    def export(
        self,
        out: str | Path,
        *,
        replace: bool = False,
        version: str | None = None,
        precisions: Collection[str] = PRECISIONS,
        data: Sequence[Mapping[str, Any]] = (),
    ) -> Bundle:
        """Writes the bundle that is served; graphs are proven to be the trained network first.

        Args:
            out: its folder, such as `models/mine`.
            replace: whether a bundle that is there may be replaced.
            version: of the model; None is 1, or the number after the replaced one's.
            precisions: of encoder and decoder; those that fail their proof are left out.
            data: what it was trained on, each with `name` and `licence`.

        Raises:
            DataError: it isn't trained.
            ParityError: the fp32 graphs don't do what the network does; nothing was written.
            BundleError: there is a bundle that isn't to be replaced.
        """
        if self._checkpoint is None or self._images is None:
            raise DataError(_NOT_TRAINED)
        if self._own:
            self._checkpoint.facts["own_modules"] = self._own
        bundle = export(
            self._checkpoint,
            sample(self._images),
            Path(out),
            version=version,
            precisions=precisions,
            replace=replace,
            data=tuple(data),
            model=self.network,
        )
        Console(soft_wrap=True).print(f"{out}: {bundle.manifest.name}, serve it or tessera.load it")
        return bundle

    def _codec(self) -> CheckpointCodec:
        if self._checkpoint is None:
            raise DataError(_NOT_TRAINED)
        return CheckpointCodec(self.network)


def _toml(value: Any) -> str:
    """A value as it is written in TOML, which `override` reads."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, (tuple, list)) else repr(value)


def _check_shapes(network: Tokenizer) -> None:
    """Refuse modules that don't fit together, before anything is trained.

    Raises:
        ConfigError: naming the module, with the shape that it gives and the one that it should.
    """
    config = network.config
    stride, width = config.network.stride, config.quantizer.width
    pixels = (1, config.data.channels, 2 * stride, 3 * stride)
    latents = (1, width, 2, 3)
    for name, module, given, wanted in (
        ("encoder", network.encoder, pixels, latents),
        ("decoder", network.decoder, latents, pixels),
    ):
        training = module.training
        try:
            with torch.no_grad():
                made = tuple(module.eval()(torch.zeros(given)).shape)
        except RuntimeError as error:
            line = str(error).splitlines()[0]
            raise ConfigError(f"the {name} fails on {list(given)}: {line}") from error
        finally:
            module.train(training)
        if made != wanted:
            raise ConfigError(
                f"the {name} makes {list(made)} of {list(given)}, not {list(wanted)}: the stride "
                f"is {stride} and quantizer.width {width}"
            )
    sizes = tuple(network.quantizer.sizes)
    if sizes != tuple(config.quantizer.stages):
        raise ConfigError(
            f"the quantizer has {list(sizes)} codes, the configuration "
            f"{list(config.quantizer.stages)}: set quantizer.size to its own"
        )
