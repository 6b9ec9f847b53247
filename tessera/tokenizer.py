"""A model in this process, with the methods of the client."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from app.settings import Settings
from tessera.errors import ModelUnavailable
from tessera.in_process import ADDRESS, OWN_LIMITS, InProcess
from tessera.models_folder import find_bundle
from tessera_client import Client

if TYPE_CHECKING:
    import os

# Bytes of images that are handed to the queue together.
_BATCH_BYTES = 64 * 2**20


class Tokenizer(Client):
    """The models of some settings, loaded in this process; `load` makes one of a single model.

    It has all methods of `tessera_client.Client`, and what they do is what the service does: the
    same preprocessing, queue and graphs, so the same codes. Close it, or use it in a `with`
    statement; one that is left open ends with the program.

    Args:
        settings: of the service that it is.
        model: the model that every call means; None is the default one for images, and for codes
            the one that has their code space.
        batch_images: most images that are handed over together.

    Raises:
        ModelUnavailable: the models can't be loaded.
    """

    def __init__(
        self, settings: Settings, *, model: str | None = None, batch_images: int = 16
    ) -> None:
        transport = InProcess(settings)
        # By whichever thread collects the garbage, maybe the service's own: so in another one.
        ending = threading.Thread(target=transport.close, name="tessera-close", daemon=True)
        self._when_collected = weakref.finalize(self, ending.start)
        self._when_collected.atexit = False  # the transport sees to that
        super().__init__(
            ADDRESS,
            model=model,
            retry_for_s=0,
            batch_images=batch_images,
            batch_bytes=_BATCH_BYTES,
            transport=transport,
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What the default model's manifest says, as `GET /v1/models/{name}` answers."""
        default = self.request("GET", "/v1/models").json()["default"]
        found: dict[str, Any] = self.request("GET", f"/v1/models/{default}").json()
        return found

    def close(self) -> None:
        """End the threads and free the model."""
        self._when_collected.detach()
        super().close()


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    models_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    batch_images: int = 16,
    batch_pixels: int = 0,
) -> Tokenizer:
    """Load a model in this process.

    Args:
        model: its name, `name@version`, or the path of its bundle; None takes the default model.
        models_dir: the folder that a name is looked up in; None takes TESSERA_MODELS_DIR, else
            `models` of the working directory, else the models that came with Tessera.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: of encoder and decoder: `auto`, `fp32`, `fp16` or `int8`.
        threads: most CPU threads of one run of a graph; 0: all CPUs that the process may use.
        batch_images: most images that are handed over together.
        batch_pixels: most pixels stacked for one run; 0: 65,536 on a CPU, 4,194,304 on CUDA.

    Raises:
        ModelUnavailable: there is no such model, it is broken, or it doesn't run on that device.
        ValueError: an argument can't be used.
    """
    asked = {
        "models_dir": find_bundle(model, None if models_dir is None else Path(models_dir)),
        "device": device,
        "precision": precision,
        "threads": threads,
        "max_batch_pixels": batch_pixels,
    }
    try:
        settings = Settings.model_validate({**OWN_LIMITS, "log_level": "error", **asked})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ValueError(f"{problem['loc'][0]}={problem['input']!r}: {problem['msg']}") from None
    try:
        return Tokenizer(settings, batch_images=batch_images)
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        raise ModelUnavailable(
            "ONNX Runtime is missing; it comes with one of the extras cpu and gpu: "
            "pip install 'tessera[cpu]'"
        ) from error
