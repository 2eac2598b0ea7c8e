"""WebDataset shards: a data set in a few large tar files instead of millions of small ones.

A sample is one frame; its members are named KEY.EXTENSION as the library WebDataset has it, and follow each other:
``KEY.png`` or ``KEY.jpg``; ``KEY.json`` with ``scene``, ``frame``, ``metric``, ``real``, ``intrinsics`` (3, 3) and
``extrinsics`` (3, 4) or null; where they are known, ``KEY.depth.npy`` (float32), ``KEY.sky.png``, ``KEY.mask.png`` (255
where it is seen). KEY is the id of the scene, a slash and the number of the frame. Conventions are those of
:class:`~depth_anything_3.datasets.base.View`, and scenes keep the ids they have in the data set they come from.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image

from depth_anything_3._files import atomic_path
from depth_anything_3.datasets._folder import assemble, check_size
from depth_anything_3.datasets._reading import damage_in, read_image_bytes
from depth_anything_3.datasets.base import CorruptSample, Dataset, SceneCameras, View
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.stored_poses import intrinsics_problem, pose_problem

SHARD_BYTES = 2**30
"""A shard is closed when it has grown to this size."""

_IMAGES = ("png", "jpg")
_SEEN = 128  # in a mask, from here on


@dataclass(frozen=True)
class _Member:
    """Where the content of a file lies in a shard."""

    shard: Path
    start: int
    size: int

    def read(self, name: str) -> bytes:
        with damage_in(self.shard), self.shard.open("rb") as stream:
            stream.seek(self.start)
            content = stream.read(self.size)
        if len(content) < self.size:
            raise CorruptSample(self.shard, f"{name} is cut off")
        return content


_Frame = dict[str, _Member]


class Shards(Dataset):
    """The shards of one data set, in a folder; any sample can be read at any time, so that training may resume.

    Only the headers of the files are read beforehand. A shard that ends early gives what is there.

    Args:
        root: the folder, or one that holds only such folders, of data sets that are all metric or all not.
        clean: has nothing to do.

    Raises:
        InputError: there is no such folder, or it holds no shard.
    """

    name = "shards"

    def __init__(self, root: str | os.PathLike[str], *, clean: bool = True) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links
        if not self.root.is_dir():
            raise InputError("root", f"{root}, which is not a folder", "a folder of shards")
        self._files = tuple(sorted(self.root.rglob("*.tar")))
        if not self._files:
            raise InputError("root", f"{root}, which has nothing of the kind", "files *.tar, as da3 shard writes them")

    @property
    def metric(self) -> bool:  # type: ignore[override]
        """As in the data set that the shards were written from."""
        return self._kind[0]

    @property
    def real(self) -> bool:  # type: ignore[override]
        """As in the data set that the shards were written from."""
        return self._kind[1]

    def scenes(self) -> tuple[str, ...]:
        """See :meth:`Dataset.scenes`."""
        return tuple(self._index)

    def frames(self, scene: str) -> tuple[str, ...]:
        """See :meth:`Dataset.frames`; frames are named by their number."""
        return tuple(self._scene(scene))

    def cameras(self, scene: str) -> SceneCameras:
        """See :meth:`Dataset.cameras`."""
        members = self._scene(scene)
        intrinsics = np.full((len(members), 3, 3), np.nan, np.float32)
        extrinsics = np.full((len(members), 3, 4), np.nan, np.float32)
        posed = True
        for index, frame in enumerate(members):
            with suppress(CorruptSample):
                k, pose = _camera(members[frame], frame)
                intrinsics[index] = k
                posed = posed and pose is not None
                extrinsics[index] = np.nan if pose is None else pose
        return SceneCameras(intrinsics=intrinsics, extrinsics=extrinsics if posed else None)

    def load(self, scene: str, frame: str) -> View:
        """See :meth:`Dataset.load`."""
        frames = self._scene(scene)
        if frame not in frames:
            known = f"one of its {len(frames)} frames"
            raise InputError("frame", f"{frame!r} of scene {scene!r}", known, list(frames)[:3])
        members = frames[frame]
        intrinsics, extrinsics = _camera(members, frame)
        suffix = next((name for name in _IMAGES if name in members), None)
        if suffix is None:
            raise CorruptSample(members["json"].shard, f"{scene}/{frame} has no picture")
        what = f"{scene}/{frame}.{suffix}"
        image = read_image_bytes(members[suffix].read(what), members[suffix].shard, what)
        size = image.shape[:2]
        sky, mask = (_read_mask(members, f"{kind}.png", size) for kind in ("sky", "mask"))
        depth = _read_depth(members)
        return assemble(image, depth, intrinsics=intrinsics, extrinsics=extrinsics, sky=sky, mask=mask)

    def skipped(self) -> Mapping[str, int]:
        """See :meth:`Dataset.skipped`."""
        return {reason: count for reason, count in self._found[1].items() if count}

    def _scene(self, scene: str) -> dict[str, _Frame]:
        if scene not in self._index:
            known = f"one of the {len(self._index)} scenes in {self.root}"
            raise InputError("scene", repr(scene), known, list(self._index)[:3])
        return self._index[scene]

    @property
    def _index(self) -> dict[str, dict[str, _Frame]]:
        return self._found[0]

    @cached_property
    def _found(self) -> tuple[dict[str, dict[str, _Frame]], Counter[str]]:
        scenes: dict[str, dict[str, _Frame]] = {}
        skipped: Counter[str] = Counter()
        for shard in self._files:
            for name, member in _members(shard, skipped):
                folder, _, file = name.rpartition("/")
                frame, _, extension = file.partition(".")
                scenes.setdefault(folder, {}).setdefault(frame, {})[extension] = member
        whole = {
            scene: {frame: frames[frame] for frame in sorted(frames) if "json" in frames[frame]}
            for scene, frames in sorted(scenes.items())
        }
        skipped["a frame without a camera"] += sum(len(scenes[scene]) - len(whole[scene]) for scene in whole)
        return {scene: frames for scene, frames in whole.items() if frames}, skipped

    @cached_property
    def _kind(self) -> tuple[bool, bool]:
        for frames in self._index.values():
            for members in frames.values():
                with suppress(CorruptSample):
                    content = _read_json(members)
                    return bool(content["metric"]), bool(content["real"])
        raise CorruptSample(self.root, "no frame can be read")


def write_shards(
    dataset: Dataset,
    folder: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    jpeg_quality: int | None = None,
    overwrite: bool = False,
) -> tuple[int, Counter[str]]:
    """Write all frames of a data set; the same frames give the same bytes.

    Args:
        dataset: from which.
        folder: of the shards, ``000000.tar`` and so on; is made if it does not exist.
        shard_bytes: see :data:`SHARD_BYTES`.
        jpeg_quality: of the pictures, 1 to 100; None keeps them exactly, as PNG.
        overwrite: replace shards that are there.

    Returns:
        How many frames were written, and what was wrong with those that were not, with how often.

    Raises:
        InputError: there are shards already, or a quality or size that is none.
    """
    if jpeg_quality is not None and not 1 <= jpeg_quality <= 100:
        raise InputError("jpeg_quality", str(jpeg_quality), "1 to 100, or nothing")
    if shard_bytes < 1:
        raise InputError("shard_bytes", str(shard_bytes), "a positive number")
    before = sorted(folder.glob("*.tar"))
    if before and not overwrite:
        raise InputError("folder", f"{folder}, which has shards", "an empty folder, or to overwrite")
    skipped: Counter[str] = Counter()
    samples = _samples(dataset, skipped, jpeg_quality)
    count = written = 0
    sample = next(samples, None)
    while sample is not None:
        with atomic_path(folder / f"{count:06d}.tar") as temporary, tarfile.open(temporary, "w") as shard:
            while sample is not None and (shard.offset < shard_bytes):
                for name, content in sample:
                    header = tarfile.TarInfo(name)
                    header.size = len(content)
                    shard.addfile(header, io.BytesIO(content))
                written += 1
                sample = next(samples, None)
        count += 1
    for old in before[count:]:
        old.unlink()
    return written, skipped


def _samples(dataset: Dataset, skipped: Counter[str], jpeg_quality: int | None) -> Iterator[list[tuple[str, bytes]]]:
    """The members of one frame after the other."""
    for scene in dataset.scenes():
        try:
            frames = dataset.frames(scene)
        except CorruptSample as error:
            skipped[str(error)] += 1
            continue
        for index, frame in enumerate(frames):
            try:
                view = dataset.load(scene, frame)
            except CorruptSample as error:
                skipped[str(error)] += 1
                continue
            about = {"scene": scene, "frame": frame, "metric": dataset.metric, "real": dataset.real}
            yield [
                (f"{scene}/{index:06d}.{extension}", content)
                for extension, content in _encoded(view, about, jpeg_quality)
            ]


def _encoded(view: View, about: dict[str, Any], jpeg_quality: int | None) -> Iterator[tuple[str, bytes]]:
    pose = None if view.extrinsics is None else view.extrinsics.tolist()
    content = {**about, "intrinsics": view.intrinsics.tolist(), "extrinsics": pose}
    yield "json", json.dumps(content).encode()
    if jpeg_quality is None:
        yield "png", _picture(view.image, "PNG")
    else:
        yield "jpg", _picture(view.image, "JPEG", quality=jpeg_quality)
    if view.depth is not None:
        stream = io.BytesIO()
        np.save(stream, view.depth)
        yield "depth.npy", stream.getvalue()
    for name, seen in (("sky", view.sky), ("mask", view.mask)):
        if seen is not None:
            yield f"{name}.png", _picture(np.where(seen, 255, 0).astype(np.uint8), "PNG")


def _picture(pixels: np.ndarray, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def _members(shard: Path, skipped: Counter[str]) -> Iterator[tuple[str, _Member]]:
    """Names and places of the files in a shard, as far as their headers can be read."""
    try:
        with tarfile.open(shard) as opened:
            for header in opened:
                if header.isfile():
                    yield header.name, _Member(shard, header.offset_data, header.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        skipped[f"{shard}: {error}"] += 1


def _read_json(members: _Frame) -> dict[str, Any]:
    member = members["json"]
    with damage_in(member.shard):
        content = json.loads(member.read("json"))
    if not isinstance(content, dict):
        raise CorruptSample(member.shard, "a camera that is no JSON object")
    return content


def _camera(members: _Frame, frame: str) -> tuple[np.ndarray, np.ndarray | None]:
    content, shard = _read_json(members), members["json"].shard
    with damage_in(shard):
        intrinsics = np.array(content["intrinsics"], np.float32).reshape(3, 3)
        pose = content["extrinsics"]
        extrinsics = None if pose is None else np.array(pose, np.float32).reshape(3, 4)
    problem = intrinsics_problem(intrinsics)
    if extrinsics is not None:
        problem = problem or pose_problem(extrinsics)
    if problem is not None:
        raise CorruptSample(shard, f"frame {frame}: {problem}")
    return intrinsics, extrinsics


def _read_depth(members: _Frame) -> tuple[Path, np.ndarray] | None:
    if "depth.npy" not in members:
        return None
    member = members["depth.npy"]
    with damage_in(member.shard):
        depth = np.load(io.BytesIO(member.read("depth.npy")), allow_pickle=False)
        if depth.ndim != 2 or depth.dtype != np.float32 or not (np.isfinite(depth) & (depth >= 0)).all():
            raise CorruptSample(member.shard, "depth that is not finite, not positive or not a map of float32")
    return member.shard, depth


def _read_mask(members: _Frame, name: str, size: tuple[int, ...]) -> Bool[np.ndarray, "h w"] | None:
    if name not in members:
        return None
    member = members[name]
    with damage_in(member.shard), Image.open(io.BytesIO(member.read(name))) as opened:
        mask = np.asarray(opened.convert("L")) >= _SEEN
    check_size(member.shard, mask, size)
    return mask


DATASET = Shards
