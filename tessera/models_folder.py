"""Where the models are that come with Tessera: in a checkout, or in what was installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.settings import Settings

_ROOT = Path(__file__).parents[2]
# `models` of a checkout is installed under a name that can't clash with another package's.
_SHIPPED = (_ROOT / "models", _ROOT / "tessera_models")


def with_shipped_models(settings: Settings) -> Settings:
    """The settings with the models that come with Tessera, if no folder is named and none is here.

    So a command works in whatever folder the pictures are.
    """
    if "models_dir" in settings.model_fields_set or settings.models_dir.is_dir():
        return settings
    for folder in _SHIPPED:
        if folder.is_dir():
            return settings.model_copy(update={"models_dir": folder})
    return settings
