"""A trained tokenizer ready to run: a checkpoint through torch, or a bundle through ONNX Runtime.

Both are a `Codec`, so that what measures a model need not know where it comes from.
"""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bundle import Bundle, BundleError, open_bundle
from bundle.manifest import CODEBOOK_FILE
from imaging.samples import RGB, SampleFormat
from training.data.dataset import Pixels
from training.onnx_export.graphs import run, session_of
from training.tokenizer.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from training.tokenizer.config import MAIN_DECODER, Config, ConfigError
from training.tokenizer.config_file import from_dict
from training.tokenizer.model import Tokenizer
from training.tokenizer.quantizers.protocol import choices_of

Codes = NDArray[np.int64]


class Codec(ABC):
    """Images to codes and back, whatever computes it.

    Codes are int64 `[n, h/s, w/s]` or, with several stages, `[n, stages, h/s, w/s]`.

    Attributes:
        name: of the model.
        runtime: what computes it, for people to read.
        stride: pixels along one side of the patch that one code stands for.
        codebook_sizes: number of codes of each stage.
        decoders: names of further decoders.
        config: of the training run; None where a bundle doesn't tell.
        samples: what the pixels are; pictures are uint8 `[…, h, w, 3]` unless it says otherwise.
    """

    name: str
    runtime: str
    stride: int
    codebook_sizes: tuple[int, ...]
    decoders: tuple[str, ...]
    config: Config | None
    samples: SampleFormat = RGB

    @property
    def codebook_size(self) -> int:
        """Number of codes K of the first stage."""
        return self.codebook_sizes[0]

    @property
    def stages(self) -> int:
        """How many codes each patch has."""
        return len(self.codebook_sizes)

    @property
    def bits(self) -> int:
        """Bits one code of the first stage takes at a fixed length: ⌈log2 K⌉."""
        return self.stage_bits[0]

    @property
    def stage_bits(self) -> tuple[int, ...]:
        """Bits that one code of each stage takes at a fixed length."""
        return tuple((size - 1).bit_length() for size in self.codebook_sizes)

    @abstractmethod
    def encode(self, pixels: Pixels) -> Codes:
        """uint8 `[n, h, w, 3]`, sides multiples of the stride → codes of all stages."""

    @abstractmethod
    def decode(self, codes: Codes, decoder: str | None = None) -> Pixels:
        """Codes of all stages or the first few → uint8 `[n, h, w, 3]`.

        Args:
            codes: int64; without an axis of stages, of the first one.
            decoder: the name of a further decoder; None is the main one.
        """

    @abstractmethod
    def embed(self, codes: Codes) -> NDArray[np.float32] | None:
        """Codes, of which the first stage counts → float32 `[n, e]` of unit length.

        None: it has no embedder.
        """

    def encode_image(self, image: Pixels) -> Codes:
        """Codes of one image of any size: uint8 `[h, w, 3]` → int64 `[(stages,) ⌈h/s⌉, ⌈w/s⌉]`."""
        codes: Codes = self.encode(pad_to_stride(image, self.stride)[None])[0]
        return codes

    def decode_image(
        self, codes: Codes, height: int, width: int, decoder: str | None = None
    ) -> Pixels:
        """One image of the size it had: int64 `[(stages,) ⌈h/s⌉, ⌈w/s⌉]` → uint8 `[h, w, 3]`."""
        pixels: Pixels = self.decode(codes[None], decoder)[0, :height, :width]
        return pixels


class CheckpointCodec(Codec):
    """A checkpoint's averaged weights, run by torch on the CPU."""

    def __init__(self, model: Tokenizer, embedder: nn.Module | None = None) -> None:
        self.model = model.eval()
        self.config = model.config
        self.name, self.runtime = model.config.name, "torch fp32"
        self.stride = model.config.network.stride
        self.codebook_sizes = tuple(model.config.quantizer.stages)
        self.decoders = tuple(model.config.other_decoders)
        self.samples = model.config.data.samples
        self.embedder = embedder

    def encode(self, pixels: Pixels) -> Codes:
        """See the base class."""
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(pixels))
            codes: Codes = self.model.encode(images).numpy()
        return codes

    def decode(self, codes: Codes, decoder: str | None = None) -> Pixels:
        """See the base class."""
        with torch.inference_mode():
            made = self.model.decode(torch.from_numpy(codes), decoder or MAIN_DECODER)
            return np.ascontiguousarray(made.numpy())

    def embed(self, codes: Codes) -> NDArray[np.float32] | None:
        """See the base class."""
        if self.embedder is None:
            return None
        with torch.inference_mode():
            embedding: NDArray[np.float32] = self.embedder(
                torch.from_numpy(first_stage(codes))
            ).numpy()
        return embedding


class BundleCodec(Codec):
    """A bundle's graphs, run by ONNX Runtime on the CPU.

    Graphs that don't come in the wanted precision (an embedder has no need of
    int8) are taken in fp32.

    Attributes:
        fingerprint: SHA-256 of the files that make its codes, encoder and quantizer. The code
            space doesn't tell: it stays the same when only the encoder is another.

    Raises:
        BundleError: no graph of it comes in that precision.
    """

    def __init__(self, bundle: Bundle, precision: str = "fp32", threads: int = 0) -> None:
        manifest = bundle.manifest
        decoders = (decoder.graph for decoder in manifest.decoders.values())
        names = ("encoder", "quantizer", "decoder", "embedder", *decoders)
        if not any(precision in bundle.precisions(name) for name in names):
            raise BundleError(f"{bundle.path.name} has no graph in precision {precision!r}")
        graphs = {
            name: bundle.read_graph(
                name, precision if precision in bundle.precisions(name) else "fp32"
            )
            for name in names
        }
        weights = {name: bundle.read_weights(name) for name in names}
        self._sessions = {
            name: session_of(graph, threads, weights[name]) for name, graph in graphs.items()
        }
        parts = [graphs["encoder"], *weights["encoder"].values(), graphs["quantizer"]]
        self.fingerprint = hashlib.sha256(b"".join(parts)).hexdigest()
        self.name, self.runtime = manifest.name, f"ONNX Runtime {precision}"
        self.stride, self.codebook_sizes = manifest.stride, manifest.codebook_sizes
        self.decoders, self._manifest = tuple(manifest.decoders), manifest
        self.samples = SampleFormat(manifest.channels, manifest.sample_maximum)
        self.config = _config_of(manifest.training)

    def encode(self, pixels: Pixels) -> Codes:
        """See the base class."""
        latents = run(self._sessions["encoder"], pixels)
        return run(self._sessions["quantizer"], latents)

    def decode(self, codes: Codes, decoder: str | None = None) -> Pixels:
        """See the base class."""
        if self.stages > 1 and codes.ndim == 3:  # the first stage alone
            codes = codes[:, None]
        return run(self._sessions[self._manifest.decoder_graph(decoder)], codes)

    def embed(self, codes: Codes) -> NDArray[np.float32]:
        """See the base class."""
        return run(self._sessions["embedder"], np.ascontiguousarray(first_stage(codes)))


def open_codec(path: Path, precision: str = "fp32", threads: int = 0) -> Codec:
    """A bundle folder or a checkpoint file, whichever the path is.

    Args:
        path: of the folder or file.
        precision: of a bundle's graphs; a checkpoint has fp32 only.
        threads: for ONNX Runtime; 0 means all cores. torch has a setting of its own.

    Raises:
        BundleError: the folder is not a sound bundle, or lacks the precision.
        CheckpointError: the file is not a checkpoint of this version or is a plain
            autoencoder's, or another precision than fp32 is wanted of it.
    """
    if path.is_dir():
        return BundleCodec(open_bundle(path), precision, threads)
    if precision != "fp32":
        raise CheckpointError(f"a checkpoint runs in fp32; {precision} needs an exported bundle")
    return CheckpointCodec(tokenizer_of(load_checkpoint(path)))


def tokenizer_of(checkpoint: Checkpoint) -> Tokenizer:
    """The model of a checkpoint with its averaged weights, on the CPU and ready to run.

    Raises:
        CheckpointError: a plain autoencoder, which has no codes, or its weights don't fit it.
    """
    if not checkpoint.config.quantizer.stages:
        raise CheckpointError("a plain autoencoder (quantizer.kind = none) has no codes")
    model = Tokenizer(checkpoint.config)
    try:
        model.load_state_dict(checkpoint.averaged)
    except RuntimeError as error:
        raise CheckpointError("the checkpoint's weights don't fit its configuration") from error
    model.eval().requires_grad_(requires_grad=False)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def code_vectors(bundle: Bundle) -> NDArray[np.float32]:
    """The vectors of all codes of a bundle's first stage: float32 `[K, d]`.

    Raises:
        BundleError: the file isn't of the shape that the manifest says.
    """
    manifest = bundle.manifest
    content = io.BytesIO(bundle.read(CODEBOOK_FILE))
    table: NDArray[np.float32] = np.load(content, allow_pickle=False).astype(np.float32)
    if table.shape != manifest.codebook_shape:
        raise BundleError(f"{CODEBOOK_FILE} of {bundle.path.name} isn't of the manifest's shape")
    if not manifest.factors:
        return table
    codes = torch.arange(manifest.codebook_size)
    vectors: NDArray[np.float32] = choices_of(
        codes, torch.from_numpy(table), manifest.factors
    ).numpy()
    return vectors


def pad_to_stride(image: Pixels, stride: int) -> Pixels:
    """uint8 `[h, w, 3]` grown at the bottom and right to multiples of the stride, edges repeated.

    The same padding as the service's, so that figures here are of what it serves.
    """
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")


def first_stage(codes: Codes) -> Codes:
    """The first stage of a batch's codes: `[n, (stages,) rows, columns]` → `[n, rows, columns]`."""
    return codes if codes.ndim == 3 else codes[:, 0]


def _config_of(training: Any) -> Config | None:
    try:
        return from_dict(training["configuration"])
    except (KeyError, TypeError, ConfigError):
        return None
