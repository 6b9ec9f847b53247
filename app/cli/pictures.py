"""`tessera encode`, `decode` and `embed`: the API's operations, on files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from app.cli.code_files import CodeForm, model_facts, read_codes, stacked
from app.cli.failures import MISUSED, CommandFailed
from app.cli.files import Target, read_file, shown, write_file
from app.cli.inputs import InputsArgument, PicturesArgument, read_inputs, read_pictures
from app.cli.options import AsJson, ImageOptions, ModelName, ServiceOptions, Stages
from app.cli.results import codes_json, vectors_json
from app.codecs.npy import write_npy
from imaging.encode import MediaType, encode_image
from imaging.errors import ImageError
from tessera_client import CodesError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from app.cli.inputs import Inputs
    from app.cli.results import Names
    from tessera_client import Codes, ServerError

_PICTURE_TYPES: dict[str, MediaType] = {
    "png": "image/png",
    "webp": "image/webp",
    "jpg": "image/jpeg",
}


def encode(
    pictures: PicturesArgument,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="file for all codes; a folder, with / at its end, for a file of each picture; "
            "- is standard output",
        ),
    ] = "-",
    format: Annotated[  # noqa: A002  (the option's name)
        CodeForm | None,
        typer.Option(help="form of the codes; else as the output's name says, else tess"),
    ] = None,
    *,
    small: Annotated[
        bool,
        typer.Option(
            "--small",
            help="code each by its context: .tess of about a third fewer bytes, which only the "
            "same model reads again",
        ),
    ] = False,
    stages: Stages = None,
    image: ImageOptions,
    model: ModelName = None,
    as_json: AsJson = False,
    service: ServiceOptions,
) -> None:
    """Encode pictures to codes.

    tessera encode photo.jpg -o photo.tess
    """
    target = Target.of(output)
    form = target.form(format, ("tess", "npy", "json"), "tess", as_json=as_json)
    if small and form != "tess":
        raise CommandFailed("--small is for .tess files", MISUSED)
    size = image.wanted()
    given = read_pictures(pictures)
    failed: dict[int, ServerError] = {}
    warnings: dict[int, list[str]] = {}
    with service.client(model) as client:
        try:
            codes = client.encode(
                given.contents,
                size=size,
                fit=image.fit,
                sample_bits=image.sample_bits,
                stages=stages,
                failed=failed,
                warnings=warnings,
            )
        except CodesError:
            if len(failed) < len(given.contents):
                raise
            codes = None  # each picture has an error of its own
        facts = model_facts(client, model) if form == "json" else {}
        if codes is not None:
            recode = partial(client.recode, coding="context") if small else bytes
            _write_codes(target, form, facts, given, codes, failed, recode)
    given.report(failed, warnings)


def _write_codes(
    target: Target,
    form: str,
    facts: Mapping[str, Any],
    given: Inputs,
    codes: Codes,
    failed: Mapping[int, ServerError],
    recode: Callable[[bytes], bytes],
) -> None:
    if not target.folder:
        write_file(target.path, recode(_code_file(form, facts, codes, given.names, failed)))
        return
    good = [index for index in range(len(given.stems)) if index not in failed]
    paths = target.paths([given.stems[index] for index in good], form)
    for place, (index, path) in enumerate(zip(good, paths, strict=True)):
        one = codes[place : place + 1]
        write_file(path, recode(_code_file(form, facts, one, [given.names[index]], {})))


def _code_file(
    form: str,
    facts: Mapping[str, Any],
    codes: Codes,
    names: Names,
    failed: Mapping[int, ServerError],
) -> bytes:
    if form == "tess":
        return codes.to_bytes()
    return stacked(codes) if form == "npy" else codes_json(facts, codes, names, failed)


def decode(
    codes: Annotated[
        Path, typer.Argument(help="file of codes: .tess, .npy or .json; - is standard input")
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="file; a folder, with / at its end, for several pictures; - is standard output",
        ),
    ] = "-",
    format: Annotated[  # noqa: A002  (the option's name)
        Literal["png", "webp", "jpg", "npy"] | None,
        typer.Option(help="form of the pictures; else as the output's name says, else png"),
    ] = None,
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="quality of webp and jpg, 100 is best")
    ] = 90,
    decoder: Annotated[
        str | None,
        typer.Option(
            help="name of one of the model's decoders (tessera models --json lists them); else "
            "the one for the least squared error"
        ),
    ] = None,
    model: ModelName = None,
    *,
    service: ServiceOptions,
) -> None:
    """Decode codes to pictures.

    tessera decode photo.tess -o photo.png
    """
    target = Target.of(output)
    form = target.form(format, (*_PICTURE_TYPES, "npy"), "png")
    if target.folder and form == "npy":
        raise CommandFailed("one .npy holds all pictures: name a file, not a folder", MISUSED)
    content = read_file(codes)
    with service.client(model) as client:
        grids = read_codes(content, shown(codes), client, model)
        if len(grids) > 1 and not target.folder and form != "npy":
            raise CommandFailed(
                f"{shown(codes)}: holds the codes of {len(grids)} pictures: "
                "name a folder for them, such as -o pictures/",
                MISUSED,
            )
        pictures = client.decode(grids, decoder=decoder)
    if form == "npy":
        write_file(target.path, _stacked_pictures(pictures))
    elif not target.folder:
        write_file(target.path, _picture_file(pictures[0], form, quality))
    else:
        # A name in a file is somebody's: only its last part is used, and never over another file.
        stems = [Path(grid.name or "").stem or f"{index:05}" for index, grid in enumerate(grids)]
        paths = target.paths(stems, form, keep=True)
        for picture, path in zip(pictures, paths, strict=True):
            write_file(path, _picture_file(picture, form, quality))


def _picture_file(picture: NDArray[np.uint8], form: str, quality: int) -> bytes:
    try:
        return encode_image(picture, _PICTURE_TYPES[form], quality)
    except ImageError as error:
        raise CommandFailed(str(error)) from error


def _stacked_pictures(pictures: list[NDArray[np.uint8]]) -> bytes:
    if len({picture.shape for picture in pictures}) != 1:
        raise CommandFailed(
            "one .npy holds only pictures of one size: name a folder for pictures, such as -o a/"
        )
    return write_npy(np.stack(pictures))


def embed(
    inputs: InputsArgument,
    output: Annotated[str, typer.Option("--output", "-o", help="file; - is standard output")] = "-",
    format: Annotated[  # noqa: A002  (the option's name)
        Literal["json", "npy"] | None,
        typer.Option(help="form of the vectors; else as the output's name says, else json"),
    ] = None,
    *,
    image: ImageOptions,
    model: ModelName = None,
    as_json: AsJson = False,
    service: ServiceOptions,
) -> None:
    """Embed pictures or codes as vectors of length 1.

    tessera embed a.jpg b.jpg -o vectors.npy
    """
    target = Target.of(output)
    form = target.form(format, ("json", "npy"), "json", as_json=as_json)
    if target.folder:
        raise CommandFailed("vectors are one file: name it, not a folder", MISUSED)
    size = image.wanted()
    failed: dict[int, ServerError] = {}
    warnings: dict[int, list[str]] = {}
    with service.client(model) as client:
        given = read_inputs(inputs, client, model)
        vectors = client.embed(
            given.contents,
            size=size,
            fit=image.fit,
            sample_bits=image.sample_bits,
            failed=failed,
            warnings=warnings,
        )
        facts = model_facts(client, model, given.contents)
    if form == "json":
        write_file(target.path, vectors_json(facts, vectors, given.names, failed))
    elif len(vectors):
        write_file(target.path, write_npy(vectors.astype("<f4")))
    given.report(failed, warnings)
