"""Tessera in a Python program: images to codes and back, by a model in this process.

::

    import tessera

    tokenizer = tessera.load("photo-f8")
    codes = tokenizer.encode("photo.jpg")
    (pixels,) = tokenizer.decode(codes)

A `Tokenizer` has the methods of `tessera_client.Client`, so that a program moves between a model
of its own and a running service by changing one line. Nothing here needs torch.
"""

from tessera.errors import ModelUnavailable
from tessera.tokenizer import Tokenizer, load
from tessera_client import (
    Classification,
    Codes,
    CodesError,
    Grid,
    Label,
    Reconstruction,
    ServerError,
    TesseraError,
)

__all__ = [
    "Classification",
    "Codes",
    "CodesError",
    "Grid",
    "Label",
    "ModelUnavailable",
    "Reconstruction",
    "ServerError",
    "TesseraError",
    "Tokenizer",
    "load",
]
