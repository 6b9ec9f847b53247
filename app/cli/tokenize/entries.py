"""What a source holds besides images: kinds of entries, and which of them are damage."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote_from_bytes

from imaging.errors import ImageError, UnsupportedFormat
from imaging.headers import inspect_image
from imaging.heif_picture import HEIC_IS_READ

if TYPE_CHECKING:
    from collections.abc import Iterable

IMAGE_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
    *((".heic", ".heif") if HEIC_IS_READ else ()),
)
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
PARQUET_ENDING = ".parquet"
# What is never looked into: no ending of an image, and there may be one of these for each image.
OTHER_ENDINGS = (
    *(".txt", ".json", ".jsonl", ".cls", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".md", ".html"),
    *(".npy", ".npz", ".pt", ".pth", ".safetensors", ".pickle", ".pkl", ".db", ".log"),
    *(".mp4", ".webm", ".mov", ".avi", ".mkv", ".wav", ".mp3", ".flac", ".ogg", ".pdf", ".zip"),
)
# So many bytes tell the format of an image.
SNIFFED_BYTES = 512

HIDDEN = "hidden"
SIDECAR = "beside an image"
SPECIAL = "special file"
FOLDER_LINK = "link to a folder"
DANGLING = "dangling link"
LOOP = "link to itself"
UNREADABLE = "unreadable"
EMPTY_TAR = "empty tar"
CUT_TAR = "cut tar"
DAMAGED_TAR = "damaged tar"
NO_END_MARK = "tar without end mark"
BEHIND_END_MARK = "data behind an end mark"

# What says that something is lost, or may be; `--strict` makes it an error.
DAMAGE = frozenset(
    {
        *(DANGLING, LOOP, UNREADABLE),
        *(EMPTY_TAR, CUT_TAR, DAMAGED_TAR, NO_END_MARK, BEHIND_END_MARK),
    }
)

# Told by their first bytes, where no reader knows them.
_FORMATS = (
    (b"ftyphei", 4, "HEIC"),
    (b"ftypmif1", 4, "HEIC"),
    (b"\xff\x0a", 0, "JPEG XL"),
    (b"\0\0\0\x0cJXL ", 0, "JPEG XL"),
    (b"\0\0\0\x0cjP  ", 0, "JPEG 2000"),
    (b"8BPS", 0, "Photoshop"),
    (b"\x76\x2f\x31\x01", 0, "OpenEXR"),
    (b"%PDF", 0, "PDF"),
)


class Skipped(NamedTuple):
    """An entry that was seen and is not encoded, or what is wrong with a tar file.

    Attributes:
        name: of the entry, relative to the source.
        kind: one of the kinds above, or a file's ending or format; what it is counted as.
        detail: what is wrong; empty where the kind says it all.
    """

    name: str
    kind: str
    detail: str = ""


def is_image(start: bytes) -> bool:
    """Whether a file of any ending is an image of a format that can be read, by its first bytes."""
    try:
        inspect_image(start, max_pixels=2**63)
    except UnsupportedFormat:
        return False
    except ImageError:
        return bool(start)  # cut short, as it is, but of a known format
    return True


def other(name: str, start: bytes = b"") -> Skipped:
    """A file that is no image: its kind is its format, if that is known, else its ending."""
    for magic, offset, kind in _FORMATS:
        if start.startswith(magic, offset):
            return Skipped(name, kind)
    base = name.rpartition("/")[2]
    stem, dot, ending = base.rpartition(".")
    return Skipped(name, f".{ending.lower()}" if dot and stem else "without an ending")


def key_of(name: str) -> str:
    """What the files of a WebDataset sample have in common: all up to the first dot."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def ending_of(name: str) -> str:
    """What tells the files of a WebDataset sample apart: all behind the first dot."""
    return name.rpartition("/")[2].partition(".")[2]


def is_hidden(name: str) -> bool:
    """Whether a file or one of its folders is hidden, as macOS's `._a.jpg` is."""
    return any(part.startswith(".") and part.strip(".") for part in name.split("/"))


def stored_name(name: str) -> str:
    """A name as JSON and Parquet can hold it, from which the file's own can be had again.

    One that is UTF-8 stays as it is. Any other, and one that begins as those do, is `bytes:` and
    its bytes with percent signs as in URLs: `bytes:caf%E9.png`.
    """
    raw = name.encode("utf-8", "surrogateescape")
    try:
        shown = raw.decode()
    except UnicodeDecodeError:
        shown = "bytes:"
    if shown.startswith("bytes:"):
        return "bytes:" + quote_from_bytes(raw)
    return shown


def in_words(counts: Iterable[tuple[str, int]]) -> str:
    """Kinds and how many there are of each, the most frequent first."""
    ordered = sorted(counts, key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{number:,} {kind}" for kind, number in ordered)


def counted(skipped: Iterable[Skipped]) -> Counter[str]:
    """How many there are of each kind."""
    return Counter(one.kind for one in skipped)
