"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from training.tokenizer.config import Config, ConfigError
from training.tokenizer.config_file import from_dict

FORMAT = 1


class CheckpointError(ValueError):
    """A file that is no checkpoint of this program, or not one of a version it reads."""


@dataclass(frozen=True)
class Checkpoint:
    """State after `step` optimizer steps.

    Attributes:
        config: of the run.
        step: steps done.
        model: state of the weights and of the quantizer as trained.
        averaged: the same with the weights' moving average; this is what gets exported.
        optimizer: state of the optimizer of the phase.
        facts: about the run so far, for the model card (images seen, seconds, data …).
        discriminator: state of the phase's discriminator and of its optimizer; empty without one.
    """

    config: Config
    step: int
    model: dict[str, Any]
    averaged: dict[str, Any]
    optimizer: dict[str, Any]
    facts: dict[str, Any]
    discriminator: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes beside the target and renames: a half-written checkpoint is never seen.

    Raises:
        OSError: it can't be written, because the disk is full, say.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "format": FORMAT,
        "config": checkpoint.config.to_dict(),
        "step": checkpoint.step,
        "model": checkpoint.model,
        "averaged": checkpoint.averaged,
        "optimizer": checkpoint.optimizer,
        "facts": checkpoint.facts,
        "discriminator": checkpoint.discriminator,
    }
    content = io.BytesIO()  # torch.save would turn a full disk into an error of its own
    torch.save(values, content)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint onto the CPU, without executing anything that is in it.

    Raises:
        CheckpointError: no such file, not a checkpoint, or of another version.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint at {path}") from error
    except Exception as error:  # pickle, zip and torch each have errors of their own
        raise CheckpointError(f"{path} is not a readable checkpoint") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of format {FORMAT}")
    try:
        config = from_dict(values["config"])
    except ConfigError as error:
        raise CheckpointError(
            f"{path} holds a configuration this version can't read: {error}"
        ) from error
    keys = ("step", "model", "averaged", "optimizer", "facts")
    # Checkpoints from before there were discriminators have no word of them.
    discriminator = values.get("discriminator", {})
    return Checkpoint(config, **{key: values[key] for key in keys}, discriminator=discriminator)
