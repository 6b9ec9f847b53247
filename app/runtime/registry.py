"""All loaded models and their names: an immutable snapshot that is replaced as a whole."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import CodeSpaceMismatch, ModelNotFound
from app.runtime.engine import TILE_PIXELS
from app.runtime.model import Model, load_model
from app.runtime.sessions import GraphRefused
from app.settings import SHIPPED_MODEL
from bundle import BundleError
from bundle.folder import MANIFEST_FILE
from bundle.version_order import version_order

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from app.runtime.device import Device

_log = logging.getLogger(__name__)


class ModelsRefused(Exception):
    """The models folder can't be served; one line that names the bundle and says why."""


@dataclass(frozen=True, eq=False)
class Models:
    """All loaded models. Requests hold on to the snapshot they began with.

    A name alone, such as `photo-f8`, means the newest version that is loaded; `photo-f8@1` means
    that version.

    Attributes:
        by_name: each model once: the newest of a name under that name, then its older versions
            under `name@version`; names in alphabetical order.
        default: the model for requests that name none.
    """

    by_name: Mapping[str, Model]
    default: Model

    def get(self, name: str | None, version: str | None = None) -> Model:
        """The model of that name, or name and version; the default if None.

        Raises:
            ModelNotFound: no such model is loaded.
        """
        if name is None:
            return self.default
        return self._named(name, version)[0]

    @property
    def default_name(self) -> str:
        """What the default is called in `by_name`."""
        return next(name for name, model in self.by_name.items() if model is self.default)

    def aliases(self, model: Model) -> list[str]:
        """What else than its id means this model now."""
        return [model.name] if self.by_name[model.name] is model else []

    def versions(self, name: str) -> list[str]:
        """The loaded versions of a model, the newest first."""
        return [m.manifest.version for m in self.by_name.values() if m.name == name]

    def _named(self, name: str, version: str | None = None) -> list[Model]:
        """The newest version and then the older ones; or the one that is named."""
        base, _, pinned = name.partition("@")
        wanted = {None, version, pinned or None}
        found = [
            model
            for model in self.by_name.values()
            if model.name == base and wanted <= {None, model.manifest.version}
        ]
        if not found:
            raise ModelNotFound(f"no such model is loaded; loaded: {', '.join(self.by_name)}")
        return found

    def of_code_space(
        self, code_space: str, name: str | None = None, prior: str | None = None
    ) -> Model:
        """The model that decodes codes of that space: the default, if it can.

        Args:
            code_space: digest that came with the codes.
            name: name of the model, if the request names one.
            prior: beginning of the digest of the prior that the codes were coded with, if they
                were.

        Raises:
            ModelNotFound: a model is named that isn't loaded.
            PriorNotFound: none of those with the code space has the prior.
            CodeSpaceMismatch: the named model in all its versions, or every loaded one, has
                another code space.
        """
        # The newest of each name before any older one: they come first in `_by_age`.
        candidates = [self.default, *_by_age(self.by_name)] if name is None else self._named(name)
        fitting = [model for model in candidates if model.manifest.code_space == code_space]
        for model in fitting:
            if prior is None or (model.prior and model.prior.digest.startswith(prior)):
                return model
        if fitting and prior is not None:
            fitting[0].prior_of(prior)  # says what is missing
        loaded = ", ".join(
            f"{key} ({model.manifest.code_space})" for key, model in self.by_name.items()
        )
        whose = "no loaded model" if name is None else "not the named model"
        raise CodeSpaceMismatch(f"these codes are of a space that {whose} has; loaded: {loaded}")


def load_models(
    folder: Path,
    default: str | None,
    device: Device,
    precision: str,
    *,
    tile_pixels: int = TILE_PIXELS,
    concurrent: bool = False,
) -> Models:
    """Open every bundle in a folder, load its graphs and run them once.

    Args:
        folder: every folder in it must be a good bundle; those that hold nothing of a model are
            named in the log and skipped. Or a bundle itself, which is then the only one.
        default: name of the default model, or name@version; None takes the only one, or the
            shipped one.
        device: device that all of them run on.
        precision: precision asked for, as in `choose_precision`.
        tile_pixels: most pixels of one run, as in `Graphs`.
        concurrent: load everything for concurrent runs on one core each too, where the device has
            several cores.

    Raises:
        ModelsRefused: a bundle is broken, two have one name and version, there are none, or no
            default.
    """
    if not folder.is_dir():
        raise ModelsRefused(f"TESSERA_MODELS_DIR: there is no folder {folder.name!r}")
    loaded: dict[tuple[str, str], Model] = {}
    alone = (folder / MANIFEST_FILE).is_file()
    for path in [folder] if alone else sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_dir():
            continue
        if is_stray(path) and path.name != str(default).partition("@")[0]:
            _log.warning("skipped the folder %s: it holds no model", path.name)
            continue
        try:
            model = load_model(path, device, precision, tile_pixels, concurrent)
        except (BundleError, GraphRefused) as error:
            text = str(error).removeprefix(f"{path.name}: ")
            raise ModelsRefused(f"bundle {path.name}: {text}") from error
        except OSError as error:
            raise ModelsRefused(f"bundle {path.name}: can't be read: {error.strerror}") from error
        key = model.name, model.manifest.version
        if key in loaded:
            other = loaded[key].bundle.path.name
            raise ModelsRefused(
                f"bundles {other} and {path.name} are both named {model.name}, version {key[1]}"
            )
        loaded[key] = model
    if not loaded:
        raise ModelsRefused(f"TESSERA_MODELS_DIR: there is no bundle in {folder.name!r}")
    by_name: dict[str, Model] = {}
    newest_first = sorted(loaded.items(), key=lambda item: version_order(item[0][1]), reverse=True)
    for (name, version), model in sorted(newest_first, key=lambda item: item[0][0]):
        by_name[f"{name}@{version}" if name in by_name else name] = model
    return Models(by_name, _choose_default(by_name, default))


def is_stray(path: Path) -> bool:
    """Whether a folder among the bundles holds nothing of a model, not even of half of one."""
    return not (path / MANIFEST_FILE).exists() and not any(path.glob("*.onnx"))


def _by_age(by_name: Mapping[str, Model]) -> list[Model]:
    """The newest version of every name, then all the others."""
    return [model for _, model in sorted(by_name.items(), key=lambda item: "@" in item[0])]


def _choose_default(by_name: Mapping[str, Model], named: str | None) -> Model:
    loaded = ", ".join(by_name)
    if named is not None:
        name, _, version = named.partition("@")
        for model in by_name.values():
            if model.name == name and version in {"", model.manifest.version}:
                return model
        raise ModelsRefused(f"TESSERA_DEFAULT_MODEL is {named!r}, but loaded are: {loaded}")
    if SHIPPED_MODEL in by_name:
        return by_name[SHIPPED_MODEL]
    if len({model.name for model in by_name.values()}) > 1:
        raise ModelsRefused(
            f"several models are loaded, set TESSERA_DEFAULT_MODEL to one of: {loaded}"
        )
    return next(iter(by_name.values()))
