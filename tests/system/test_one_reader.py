"""Training and serving see the same pixels, and refuse the same files for the same reason."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.errors import TesseraError
from app.service.preprocessing import ImageInput, PreprocessingOptions, decode
from training.data.dataset import Broken, find_images, read_image

CORPUS = Path(__file__).parents[1] / "data" / "corpus"
WAVES = np.mgrid[:24, :40].sum(axis=0)


def picture(mode: str) -> Image.Image:
    """A picture in one of Pillow's modes, with every channel in use."""
    if mode == "I;16":
        return Image.fromarray((WAVES * 1040).astype(np.uint16))
    if mode == "I;16B":
        return Image.fromarray((WAVES * 1040).astype(">u2"))
    if mode == "F":
        return Image.fromarray((WAVES / 63).astype(np.float32))
    if mode == "I":
        return Image.fromarray(WAVES.astype(np.int32))
    channels = [(WAVES * (3 + n)).astype(np.uint8) for n in range(4)]
    rgba = Image.fromarray(np.stack(channels, -1))
    if mode == "LAB":
        return Image.merge("LAB", rgba.split()[:3])
    return rgba if mode == "RGBA" else rgba.convert("RGB").convert(mode)


def saved(mode: str, name: str, **options) -> bytes:
    """An image file that Pillow writes."""
    file = io.BytesIO()
    picture(mode).save(file, name, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    """EXIF that says how the picture is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def tagged(data: bytes, number: int, old: int, new: int) -> bytes:
    """A little-endian TIFF with another value of a SHORT tag."""
    tag = struct.pack("<HHIH", number, 3, 1, old)
    assert tag in data
    return data.replace(tag, struct.pack("<HHIH", number, 3, 1, new))


FILES = {
    **{f"PNG {mode}": saved(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    **{f"JPEG {mode}": saved(mode, "JPEG") for mode in ("L", "RGB", "CMYK")},
    "JPEG progressive": saved("RGB", "JPEG", progressive=True),
    **{f"JPEG turned {n}": saved("RGB", "JPEG", exif=turned(n)) for n in range(2, 9)},
    **{f"WebP {mode}": saved(mode, "WEBP") for mode in ("L", "RGB", "RGBA")},
    "WebP lossless": saved("RGBA", "WEBP", lossless=True),
    **{f"GIF {mode}": saved(mode, "GIF") for mode in ("1", "L", "P", "RGB", "RGBA")},
    **{f"BMP {mode}": saved(mode, "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")},
    **{
        f"TIFF {mode}": saved(mode, "TIFF")
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I;16B")
    },
    **{f"TIFF {mode}": saved(mode, "TIFF") for mode in ("I", "F")},
    "TIFF LZW": saved("RGB", "TIFF", compression="tiff_lzw"),
    "TIFF 16-bit WhiteIsZero": tagged(saved("I;16", "TIFF"), 262, 1, 0),
    "TIFF 8-bit WhiteIsZero": tagged(saved("L", "TIFF"), 262, 1, 0),
    "TIFF of 12 bits": tagged(saved("I;16", "TIFF"), 258, 16, 12),
    **{f"AVIF {mode}": saved(mode, "AVIF", speed=9) for mode in ("L", "RGB", "RGBA")},
    "PPM": saved("RGB", "PPM"),
    "ICO": saved("RGBA", "ICO"),
    "cut PNG": saved("RGB", "PNG")[:-40],
    "cut JPEG": saved("RGB", "JPEG")[:-40],
    "nothing": b"",
    "text": b"no image",
} | {path.name: path.read_bytes() for path in sorted(CORPUS.glob("*.*")) if path.suffix != ".csv"}


def served(data: bytes) -> np.ndarray | str:
    """What the service's decoding makes of a file: pixels, or why not."""
    try:
        return decode(ImageInput(data).inspect(16_000_000), PreprocessingOptions(16_000_000)).pixels
    except TesseraError as error:
        return error.detail


def trained_on(path: Path) -> np.ndarray | str:
    """What training makes of a file: pixels, or why not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_image(path)
    except OSError as error:
        return str(error)


@pytest.mark.parametrize("name", FILES)
def test_both_sides_read_the_same(name, tmp_path, monkeypatch):
    """Every format and mode: equal pixels, or a refusal in equal words."""
    monkeypatch.setattr("training.data.dataset.MAX_PIXELS", 16_000_000)
    path = tmp_path / "file.png"  # the content decides, not the name
    path.write_bytes(FILES[name])
    ours, theirs = served(FILES[name]), trained_on(path)
    if isinstance(ours, str):
        assert theirs == ours.removesuffix(" (TESSERA_MAX_PIXELS)")
    else:
        np.testing.assert_array_equal(ours, theirs)
        assert find_images([tmp_path]).sizes == ((ours.shape[1], ours.shape[0]),)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("PPM", "not a PNG, JPEG, WebP"),
        ("TIFF F", "scale signed, float or 32-bit samples"),
        ("TIFF I", "scale signed, float or 32-bit samples"),
        ("cut JPEG", "truncated"),
        ("nothing", "0 bytes"),
    ],
)
def test_what_training_skips_is_named_with_its_reason(name, reason, tmp_path):
    """A file that the service wouldn't read is not trained on as black, but reported."""
    (tmp_path / "good.png").write_bytes(FILES["PNG RGB"])
    (tmp_path / "odd.ppm").write_bytes(FILES[name])
    found = find_images([tmp_path])
    broken = [*found.broken]
    for path in found.paths:
        try:
            read_image(path)
        except OSError as error:
            broken.append(Broken(path, str(error)))
    assert [one.path.name for one in broken] == ["odd.ppm"]
    assert reason in broken[0].reason


def test_training_tells_what_the_service_warns_of(tmp_path):
    """A picture of 12 bits in 16 is trained on as its file says, with a warning that names it."""
    path = tmp_path / "dark.png"
    Image.fromarray((WAVES * 60).astype(np.uint16)).save(path)
    with pytest.warns(UserWarning, match=r"dark\.png: no sample is above 3720 of 65535"):
        assert read_image(path).max() == 14
