"""Trained weights that a new run begins from: a bundle's graphs, or a checkpoint.

A bundle needs no checkpoint beside it: its fp32 graphs keep the names of the networks' weights.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from bundle import Bundle, BundleError, open_bundle
from bundle.manifest import codebook_file
from training.tokenizer.checkpoint import CheckpointError, load_checkpoint
from training.tokenizer.config import Config, ConfigError
from training.tokenizer.config_file import from_dict
from training.tokenizer.model import Tokenizer
from training.tokenizer.networks import decoder_of
from training.tokenizer.networks.convolutional import Decoder
from training.tokenizer.widening import widen_into

# Without settings of its own, fine-tuning is a short run at a low learning rate.
_FINE_TUNING = {"steps": 1000, "learning_rate": 3e-4, "warmup_steps": 50}


@dataclass(frozen=True)
class InitialWeights:
    """What a trained model gives to a new one.

    Attributes:
        name: of the model.
        code_space: of the bundle; empty for a checkpoint.
        configuration: that it was trained with.
        encoder: state of the encoder, by the names that it has in `Encoder`.
        codebooks: float32 `[K, d]` of each stage, as `Quantizer.codebooks` gives them.
        decoder: state of the main decoder.
        networks: facts about the frozen networks that it was trained with.
        factors: of its codes, as `Quantizer.factors`.
    """

    name: str
    code_space: str
    configuration: dict[str, Any]
    encoder: dict[str, Tensor]
    codebooks: tuple[Tensor, ...]
    decoder: dict[str, Tensor]
    networks: tuple[dict[str, str], ...] = ()
    factors: tuple[int, ...] = ()

    def facts(self) -> dict[str, str]:
        """What a checkpoint and a model card say about the start."""
        return {"name": self.name, "code_space": self.code_space}


def read_initial_weights(path: Path) -> InitialWeights:
    """Reads a bundle's folder or a checkpoint's file.

    Raises:
        ConfigError: it is neither, or its graphs don't hold the weights by their names.
    """
    try:
        return _of_bundle(path) if path.is_dir() else _of_checkpoint(path)
    except (BundleError, CheckpointError) as error:
        raise ConfigError(f"--from {path}: {error}") from error


def put_into(model: Tokenizer, start: InitialWeights) -> list[str]:
    """Gives a model the weights that fit it.

    The encoder and the first stage's codebook must fit. Further stages begin anew where they have
    another shape. A larger decoder begins with the function of the one that there is, any
    other one anew.

    Returns:
        A line for each part that isn't simply taken.

    Raises:
        ConfigError: the encoder or the first codebook has another shape.
    """
    if not _load(model.encoder, start.encoder):
        raise ConfigError(
            f"the encoder of {start.name} has another shape than [network] and quantizer.width say"
        )
    if model.quantizer.factors != start.factors:
        raise ConfigError(f"the codes of {start.name} are made up otherwise than [quantizer] says")
    try:
        lines = model.quantizer.start_from(start.codebooks)
    except ValueError as error:
        raise ConfigError(f"--from {start.name}: {error}; [quantizer] must be as there") from error
    if not _load(model.decoder, start.decoder):
        if _widen(model, start):
            lines.append(f"the decoder is larger and begins with the function of {start.name}'s")
        else:
            lines.append(f"the decoder begins anew: that of {start.name} has another shape")
    return lines


def fine_tuning_config(start: InitialWeights, name: str) -> Config:
    """The configuration of a trained model, for a short run that goes on from it.

    Raises:
        ConfigError: the model doesn't say how it was made, or another version of this program did.
    """
    if not start.configuration:
        raise ConfigError(f"{start.name} doesn't record its configuration: name a preset or a file")
    values = {**start.configuration, "name": name, "phases": []}
    values["optimizer"] = {**values["optimizer"], **_FINE_TUNING, "freeze": []}
    return from_dict(values)


def _load(network: nn.Module, state: dict[str, Tensor]) -> bool:
    """Whether the state fits; if so, the network has it."""
    wanted = network.state_dict()
    fits = wanted.keys() == state.keys() and all(
        wanted[name].shape == value.shape for name, value in state.items()
    )
    if fits:
        network.load_state_dict(state)
    return fits


def _widen(model: Tokenizer, start: InitialWeights) -> bool:
    """Whether the model's decoder could take over the function of the one to begin from."""
    try:
        config = from_dict({**start.configuration, "phases": []})
    except ConfigError:  # of another version of this program, or none
        return False
    old = decoder_of(config.network, config.quantizer.width, config.data.channels)
    new = model.decoder
    if not (isinstance(old, Decoder) and isinstance(new, Decoder)):
        return False  # another kind of network, or one of somebody's own
    return _load(old, start.decoder) and widen_into(new, old)


def _of_bundle(path: Path) -> InitialWeights:
    bundle = open_bundle(path)
    manifest = bundle.manifest
    codebooks = [
        np.load(io.BytesIO(bundle.read(codebook_file(stage))), allow_pickle=False)
        for stage in range(manifest.stages)
    ]
    return InitialWeights(
        manifest.name,
        manifest.code_space,
        dict(manifest.training.get("configuration", {})),
        weights_of(bundle, "encoder"),
        tuple(torch.from_numpy(codebook.astype(np.float32)) for codebook in codebooks),
        weights_of(bundle, "decoder"),
        tuple(manifest.training.get("networks", ())),
        manifest.factors,
    )


def weights_of(bundle: Bundle, graph: str, precision: str = "fp32") -> dict[str, Tensor]:
    """The weights of a network, read out of its graph's constants.

    Args:
        bundle: whose graph it is.
        graph: whose name stands before the names of its network's weights.
        precision: of the graph.

    Returns:
        float32, by the names that they have in the network, whatever they are stored as.
    """
    # A further decoder, `decoder-NAME`, has the names of the main one.
    prefix, outside = f"{graph.partition('-')[0]}.", bundle.read_weights(graph)
    model = onnx.load_from_string(bundle.read_graph(graph, precision))
    weights = {}
    for tensor in model.graph.initializer:
        if not tensor.name.startswith(prefix):
            continue
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            where = {entry.key: entry.value for entry in tensor.external_data}
            offset, length = int(where.get("offset", 0)), int(where["length"])
            tensor.raw_data = outside[where["location"]][offset : offset + length]
            tensor.data_location = onnx.TensorProto.DEFAULT
        values = numpy_helper.to_array(tensor).astype(np.float32)
        weights[tensor.name.removeprefix(prefix)] = torch.from_numpy(values)
    return weights


def _of_checkpoint(path: Path) -> InitialWeights:
    checkpoint = load_checkpoint(path)
    model = Tokenizer(checkpoint.config)
    model.load_state_dict(checkpoint.averaged)
    return InitialWeights(
        checkpoint.config.name,
        "",
        checkpoint.config.to_dict(),
        model.encoder.state_dict(),
        tuple(book.detach().clone() for book in model.quantizer.codebooks()),
        model.decoder.state_dict(),
        tuple(checkpoint.facts.get("networks", ())),
        model.quantizer.factors,
    )
