"""Coverage-guided fuzzing of the readers of untrusted bytes, with atheris: `make fuzz`.

    python tests/fuzz/fuzz.py image packed --minutes 20 --seeds DIR

Each target runs in a process of its own until it has had so many minutes of CPU time, which a
busy machine can't shorten. Seeds are the files in DIR and the committed ones in tests/data; what
is new in coverage is kept in the corpus (`--corpus`, build/fuzz by default) for the next time. An
input that breaks a promise is written beside it as `crash-…`, and the exit code is 1: put it into
tests/fuzz/regressions/TARGET, where `make test` replays it, and fix what it found.
"""

from __future__ import annotations

import argparse
import ast
import math
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
# Of an input; longer seeds are cut. A quarter of the seed images are whole at this length.
_MAX_BYTES = {
    "packed": 4096,
    "coded": 4096,
    "npy": 4096,
    "image": 16_384,
    "tar": 12_288,
    "parquet": 8192,
}
_MODULES = {
    "packed": ("app/codecs/tess.py", "app/codecs/bits.py", "app/codecs/grids.py"),
    "coded": (
        "app/codecs/tess.py",
        "app/codecs/context_coder.py",
        "app/codecs/range_coder.py",
        "app/codecs/wavefront.py",
    ),
    "npy": ("app/codecs/npy.py", "app/codecs/grids.py"),
    "tar": ("app/cli/tokenize/tars.py", "app/cli/tokenize/tar_headers.py"),
    "parquet": ("app/cli/tokenize/parquet_images.py",),
    "image": tuple(
        f"imaging/{name}.py"
        for name in (
            *("decode", "headers", "png", "jpeg", "tiff", "heif", "heif_picture", "av1", "hevc"),
            *("completeness", "convert", "profiles"),
        )
    ),
}


def seeds(target: str, folder: Path | None) -> list[Path]:
    """The files that a target begins with."""
    data = ROOT / "tests" / "data"
    found = [*(HERE / "regressions" / target).glob("*")]
    if target == "packed":
        found += data.glob("codes/*.tess")
    if target == "coded":
        found += data.glob("context_codes/*.tess")
    if target == "image":
        found += [*data.glob("corpus/*"), *data.glob("photos/*.webp"), *data.glob("heic/*.heic")]
        found += folder.iterdir() if folder else []
    return [path for path in found if path.suffix not in {".csv", ".json"}]


def plant(target: str, folder: Path | None, corpus: Path) -> None:
    """Put the seeds, those that NumPy and the packer write among them, into the corpus."""
    corpus.mkdir(parents=True, exist_ok=True)
    for path in seeds(target, folder):
        shutil.copyfile(path, corpus / path.name)
    if target == "npy":
        import numpy as np

        for dtype in ("u1", "<i2", ">u4", "<i8", "<f4", "|b1"):
            for shape in ((2, 3), (1, 2, 3), (2, 4, 4, 3), (0, 3), ()):
                for order in ("C", "F"):
                    name = f"{dtype.strip('<>|')}-{len(shape)}-{order}.npy"
                    np.save(corpus / name, np.ones(shape, dtype, order=order))
    made = {"image": image_files, "tar": tar_files, "parquet": parquet_files}
    if target in made:
        for name, data in made[target]().items():
            (corpus / name).write_bytes(data)


def image_files() -> dict[str, bytes]:
    """Small files of kinds that are rare among the committed ones: with profiles, AVIF, deep."""
    import io

    import numpy as np
    from PIL import Image, ImageCms

    y, x = np.mgrid[:16, :24]
    colours = Image.fromarray(np.stack([8 * y, 8 * x, 4 * x + 4 * y], -1).astype(np.uint8))
    deep = Image.fromarray((100 * x + 100 * y).astype(np.uint16))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Other primaries than sRGB's, or LittleCMS would have nothing to do.
    profile = profile.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")
    wanted = {
        **{f"profile.{kind}": (colours, {"icc_profile": profile}) for kind in _WITH_PROFILES},
        "progressive.jpeg": (colours, {"progressive": True}),
        "restarts.jpeg": (colours, {"restart_marker_blocks": 1}),
        "cmyk.jpeg": (colours.convert("CMYK"), {"icc_profile": profile}),
        "deep.png": (deep, {}),
        "deep.tiff": (deep, {}),
        "alpha.avif": (colours.convert("RGBA"), {}),
        "moving.avif": (colours, {"save_all": True, "append_images": [colours.rotate(180)]}),
    }
    found = {}
    for name, (image, options) in wanted.items():
        file = io.BytesIO()
        image.save(file, name.rpartition(".")[2], **options)
        found[name] = file.getvalue()
    return found


def tar_files() -> dict[str, bytes]:
    """Tar files of small images, with captions, links, and compressed."""
    import bz2
    import gzip
    import io
    import lzma
    import tarfile

    pixel = (ROOT / "tests/data/corpus").glob("*.png")
    small = min(pixel, key=lambda path: path.stat().st_size).read_bytes()
    found = {}
    for name, form in (("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as made:
            for member, content in (("a.png", small), ("a.txt", b"text"), ("b/ä.jpg", b"no")):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                made.addfile(info, io.BytesIO(content))
            for member, kind, target in (
                ("c.png", tarfile.SYMTYPE, "a.png"),
                ("d.png", tarfile.LNKTYPE, "a.png"),
                ("x" * 120 + ".png", tarfile.SYMTYPE, "gone.png"),
            ):
                info = tarfile.TarInfo(member)
                info.type, info.linkname = kind, target
                made.addfile(info)
        found[f"{name}.tar"] = file.getvalue()
    plain = found["gnu.tar"]
    compressions = {"gz": gzip.compress(plain), "bz2": bz2.compress(plain)}
    return {
        **found,
        **{f"{name}.tar": data for name, data in compressions.items()},
        "xz.tar": lzma.compress(plain),
        "joined.tar": plain + found["pax.tar"],
    }


def parquet_files() -> dict[str, bytes]:
    """Parquet files of bytes that stand for images, as people and as Hugging Face write them."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    found = {}
    pictures = [b"picture %d" % n for n in range(6)]
    rows = [{"bytes": picture, "path": f"{n}.png"} for n, picture in enumerate(pictures)]
    for kind, images in (("bytes", pictures), ("rows", [*rows[:4], None, {"path": "gone.png"}])):
        for compression in ("none", "snappy", "zstd"):
            file = io.BytesIO()
            table = pa.table({"image": images, "text": [f"text {n}" for n in range(6)]})
            pq.write_table(table, file, row_group_size=3, compression=compression)
            found[f"{kind}-{compression}.parquet"] = file.getvalue()
    return found


_WITH_PROFILES = ("png", "jpeg", "webp", "tiff", "avif")


# --- one target, in this process -------------------------------------------------------------


def repaired_png(data: bytes, _random: random.Random) -> bytes:
    """A PNG with right CRCs: random changes would hardly ever get past them."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    parts, position = [data[:8]], 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        body = data[position + 4 : position + 8 + length]
        parts.append(data[position : position + 4] + body + struct.pack(">I", zlib.crc32(body)))
        position += 12 + length
    return b"".join(parts) + data[position:]


def repaired_npy(data: bytes, chance: random.Random) -> bytes:
    """A .npy whose header has its length, now and then another value, and its array's bytes."""
    header, brace, rest = data[10:].partition(b"}")
    if not brace:
        return data
    text = header.decode("latin-1")
    for name, values in _NPY_VALUES.items():
        if chance.random() < 0.3:
            value = chance.choice(values)
            pattern = rf"(?<='{name}': )('[^']*'|\([^)]*\)|\w+)"
            text = re.sub(pattern, value, text)
    try:
        fields = ast.literal_eval(text + "}")
        size = math.prod(fields["shape"]) * int(fields["descr"][2:])
        size += chance.choice((0, 0, 0, 0, 1, -1))
        rest = (rest * (size // max(1, len(rest)) + 1))[:size] if 0 <= size <= 4000 else rest
    except Exception:  # noqa: BLE001  (then it stays as broken as it is)
        pass
    written = (text + "}").encode("latin-1", "replace")
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(written) & 0xFFFF) + written + rest


_NPY_VALUES = {
    "descr": [
        *("'|u1'", "'<i2'", "'>i4'", "'<i8'", "'>u8'", "'<f2'", "'<f4'", "'>f8'", "'<c8'"),
        *("'|b1'", "'|O'", "'<U4'", "'|S9'", "'|V8'", "'<M8[s]'", "'<i16'", "'=i4'", "'i4'", "3"),
    ],
    "fortran_order": ["True", "False", "1", "None"],
    "shape": [
        *("()", "(0,)", "(3,)", "(2, 3)", "(1, 2, 3)", "(2, 4, 4, 3)", "(64, 1, 1, 3)"),
        *("(65, 1, 1)", "(-1, 3)", "(0, 9223372036854775807)", "(True, 3)", "[2, 3]", "7"),
        *("(4294967296, 4294967296, 0)", "(0, 0, 3)", "(1, 65536, 3)", "(1,) * 9", "(1.0, 3)"),
    ],
}


def repaired_tar(data: bytes, _random: random.Random) -> bytes:
    """A tar file with right checksums in its headers, wherever there may be one."""
    blocks = []
    for start in range(0, len(data), 512):
        block = data[start : start + 512]
        if block[257:262] == b"ustar":
            total = sum(block[:148]) + 8 * 32 + sum(block[156:])
            block = block[:148] + b"%06o\0 " % total + block[156:]
        blocks.append(block)
    return b"".join(blocks)


_REPAIRS = {"image": repaired_png, "npy": repaired_npy, "tar": repaired_tar}


def run_here(target: str, corpus: Path, arguments: list[str]) -> None:
    """Fuzz in this process until it is interrupted; never returns."""
    import atheris

    with atheris.instrument_imports(include=["app", "imaging"]):
        import targets
    chosen = targets.TARGETS[target]

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        changed = bytes(atheris.Mutate(data, size))
        chance = random.Random(seed)
        return _REPAIRS[target](changed, chance)[:size] if chance.random() < 0.8 else changed

    def one(data: bytes) -> None:
        targets.check(chosen, data)

    options = {"custom_mutator": mutate} if target in _REPAIRS else {}
    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-max_len={_MAX_BYTES[target]}",
            f"-artifact_prefix={corpus.parent / (target + '-')}",
            # Wall clock, in which the process may be stopped: the target itself counts CPU time.
            "-timeout=1200",
            "-rss_limit_mb=1500",
            *arguments,
        ],
        one,
        **options,
    )
    atheris.Fuzz()


def measure(target: str, corpus: Path) -> None:
    """Say which share of the lines of a target's modules its corpus runs through."""
    import coverage

    modules = [str(ROOT / name) for name in _MODULES[target]]
    counter = coverage.Coverage(include=modules, data_file=None, branch=True)
    with counter.collect():
        import targets

        for path in sorted(corpus.iterdir()):
            targets.check(targets.TARGETS[target], path.read_bytes())
    counter.report(show_missing=True)


# --- all of them -----------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """CPU time a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_all(names: list[str], minutes: float, corpus: Path, folder: Path | None) -> int:
    """Fuzz in a process for each target, side by side, and report. Returns the exit code."""
    running = {}
    for name in names:
        plant(name, folder, corpus / name)
        log = (corpus / f"{name}.log").open("w")
        command = [sys.executable, __file__, name, "--here", "--corpus", str(corpus)]
        running[name] = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    had = dict.fromkeys(names, 0.0)
    waiting = dict(running)
    while waiting:
        time.sleep(2)
        for name, process in list(waiting.items()):
            if process.poll() is not None:
                del waiting[name]
                continue
            had[name] = cpu_seconds(process.pid)
            if had[name] >= minutes * 60:
                process.send_signal(signal.SIGINT)
                process.wait()
                del waiting[name]
    failed = False
    for name in names:
        text = (corpus / f"{name}.log").read_text(errors="replace")
        progress = re.findall(
            r"^#(\d+)\t.*?cov: (\d+) ft: (\d+) corp: (\d+)/\S+", text, re.MULTILINE
        )
        found = sorted(corpus.glob(f"{name}-crash-*")) + sorted(corpus.glob(f"{name}-oom-*"))
        executions, cov, features, kept = progress[-1] if progress else ("0", "0", "0", "0")
        print(
            f"{name}: {int(executions):,} inputs in {had[name] / 60:.1f} minutes of CPU time, "
            f"{cov} edges, {features} features, corpus of {kept}; {len(found)} faults",
            flush=True,
        )
        failed |= bool(found) or had[name] < minutes * 60
        for path in found:
            print(f"  {path}")
        subprocess.run(
            [sys.executable, __file__, name, "--measure", "--corpus", str(corpus)],
            cwd=ROOT,
            check=False,
        )
    return int(failed)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the readers of untrusted bytes.")
    parser.add_argument("target", nargs="*", help=f"{', '.join(_MAX_BYTES)}; all by default")
    parser.add_argument("--minutes", type=float, default=1, help="of CPU time for each target")
    parser.add_argument("--seeds", type=Path, help="folder of image files to begin with")
    parser.add_argument("--corpus", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.target) - set(_MAX_BYTES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    sys.path[:0] = [str(ROOT), str(HERE)]
    corpus = options.corpus.absolute()
    if options.here:
        run_here(options.target[0], corpus / options.target[0], [])
    if options.measure:
        measure(options.target[0], corpus / options.target[0])
        return 0
    return run_all(options.target or sorted(_MAX_BYTES), options.minutes, corpus, options.seeds)


if __name__ == "__main__":
    sys.exit(main())
