"""Where the models are: a folder that is named, the one that is here, or what came with Tessera."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from app.settings import PREFIX, SHIPPED_MODEL
from bundle import BundleError, read_manifest
from bundle.folder import MANIFEST_FILE
from bundle.version_order import version_order
from tessera.errors import ModelUnavailable

if TYPE_CHECKING:
    from app.settings import Settings

MODELS_DIR_VARIABLE = f"{PREFIX}MODELS_DIR"

_ROOT = Path(__file__).parents[1]
# `models` of a checkout is installed under a name that can't clash with another package's.
_SHIPPED = (_ROOT / "models", _ROOT / "tessera_models")


def with_shipped_models(settings: Settings) -> Settings:
    """The settings with the models that come with Tessera, if no folder is named and none is here.

    So a command works in whatever folder the pictures are.
    """
    if "models_dir" in settings.model_fields_set or settings.models_dir.is_dir():
        return settings
    shipped = _shipped_models()
    return settings if shipped is None else settings.model_copy(update={"models_dir": shipped})


def find_bundle(model: str | os.PathLike[str] | None, models_dir: Path | None = None) -> Path:
    """The folder of a model.

    Args:
        model: path of a bundle; or the name of a model, of which the newest version is taken, or
            `name@version`; None is the shipped one where it is, or the only one.
        models_dir: where names are looked up; None takes TESSERA_MODELS_DIR, else `models` of the
            working directory, else the models that came with Tessera.

    Raises:
        ModelUnavailable: there is none, or several and none is named.
    """
    if model is not None and _is_path(model):
        path = Path(model)
        if not (path / MANIFEST_FILE).is_file():
            raise ModelUnavailable(f"{path} is not a bundle: it has no {MANIFEST_FILE}")
        return path
    folder = _folder_of_models() if models_dir is None else models_dir
    found = _bundles(folder)
    if not found:
        raise ModelUnavailable(f"there is no model in {folder}: name a bundle's folder")
    name, _, version = (str(model) if model is not None else _default_of(found)).partition("@")
    for there, its_version, path in found:
        if there == name and version in {"", its_version}:
            return path
    raise ModelUnavailable(f"there is no model {model} in {folder}; there is {_listed(found)}")


def _is_path(model: str | os.PathLike[str]) -> bool:
    return isinstance(model, os.PathLike) or "/" in model or os.sep in model


def _folder_of_models() -> Path:
    named = os.environ.get(MODELS_DIR_VARIABLE, "").strip()
    if named:
        return Path(named)
    here = Path("models")
    return here if here.is_dir() else _shipped_models() or here


def _shipped_models() -> Path | None:
    return next((folder for folder in _SHIPPED if folder.is_dir()), None)


def _bundles(folder: Path) -> list[tuple[str, str, Path]]:
    """Name, version and folder of each bundle, the newest version of a name first."""
    if not folder.is_dir():
        raise ModelUnavailable(f"there is no folder {folder}: name a bundle's folder")
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path / MANIFEST_FILE).is_file():
            continue
        try:
            manifest = read_manifest(path)
        except BundleError as error:
            raise ModelUnavailable(str(error)) from error
        found.append((manifest.name, manifest.version, path))
    return sorted(found, key=lambda one: version_order(one[1]), reverse=True)


def _default_of(found: list[tuple[str, str, Path]]) -> str:
    names = {name for name, _, _ in found}
    if SHIPPED_MODEL in names:
        return SHIPPED_MODEL
    if len(names) > 1:
        raise ModelUnavailable(f"there are several models, name one of {_listed(found)}")
    return names.pop()


def _listed(found: list[tuple[str, str, Path]]) -> str:
    return ", ".join(sorted({name for name, _, _ in found}))
