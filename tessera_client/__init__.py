"""Client of Tessera, the image tokenizer service: images to codes and back.

`Client` and `AsyncClient` have the same methods. `Codes` is what encoding gives, and what a
`.tess` file holds.
"""

from tessera_client.async_client import AsyncClient
from tessera_client.client import Client
from tessera_client.codes import Codes, Grid
from tessera_client.errors import (
    CodesError,
    ServerError,
    SetupError,
    TesseraError,
    Unreachable,
)
from tessera_client.flows import Reconstruction
from tessera_client.labels import Classification, Label

__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "Codes",
    "CodesError",
    "Grid",
    "Label",
    "Reconstruction",
    "ServerError",
    "SetupError",
    "TesseraError",
    "Unreachable",
]
