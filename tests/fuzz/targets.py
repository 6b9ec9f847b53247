"""What is fuzzed: each reader of untrusted bytes, and what must hold whatever it is given.

A target takes bytes and returns a word for what came of them. It raises `Broken` where a promise
is broken; any other exception that escapes it is a fault too. `fuzz.py` feeds them for as long as
one likes, `test_fuzz.py` for seconds.
"""

from __future__ import annotations

import ctypes
import functools
import io
import struct
import time
import warnings
import zlib
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from app.cli.failures import CommandFailed
from app.cli.tokenize import parquet_images, tars
from app.cli.tokenize.storage import Entry
from app.cli.tokenize.tar_headers import STREAM_ERRORS, opened
from app.codecs.code_file import CodedFile
from app.codecs.context_coder import code_grids, decode_grids, decoded_grid
from app.codecs.grids import grids_from_npy
from app.codecs.npy import read_npy, read_npy_images
from app.codecs.tess import pack_codes, read_tess, unpack_codes
from app.errors import (
    LimitExceeded,
    MalformedRequest,
    TesseraError,
    Unprocessable,
    UnsupportedMediaType,
)
from app.runtime.prior import Prior
from bundle import open_bundle
from bundle.manifest import MAX_CHANNELS
from imaging.decode import decode_image
from imaging.errors import ImageError
from imaging.headers import inspect_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

MAX_PIXELS = 1_000_000
_MAX_ENTRIES = 10_000
_MOST_UNPACKED = 2**16  # bytes of a tar file
# Of CPU time in one input. The slowest honest input takes a twentieth.
MAX_SECONDS = 2.0

_PERTURB = -6  # M_PERTURB of glibc's mallopt

# A client's fault, each of these: anything else that is raised is ours.
_REFUSALS = (MalformedRequest, LimitExceeded, Unprocessable, UnsupportedMediaType)

warnings.simplefilter("error")


class Broken(AssertionError):
    """A promise that a reader makes doesn't hold for this input."""


def _hold(promise: bool, what: str) -> None:
    if not promise:
        raise Broken(what)


def packed(data: bytes) -> str:
    """The packed codes: as they are, and with the CRC-32 that they'd need to get further."""
    outcome = _packed(data)
    if len(data) > 4:
        body = data[:-4]
        outcome = _packed(body + struct.pack("<I", zlib.crc32(body)))
    return outcome


def _packed(data: bytes) -> str:
    try:
        file = unpack_codes(data, max_images=64, max_pixels=MAX_PIXELS)
    except _REFUSALS as error:
        return error.code
    _hold(1 <= len(file.grids) <= 64, "a file has 1 to 64 images")
    for grid in file.grids:
        _hold(grid.width * grid.height <= MAX_PIXELS, "no image is above the limit")
        rows, columns = -(-grid.height // file.stride), -(-grid.width // file.stride)
        _hold(grid.shape == (rows, columns), "a grid suits its image")
        sizes = (file.codebook_size, *file.residual_sizes)
        _hold(grid.stages == len(sizes), "a grid has the file's stages")
        for codes, size in zip(grid.codes.reshape(-1, rows, columns), sizes, strict=True):
            _hold(0 <= codes.min() <= codes.max() < size, "codes are in range")
    # There is one way to write each file, so what can be read is written the same.
    _hold(pack_codes(file) == data, "a file that is read is written byte for byte")
    return "read"


def coded(data: bytes) -> str:
    """Codes by their context, with the CRC-32 that they'd need to get further, and decoded."""
    outcome = _coded(data)
    if len(data) > 4:
        body = data[:-4]
        outcome = _coded(body + struct.pack("<I", zlib.crc32(body)))
    return outcome


def _coded(data: bytes) -> str:
    prior = _tiny_prior()
    places = [0]

    class Counted:
        digest, neighbours, codes, members = (
            *(prior.digest, prior.neighbours, prior.codes, prior.members),
        )

        def groups(self, stage: int, neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            places[0] += len(neighbours)
            return prior.groups(stage, neighbours)

    try:
        file = read_tess(data, max_images=64, max_pixels=MAX_PIXELS)
        if not isinstance(file, CodedFile):
            return "plain"
        for grid in file.grids:
            _hold(grid.width * grid.height <= MAX_PIXELS, "no image is above the limit")
            if grid.stages > len(prior.codes):
                return "more stages"  # the service refuses to decode them with this prior
            places[0] = 0
            try:
                (codes,) = decode_grids(Counted(), [(grid.data, grid.shape)])
            finally:
                # A likely code takes a hundredth of a bit at least, and 16 bytes may be missing.
                _hold(places[0] <= 800 * (len(grid.data) + 16) + 512, "work as bytes pay for")
            made = decoded_grid(grid, codes[0])
            _hold(made.codes.shape == grid.shape, "a grid suits its image")
            _hold(0 <= made.codes.min() <= made.codes.max() < 256, "codes are in range")
            # Another spelling of the same symbols may be read, but never other codes.
            (again,) = code_grids(prior, [codes])
            _hold(abs(len(again) - len(grid.data)) <= 8, "as short as it is written")
    except _REFUSALS as error:
        return error.code
    return "read"


@functools.cache
def _tiny_prior() -> Prior:
    bundle = open_bundle(Path(__file__).parents[1] / "data" / "bundles" / "tiny")
    return Prior(bundle, bundle.manifest.prior)


def npy(data: bytes) -> str:
    """The arrays: by themselves, as images, and as codes."""
    try:
        images = read_npy_images(data, max_pixels=MAX_PIXELS, max_images=64)
        _hold(1 <= len(images) <= 64, "1 to 64 images")
        _hold(all(i.dtype in (np.uint8, np.uint16) for i in images), "samples of 8 or 16 bits")
        _hold(all(1 <= i.shape[2] <= MAX_CHANNELS for i in images), "[h, w, channels]")
        _hold(all(i.shape[0] * i.shape[1] <= MAX_PIXELS for i in images), "within the limit")
    except _REFUSALS:
        pass
    try:
        limits = {"max_images": 64, "max_pixels": MAX_PIXELS}
        grids = grids_from_npy(data, codebook_size=1024, residual_sizes=(1024,), stride=8, **limits)
        _hold(1 <= len(grids) <= 64, "1 to 64 grids")
        _hold(all(0 <= g.codes.min() <= g.codes.max() < 1024 for g in grids), "codes in range")
        _hold(all(g.codes.dtype == np.int64 for g in grids), "int64")
    except _REFUSALS:
        pass
    try:
        array = read_npy(data)
    except _REFUSALS as error:
        return error.code
    _hold(array.nbytes <= len(data), "an array is no larger than its file")
    _hold(not array.dtype.hasobject, "no objects")
    try:
        second = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, UserWarning, SyntaxError):
        return "read, not by NumPy"  # it is stricter about the header's spelling
    _hold(second.dtype == array.dtype and second.shape == array.shape, "as NumPy reads it")
    _hold(second.tobytes() == array.tobytes(), "the values are NumPy's")
    return "read"


def image(data: bytes) -> str:
    """The image reader; every other input is resized too, which decodes JPEG at a scale.

    Every third is said to have samples of 12 bits.
    """
    size = (24, 16) if len(data) % 2 else None
    bits = None if len(data) % 3 else 12

    def decoded() -> NDArray[np.uint8]:
        file = inspect_image(data, max_pixels=MAX_PIXELS)
        return decode_image(file, size, sample_bits=bits).pixels

    try:
        with _memory_filled_with(0x55):
            pixels = decoded()
    except ImageError as error:
        return type(error).__name__
    with _memory_filled_with(0xAA):
        again = decoded()
    _hold(np.array_equal(pixels, again), "no pixel is what lay in memory before")
    _hold(pixels.dtype == np.uint8 and pixels.shape[2:] == (3,), "uint8 [h, w, 3]")
    _hold(0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS, "within the limit")
    _hold(size is None or pixels.shape == (16, 24, 3), "of the size asked for")
    return "read"


class _OneFile:
    """A source's storage that holds one file."""

    place = "memory"

    def __init__(self, data: bytes) -> None:
        self._data = data

    def entries(self, folder: str) -> list[Entry]:
        return [Entry("file", size=len(self._data))] if not folder else []

    def open(self, _name: str) -> IO[bytes]:
        return io.BytesIO(self._data)

    def read(self, _name: str, size: int | None = None) -> bytes:
        return self._data[:size]


def tar(data: bytes) -> str:
    """A tar file of a data set: what is listed is what is read, whichever image one begins at."""
    storage = _OneFile(data)
    with ExitStack() as stack, suppress(*STREAM_ERRORS):
        stream, _ = opened(storage, "file", stack)
        if len(stream.read(_MOST_UNPACKED + 1)) > _MOST_UNPACKED:
            return "large"  # time goes by what is unpacked: such inputs would take all of it
    listed, skipped = [], []
    for entry in islice(tars.scan(storage, "file", ("txt",)), _MAX_ENTRIES):
        (listed if isinstance(entry, tars.Image) else skipped).append(entry)
    read = list(tars.images(storage, "file", 0, len(listed), ("txt",)))
    _hold([one.name for one in read] == [one.name for one in listed], "read as listed")
    _hold(all(one.content is not None or one.fault for one in read), "contents, or why not")
    middle = len(listed) // 2
    half = list(tars.images(storage, "file", middle, len(listed), ("txt",)))
    _hold(half == read[middle:], "the same from the middle on")
    _hold(bool(listed or skipped) or not data.strip(b"\0"), "nothing is passed over in silence")
    return "read" if listed else skipped[0].kind if skipped else "nothing"


def parquet(data: bytes) -> str:
    """A Parquet file of a data set: each row that is listed is read, or it is said why not."""
    storage = _OneFile(data)
    try:
        entries = list(islice(parquet_images.scan(storage, "file", ("text",)), _MAX_ENTRIES))
        rows = [entry for entry in entries if isinstance(entry, tars.Image)]
        if not rows:
            return "nothing"
        read = list(parquet_images.images(storage, "file", 0, len(rows), ("text",)))
    except CommandFailed:
        return "refused"
    _hold([one.name.partition("/")[0] for one in read] == [one.name for one in rows], "each row")
    _hold(all(one.content is not None or one.fault for one in read), "contents, or why not")
    return "read"


@contextmanager
def _memory_filled_with(value: int) -> Iterator[None]:
    """Have the C library fill what it hands out, so that what is left unwritten differs."""
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_PERTURB, value)
    try:
        yield
    finally:
        mallopt(_PERTURB, 0)


TARGETS: dict[str, Callable[[bytes], str]] = {
    "packed": packed,
    "coded": coded,
    "npy": npy,
    "image": image,
    "tar": tar,
    "parquet": parquet,
}


def check(target: Callable[[bytes], str], data: bytes) -> str:
    """Run a target on one input, within its time.

    Raises:
        Broken: it took too long, or raised one of our errors that isn't the client's fault.
    """
    started = time.process_time()
    try:
        outcome = target(data)
    except TesseraError as error:
        raise Broken(f"{error.code} is not what a client's fault is called") from error
    _hold(time.process_time() - started < MAX_SECONDS, f"an input takes {MAX_SECONDS} s")
    return outcome
