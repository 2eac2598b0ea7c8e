"""Damaged input files by seed: every decoder of ``io`` must give a result or an error of ours, and nothing else."""

from __future__ import annotations

import importlib.util
import io
import itertools
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, features

from depth_anything_3.errors import DA3Error, InputError
from depth_anything_3.io.cameras.base import read_cameras
from depth_anything_3.io.cameras.cameras_json import write_cameras
from depth_anything_3.io.cameras.given import open_views
from depth_anything_3.io.colmap import read_points
from depth_anything_3.io.images import decode_image, read_header
from depth_anything_3.io.masks import decode_mask
from depth_anything_3.io.video import iterate_video
from depth_anything_3.types.cameras import Cameras, Lens
from depth_anything_3.types.options import FolderOptions
from support import camera_files as files
from support.heif import heif_photo
from support.videos import write_video

_WRITTEN = files.scene(names=("img2.png", "img10.png", "IMG1.png"))
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_ODD_NUMBERS = (b"nan", b"inf", b"-1", b"0", b"1e400", b"-1e308", b"9" * 40, b"4294967296", b"x", b"", b"NaN", b"null")
_ODD_PIECES = (b"\0" * 8, b"\xff" * 8, b"[" * 5000, b"{", b'"', b"\n", b"\x00\x00\x00\x80" * 2, "é☃".encode())


@dataclass(frozen=True)
class Target:
    """A file that is damaged, in a folder of its own, and what reads it."""

    name: str
    file: Path
    read: Callable[[], object]


@dataclass(frozen=True)
class Finding:
    """What should not have happened, and to which mutant."""

    number: int
    target: str
    what: str


def targets(folder: Path) -> list[Target]:
    """Valid files of every kind below ``folder``, which must be empty."""
    return [*_images(folder), *_camera_files(folder), *_videos(folder), *_masks(folder)]


def _videos(folder: Path) -> list[Target]:
    (folder / "videos").mkdir()
    found = []
    for name, codec in (("a.mp4", "mp4v"), ("b.mov", "mp4v"), ("c.avi", "MJPG"), ("d.mkv", "FFV1"), ("e.webm", "VP80")):
        file = write_video(folder / "videos" / name, 6, size=(16, 24), codec=codec)
        found.append(Target(name, file, lambda file=file: _read_video(file)))  # type: ignore[misc]
    return found


def _read_video(file: Path) -> None:
    """As everyone reads it, and as views of a scene with cameras: what is there is upright, named, and in order."""
    times = []
    for frame in itertools.islice(iterate_video(file, max_frames=4), 100):
        assert frame.image.ndim == 3 and frame.image.dtype == np.uint8 and frame.image.size > 0
        times.append(frame.timestamp)
    assert times == sorted(times) and all(map(math.isfinite, times))
    open_views(file, intrinsics="60deg", options=FolderOptions(limit=2))


def _masks(folder: Path) -> list[Target]:
    file = folder / "mask.png"
    Image.fromarray(np.eye(16, dtype=bool)).save(file)
    return [Target(file.name, file, lambda: decode_mask(file, index=0, size=(16, 16)))]


def _images(folder: Path) -> list[Target]:
    formats = {"PNG": {}, "JPEG": {}, "WEBP": {}, "GIF": {}, "BMP": {}, "TIFF": {"compression": "tiff_lzw"}, "PPM": {}}
    if features.check("jpg_2000"):
        formats["JPEG2000"] = {}
    if features.check("avif"):
        formats["AVIF"] = {}
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    exif.get_ifd(0x8769).update({0x920A: 4.2, 0xA405: 26})
    contents: dict[str, bytes] = {}
    for format, options in formats.items():
        image = Image.fromarray(pixels).convert("RGBA" if format in ("PNG", "WEBP") else "RGB")
        buffer = io.BytesIO()
        image.save(buffer, format, **options, **({"exif": exif} if format in ("PNG", "JPEG", "WEBP", "TIFF") else {}))
        contents[format] = buffer.getvalue()
    if importlib.util.find_spec("pi_heif") is not None:
        contents["HEIF"] = heif_photo(pixels[:16, :16, 0], quarter_turns=1)
    found = []
    for format, content in contents.items():
        file = folder / "images" / f"{format}.img"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        found.append(Target(format, file, lambda file=file: _decode(file)))  # type: ignore[misc]
    return found


def _decode(file: Path) -> None:
    header = read_header(file, index=0)
    decoded = decode_image(file, index=0, alpha="mask")
    assert decoded.pixels.ndim == 3 and decoded.pixels.dtype == np.uint8
    # The upright size of a damaged file may be told otherwise by its pixels; it may not be empty.
    assert min(header.size) > 0 and min(decoded.pixels.shape) > 0


def _camera_files(folder: Path) -> list[Target]:
    files.write_photos(folder / "photos", _WRITTEN)
    lens = (-0.1, 0.02, 0.001, -0.002)
    parameters = [*_WRITTEN.focal, *_WRITTEN.centre, *lens]
    for kind in ("text", "binary"):
        model = folder / kind
        files.write_colmap(model, _WRITTEN, model=("OPENCV", 4), parameters=parameters, binary=kind == "binary")
    (folder / "text" / "points3D.txt").write_text("# points\n9 1.0 2.0 3.0 1 2 3 0.5 4 1 5 1\n")
    points = np.uint64([1, 9]).tobytes() + np.float64([1, 2, 3]).tobytes() + bytes(3)
    (folder / "binary" / "points3D.bin").write_bytes(points + np.float64([0.5]).tobytes() + bytes(16))
    files.write_transforms(folder / "transforms.json", _WRITTEN, k1=-0.1, k2=0.02, p1=0.001, p2=0.0)
    files.write_tum(folder / "tum.txt", _WRITTEN, [1.0, 2.0, 3.0])
    files.write_kitti(folder / "kitti.txt", _WRITTEN)
    (folder / "intrinsics.txt").write_text("70 72 41 29.5\n")
    cameras = Cameras(
        names=_WRITTEN.names,
        intrinsics=np.stack([_WRITTEN.intrinsics] * 3),
        extrinsics=_WRITTEN.extrinsics,
        sizes=np.array([_WRITTEN.size] * 3),
        lenses=(Lens("OPENCV_FISHEYE", lens), Lens("EUCM", (0.5, 1.0)), Lens()),
    )
    write_cameras(cameras, folder / "cameras.json")
    photos = folder / "photos"
    given = [folder / name for name in ("transforms.json", "cameras.json")]
    given += [folder / "text" / f"{name}.txt" for name in ("cameras", "images")]
    given += [folder / "binary" / f"{name}.bin" for name in ("cameras", "images")]
    found = [Target(f.name, f, lambda f=f: open_views(photos, poses=f)) for f in given]  # type: ignore[misc]
    for file in (folder / "tum.txt", folder / "kitti.txt"):
        found.append(Target(file.name, file, lambda f=file: open_views(photos, poses=f, intrinsics="60deg")))  # type: ignore[misc]
    found += [Target(f.name, f, lambda f=f: read_points(f.parent)) for f in folder.glob("*/points3D.*")]  # type: ignore[misc]
    text = folder / "intrinsics.txt"
    found.append(Target(text.name, text, lambda: (read_cameras(text), open_views(photos, intrinsics=text))))
    return found


# --- damage ------------------------------------------------------------------------------------------------------


def mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """Damaged content; of a third of all, the beginning is as it was."""
    if rng.random() < 1 / 3:
        kept = int(rng.integers(0, len(content) + 1))
        tail = rng.choice(3)
        noise = rng.integers(0, 256, len(content) - kept, np.uint8).tobytes()
        return content[:kept] + (b"", noise, bytes(len(content) - kept))[tail]
    for _ in range(int(rng.integers(1, 4))):
        content = _KINDS[int(rng.choice(len(_KINDS)))](content, rng)
    return content


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content or b"\0")
    for place in rng.integers(0, len(changed), int(rng.integers(1, 9))):
        changed[place] = int(rng.integers(0, 256))
    return bytes(changed)


def _insert(content: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(0, len(content) + 1))
    return content[:place] + _ODD_PIECES[int(rng.choice(len(_ODD_PIECES)))] + content[place:]


def _overwrite(content: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(0, len(content) + 1))
    piece = _ODD_PIECES[int(rng.choice(len(_ODD_PIECES)))][:8]
    return content[:place] + piece + content[place + len(piece) :]


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(rng.integers(0, len(content) + 1, 2))
    return content[:start] + content[end:]


def _repeat(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(rng.integers(0, len(content) + 1, 2))
    return content[:end] + content[start:end] + content[end:]


def _change_number(content: bytes, rng: np.random.Generator) -> bytes:
    found = list(_NUMBER.finditer(content))
    if not found:
        return _flip(content, rng)
    match = found[int(rng.choice(len(found)))]
    return content[: match.start()] + _ODD_NUMBERS[int(rng.choice(len(_ODD_NUMBERS)))] + content[match.end() :]


_KINDS = (_flip, _insert, _overwrite, _cut, _repeat, _change_number)


def attempt(target: Target, number: int, seed: int) -> tuple[Finding | None, bool]:
    """Damage one file, read it, put it back. Gives what should not have happened, and whether it was refused."""
    whole = target.file.read_bytes()
    target.file.write_bytes(mutant(whole, np.random.default_rng((seed, number))))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read()
    except InputError as error:
        missing = None if error.argument else Finding(number, target.name, "an error that names no argument")
        return missing, True
    except DA3Error as error:  # pi-heif is asked for where it is not installed
        return None if "pip install" in str(error) else Finding(number, target.name, repr(error)), True
    except Exception as error:  # what this is about
        return Finding(number, target.name, f"{type(error).__module__}.{type(error).__name__}: {error}"), False
    finally:
        target.file.write_bytes(whole)
    return None, False
