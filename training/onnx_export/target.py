"""The folder that a bundle is written to: what it holds, and that nothing in it is lost silently.

No command replaces a bundle, lowers its version or drops a part of it unless it is told to with
`--replace`; and what is replaced is named.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bundle import (
    Bundle,
    BundleError,
    BundleExists,
    Manifest,
    open_bundle,
    read_manifest,
    write_bundle,
)
from bundle.manifest import NAME
from training.data.dataset import DataError
from training.onnx_export.model_card import model_card
from training.onnx_export.replace_graph import MODEL_CARD_FILE


def refuse_to_replace(path: Path, *, replace: bool) -> str | None:
    """What writing a new bundle to a folder would replace, in words; None if nothing is there.

    Call it before the long part of the work, and show the answer when it is done.

    Args:
        path: of the folder that a new bundle is to be written to.
        replace: whether it may be replaced.

    Raises:
        BundleExists: there is a bundle and `replace` is False, or what is there is no bundle.
    """
    if not path.exists():
        return None
    if not (path / "manifest.json").is_file():
        raise BundleExists(f"{path} exists and is not a bundle, so it is not replaced")
    there = contents(path)
    if not replace:
        raise BundleExists(
            f"{path} holds {there}, which would be lost; choose another --out, or give --replace"
        )
    return there


def contents(path: Path) -> str:
    """A bundle and the parts of it that exporting doesn't make, in one phrase."""
    try:
        manifest = read_manifest(path)
    except BundleError as error:
        return f"a bundle that can't be opened ({error})"
    return describe(manifest)


def describe(manifest: Manifest) -> str:
    """The same of an opened bundle's manifest."""
    parts = []
    if has_learnt_embedder(manifest):
        parts.append("its learnt embedder")
    if manifest.decoders:
        names = ", ".join(sorted(manifest.decoders))
        parts.append(f"the decoder{'s' if len(manifest.decoders) > 1 else ''} {names}")
    if manifest.prior is not None:
        parts.append("its prior")
    if manifest.recognizers:
        names = ", ".join(sorted(manifest.recognizers))
        parts.append(f"the recognizer{'s' if len(manifest.recognizers) > 1 else ''} {names}")
    *first, last = parts or [""]
    with_parts = f" with {', '.join(first)}{' and ' if first else ''}{last}" if parts else ""
    return f"{manifest.name}, version {manifest.version},{with_parts}".rstrip(",")


def has_learnt_embedder(manifest: Manifest) -> bool:
    """Whether the embedder comes from `training.learn_embedder` and not from export."""
    return "embedder" in manifest.training


def version_of_new(path: Path, name: str, stated: str | None) -> str:
    """The version of a bundle that is about to be written to a folder.

    Args:
        path: of the folder.
        name: of the model.
        stated: the version that was asked for, if any.

    Returns:
        The stated one; else the number after that of the bundle of the same name which is
        replaced; else `1`.

    Raises:
        DataError: the version that is replaced is no number, so that none follows it.
    """
    if stated is not None:
        return stated
    try:
        there = read_manifest(path)
    except BundleError:
        return "1"
    return next_version(there.version) if there.name == name else "1"


def next_version(version: str) -> str:
    """The version after one that is a whole number.

    Raises:
        DataError: it isn't.
    """
    if not version.isdecimal():
        raise DataError(f"the bundle's version is {version!r}: say with --version what follows it")
    return str(int(version) + 1)


def refuse_lower_version(old: str, new: str) -> None:
    """Holds a new version to being above the old one, where both are numbers, or another.

    Raises:
        BundleExists: it isn't; vectors of the two could not be told apart.
    """
    raised = int(new) > int(old) if old.isdecimal() and new.isdecimal() else new != old
    if not raised:
        raise BundleExists(
            f"--version {new} does not raise the bundle's version {old}, and vectors of the two "
            "could be mistaken for each other; choose a higher one, or give --replace"
        )


def manifest_of_target(bundle: Bundle, out: Path) -> Manifest:
    """The manifest of the bundle that a graph made for `bundle` is to be written into.

    Call it before the long part of the work.

    Args:
        bundle: whose codes the graph is for.
        out: its own folder, that of another bundle of its code space, or one to be made.

    Raises:
        BundleError: what is there is no bundle, or one of another code space; or a copy can't be
            named after the folder.
    """
    if not out.exists():
        return dataclasses.replace(bundle.manifest, name=_name_of(out))
    there = open_bundle(out).manifest
    if there.code_space != bundle.manifest.code_space:
        raise BundleError(
            f"{out} is of another code space than {bundle.path}: what is made for the codes of "
            "one doesn't fit those of the other; choose another --out"
        )
    return there


def copy_if_absent(bundle: Bundle, out: Path) -> None:
    """Makes `out` a copy of the bundle, named after its folder, unless there is a bundle already.

    The name is another since a service refuses two models of one name and version.

    Raises:
        BundleError: a copy can't be named after the folder.
    """
    if out.exists():
        return
    manifest = dataclasses.replace(bundle.manifest, name=_name_of(out))
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    files[MODEL_CARD_FILE] = model_card(manifest).encode()
    write_bundle(out, manifest, files)


def _name_of(folder: Path) -> str:
    name = folder.resolve().name.lower()
    if not NAME.fullmatch(name):
        raise BundleError(
            f"a copy of the bundle takes its folder's name, which must match {NAME.pattern}, and "
            f"{name!r} doesn't; choose another --out"
        )
    return name
