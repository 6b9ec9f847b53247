"""What the library raises itself; refusals of images and codes are the client's errors."""

from __future__ import annotations

from tessera_client import TesseraError


class ModelUnavailable(TesseraError):
    """The model isn't there, or can't run here; the text says why in a line."""
