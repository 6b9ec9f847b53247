"""Colours of pictures with a profile become those of sRGB; a profile that is no use is ignored.

The profiles are built here, so that what is right can be computed by the formulas.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from imaging.decode import decode_image
from imaging.headers import inspect_image
from imaging.profiles import MAX_PROFILE_BYTES, UnusableProfile, to_srgb

D50 = np.array([0.9642, 1.0, 0.8249])
D65 = np.array([0.95047, 1.0, 1.08883])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
SRGB_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3_PRIMARIES = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
ADOBE_PRIMARIES = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))


# --- what is right ---------------------------------------------------------------------------


def to_d50(primaries) -> np.ndarray:
    """The matrix from linear RGB of these primaries and D65 to XYZ adapted to D50: `[3, 3]`."""
    xyz = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    rgb_to_d65 = xyz * np.linalg.solve(xyz, D65)
    scale = np.diag(BRADFORD @ D50 / (BRADFORD @ D65))
    return np.linalg.inv(BRADFORD) @ scale @ BRADFORD @ rgb_to_d65


def srgb_to_linear(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: np.ndarray) -> np.ndarray:
    values = values.clip(0, 1)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def srgb_of_xyz(xyz: np.ndarray) -> np.ndarray:
    """XYZ under D50 `[n, 3]` → sRGB 0…255, float."""
    linear = xyz @ np.linalg.inv(to_d50(SRGB_PRIMARIES)).T
    return 255 * linear_to_srgb(linear)


def srgb_of_lab(lab: np.ndarray) -> np.ndarray:
    """L*a*b* under D50 `[n, 3]` → sRGB 0…255, float."""
    fy = (lab[:, 0] + 16) / 116
    f = np.stack([fy + lab[:, 1] / 500, fy, fy - lab[:, 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    return srgb_of_xyz(xyz)


# --- profiles --------------------------------------------------------------------------------


def profile(space: bytes, tags: dict[bytes, bytes], connection: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2."""
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": xyz_tag(D50),
        **tags,
    }
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s4s20sI12s48s",
        *(start + len(body), b"test", 0x02400000, b"prtr" if space == b"CMYK" else b"mntr"),
        *(space, connection, bytes(12), b"acsp", bytes(4), bytes(20), 0),
        *(struct.pack(">3i", *(round(65536 * v) for v in D50)), bytes(48)),
    )
    return header + struct.pack(">I", len(tags)) + table + body


def xyz_tag(xyz) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * v) for v in xyz))


def curve_tag(values: np.ndarray) -> bytes:
    """A curve, given as 0…1 at even steps."""
    steps = np.round(65535 * values).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", len(steps)) + steps.tobytes()


def rgb_profile(primaries, curve: np.ndarray, **more: bytes) -> bytes:
    matrix = to_d50(primaries)
    tags = {f"{c}XYZ".encode(): xyz_tag(matrix[:, n]) for n, c in enumerate("rgb")}
    tags |= {f"{c}TRC".encode(): curve_tag(curve) for c in "rgb"}
    return profile(b"RGB ", tags | {name.encode(): tag for name, tag in more.items()})


STEPS = np.linspace(0, 1, 1024)
ADOBE_GAMMA = 2.19921875
P3 = rgb_profile(P3_PRIMARIES, srgb_to_linear(STEPS))
ADOBE = rgb_profile(ADOBE_PRIMARIES, STEPS**ADOBE_GAMMA)
SRGB = rgb_profile(SRGB_PRIMARIES, srgb_to_linear(STEPS))
GREY = profile(b"GRAY", {b"kTRC": curve_tag(STEPS**1.8)})

# A press with dull inks: what each adds to the paper's L*a*b*, and what they do together.
GRID = 5
INKS = np.array([(-38, -30, -42), (-45, 65, -5), (-9, -6, 80), (-78, 0, 0)], float)


def lab_of_inks(inks: np.ndarray) -> np.ndarray:
    """Shares of ink `[n, 4]`, 0…1 → L*a*b* relative to the paper `[n, 3]`."""
    lab = np.array([100.0, 0, 0]) + inks @ INKS
    lab[:, 0] = lab[:, 0].clip(8, 100)
    lab[:, 1:] *= 1 - 0.8 * inks[:, 3:]
    return lab


def cmyk_profile(extra: int = 0) -> bytes:
    """A press profile of one table, `mft2`; `extra` bytes longer than it has to be."""
    shares = np.linspace(0, 1, GRID)
    nodes = np.stack(np.meshgrid(*[shares] * 4, indexing="ij"), -1).reshape(-1, 4)
    lab = lab_of_inks(nodes)
    # Of version 2: 0…100 is 0…0xff00, -128…127 is 0…0xff00 about 0x8000.
    coded = np.stack([lab[:, 0] * 652.8, (lab[:, 1] + 128) * 256, (lab[:, 2] + 128) * 256], -1)
    line = np.array([0, 65535], ">u2").tobytes()
    table = (
        b"mft2"
        + bytes(4)
        + struct.pack(
            ">4B9i2H", 4, 3, GRID, 0, *(65536 * n for n in (1, 0, 0, 0, 1, 0, 0, 0, 1)), 2, 2
        )
        + line * 4
        + np.round(coded).astype(">u2").tobytes()
        + line * 3
    )
    tags = {b"A2B0": table, b"A2B1": table, b"targ": b"text" + bytes(4 + extra)}
    return profile(b"CMYK", tags, b"Lab ")


# --- pictures --------------------------------------------------------------------------------

PATCHES = np.array(
    [
        *((255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 255, 255), (255, 0, 255), (255, 255, 0)),
        *((200, 100, 50), (30, 60, 90), (120, 200, 120), (10, 10, 10), (128, 128, 128)),
        *((255, 255, 255), (0, 0, 0), (250, 240, 230), (90, 20, 140), (64, 128, 32)),
    ],
    np.uint8,
)
SIDE = 16  # of a patch, a block of JPEG's


def patches(colours: np.ndarray) -> np.ndarray:
    """Colours `[n, …]` as a row of squares `[16, 16 n, …]`."""
    return colours[None].repeat(SIDE, axis=0).repeat(SIDE, axis=1)


def saved(image: Image.Image, name: str, **options) -> bytes:
    """An image file that Pillow writes."""
    options = {
        "JPEG": {"quality": 100, "subsampling": 0},
        "WEBP": {"lossless": True, "exact": True},
    }.get(name, {}) | options
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def decoded(data: bytes, **options):
    return decode_image(inspect_image(data, max_pixels=10**6), **options)


def middles(data: bytes) -> np.ndarray:
    """The colour in the middle of each patch: `[n, 3]`."""
    made = decoded(data)
    assert made.warnings == ()
    return made.pixels[SIDE // 2, SIDE // 2 :: SIDE].astype(float)


@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize(
    ("given", "primaries", "linear"),
    [
        (P3, P3_PRIMARIES, srgb_to_linear),
        (ADOBE, ADOBE_PRIMARIES, lambda values: values**ADOBE_GAMMA),
    ],
    ids=["Display P3", "Adobe RGB"],
)
def test_wide_colours_become_srgb(given, primaries, linear, name):
    """Patches are within 3 of 255 of what the formulas say, in each format that has profiles."""
    image = Image.fromarray(patches(PATCHES))
    stored = middles(saved(image, name))  # JPEG's own error is not the profile's
    assert np.abs(stored - PATCHES).max() <= 2
    expected = srgb_of_xyz(linear(stored / 255) @ to_d50(primaries).T)
    assert np.abs(expected - stored).max() > 30
    assert np.abs(middles(saved(image, name, icc_profile=given)) - expected).max() <= 3


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *(("JPEG", "L"), ("PNG", "L"), ("PNG", "LA"), ("PNG", "I;16")),
        *(("TIFF", "L"), ("TIFF", "LA"), ("TIFF", "I;16")),
    ],
)
def test_grey_becomes_srgb(mode, name):
    """A grey picture of gamma 1.8, also with 16 bits or with alpha, is within 3 of 255."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    image = Image.fromarray(patches(levels))
    if mode == "LA":
        image.putalpha(255)
    if mode == "I;16":
        image = Image.fromarray(patches(levels.astype(np.uint16) * 257))
    expected = 255 * linear_to_srgb((levels / 255) ** 1.8)
    assert np.abs(expected - levels).max() > 15
    made = middles(saved(image, name, icc_profile=GREY))
    assert np.abs(made - expected[:, None]).max() <= 3


@pytest.mark.parametrize("name", ["TIFF", "JPEG"])
@pytest.mark.parametrize("extra", [0, 200_000], ids=["one piece", "four pieces"])
def test_cmyk_becomes_srgb(name, extra):
    """Inks on paper are within 3 of 255 of their L*a*b*; in JPEG, a large profile is in pieces."""
    inks = np.array(
        [
            *((0, 0, 0, 0), (4, 0, 0, 0), (0, 4, 0, 0), (0, 0, 4, 0), (0, 0, 0, 4), (0, 2, 4, 0)),
            *((2, 1, 0, 0), (1, 1, 1, 1), (3, 2, 2, 1), (0, 3, 3, 2), (4, 2, 0, 1), (2, 0, 3, 0)),
        ]
    ) / (GRID - 1)
    image = Image.frombytes(
        "CMYK", (SIDE * len(inks), SIDE), patches(np.round(255 * inks).astype(np.uint8)).tobytes()
    )
    expected = srgb_of_lab(lab_of_inks(inks))
    naive = np.asarray(image.convert("RGB"))[SIDE // 2, SIDE // 2 :: SIDE]
    assert np.abs(expected - naive).max() > 30
    made = middles(saved(image, name, icc_profile=cmyk_profile(extra)))
    assert np.abs(made - expected).max() <= 3


def test_alpha_stays_and_is_laid_over_white():
    """Colours are converted before transparency is: half a P3 green over white."""
    image = Image.fromarray(
        patches(np.array([(0, 200, 0, 255), (0, 200, 0, 128), (9, 9, 9, 0)], np.uint8))
    )
    green = srgb_of_xyz(srgb_to_linear(np.array([[0, 200, 0]]) / 255) @ to_d50(P3_PRIMARIES).T)[0]
    expected = np.stack([green, 255 + (green - 255) * 128 / 255, np.full(3, 255)])
    for name in ("PNG", "WEBP", "TIFF"):
        assert np.abs(middles(saved(image, name, icc_profile=P3)) - expected).max() <= 3, name


def test_palettes_are_converted():
    """A palette's colours are turned into sRGB, its transparent one into white."""
    image = Image.fromarray(patches(np.arange(2, dtype=np.uint8)), "P")
    image.putpalette([0, 200, 0, 9, 9, 9])
    green = srgb_of_xyz(srgb_to_linear(np.array([[0, 200, 0]]) / 255) @ to_d50(P3_PRIMARIES).T)[0]
    data = saved(image, "PNG", icc_profile=P3, transparency=1)
    assert np.abs(middles(data) - [green, (255,) * 3]).max() <= 3


def test_a_grey_picture_may_have_a_profile_of_colours():
    """Grey with an RGB profile is grey of equal samples."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    expected = 255 * linear_to_srgb((levels / 255) ** ADOBE_GAMMA)
    data = saved(Image.fromarray(patches(levels)), "JPEG", icc_profile=ADOBE)
    assert np.abs(middles(data) - expected[:, None]).max() <= 3


# --- what stays as it is ---------------------------------------------------------------------

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "given", [SRGB, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()]
)
@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_srgb_stays_bit_for_bit(given, name):
    """A profile that says sRGB, with whatever rounding, changes no pixel."""
    with_profile, without = (
        decoded(saved(NOISE, name, **options)) for options in ({"icc_profile": given}, {})
    )
    np.testing.assert_array_equal(with_profile.pixels, without.pixels)
    assert with_profile.warnings == ()


def test_pngs_word_for_srgb_goes_before_a_profile():
    """A PNG with the chunk sRGB is sRGB, whatever else it has."""
    data = saved(NOISE, "PNG", icc_profile=P3)
    body = b"sRGB\0"
    chunk = struct.pack(">I", 1) + body + struct.pack(">I", zlib.crc32(body))
    np.testing.assert_array_equal(decoded(data[:33] + chunk + data[33:]).pixels, np.asarray(NOISE))


def broken(where: int, what: bytes) -> bytes:
    return P3[:where] + what + P3[where + len(what) :]


USELESS = {
    "no profile at all": b"\0" * 10,
    "random bytes": np.random.default_rng(1).bytes(3000),
    "cut short": P3[:-4000],
    "cut in its table": P3[:150],
    "no magic word": broken(36, b"acsq"),
    "a version that doesn't exist": broken(8, b"\x07"),
    "for HSV": broken(16, b"HSV "),
    "a link between devices": broken(12, b"link"),
    "tags beyond the end": broken(132 + 4, b"\xff\xff\xff\0"),
    "a million tags": broken(128, b"\0\x0f\xff\xff"),
    "tags of other types": P3.replace(b"curv", b"text"),
    "without a matrix": P3.replace(b"rXYZ", b"xXYZ"),
    "a program": rgb_profile(P3_PRIMARIES, STEPS, D2B0=b"mpet" + bytes(20)),
    "grey": GREY,
    "for a press": cmyk_profile(),
    "too large": cmyk_profile(MAX_PROFILE_BYTES),
}


@pytest.mark.parametrize("kind", USELESS)
@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_useless_profiles_are_ignored_and_told(kind, name):
    """The picture is taken as sRGB, and a warning says that its profile was not heeded."""
    made = decoded(saved(NOISE, name, icc_profile=USELESS[kind]))
    np.testing.assert_array_equal(made.pixels, decoded(saved(NOISE, name)).pixels)
    (warning,) = made.warnings
    assert warning.code == "profile_ignored"
    assert warning.detail.startswith("the colour profile is ignored: ")


def test_missing_pieces_of_a_jpegs_profile_are_told():
    """A profile of four pieces, of which one has lost its number, is broken."""
    image = Image.new("CMYK", (16, 16))
    data = saved(image, "JPEG", icc_profile=cmyk_profile(200_000))
    data = data.replace(b"ICC_PROFILE\0\x02", b"ICC_PROFILE\0\x07")
    assert [warning.code for warning in decoded(data).warnings] == ["profile_ignored"]


def test_a_png_profile_that_does_not_inflate_is_told():
    """An iCCP chunk that isn't zlib data, or of another method."""
    for body in (b"name\0\0no zlib", b"name\0\1" + zlib.compress(P3), b"n" * 100, b""):
        named = b"iCCP" + body
        chunk = struct.pack(">I", len(body)) + named + struct.pack(">I", zlib.crc32(named))
        data = saved(NOISE, "PNG")
        made = decoded(data[:33] + chunk + data[33:])
        np.testing.assert_array_equal(made.pixels, np.asarray(NOISE))
        assert [warning.code for warning in made.warnings] == ["profile_ignored"]


@pytest.mark.parametrize("seed", range(40))
def test_damaged_profiles_are_applied_or_refused(seed):
    """Bytes changed at random: converted, or found to be of no use; never another exception."""
    random = np.random.default_rng(seed)
    for whole, image in ((P3, NOISE), (cmyk_profile(), Image.new("CMYK", (8, 8), (9, 99, 199, 9)))):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = random.integers(0, len(whole) if seed % 2 else 400, 1 + seed % 7)
        damaged[places] = random.integers(0, 256, len(places))
        try:
            assert to_srgb(image, damaged.tobytes()).size == image.size
        except UnusableProfile:
            continue


def test_the_largest_profile_takes_little_time(cpu_seconds):
    """A new profile of 4 MB, for each of 8 pictures: half a second each at most."""
    image = Image.new("CMYK", (256, 256), (9, 99, 199, 9))
    whole = cmyk_profile(MAX_PROFILE_BYTES - len(cmyk_profile()) - 8)
    assert MAX_PROFILE_BYTES - 16 <= len(whole) <= MAX_PROFILE_BYTES
    for n in range(8):
        assert cpu_seconds(lambda n=n: to_srgb(image, whole[:-1] + bytes((n,)))) < 0.5
