"""For each data set: how to write it, how to open it, and the truth; what the tests about all adapters run over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets import world
from datasets.world import MUTATIONS, OBJECT, POSES, ROOM, Shot, camera_matrix, orbit, pose, shoot
from datasets.writers import (
    arkitscenes,
    blended_mvs,
    co3d,
    dl3dv,
    gta_sfm,
    hypersim,
    irs,
    ken_burns,
    megadepth_dense,
    mvs_synth,
    omniobject3d,
    point_odyssey,
    rgbd_folder,
    scannetpp,
    sfm,
    tartanair,
    trellis,
    unreal_stereo_4k,
    virtual_kitti_2,
)
from depth_anything_3.datasets.base import DATASETS, Dataset

SIZE = (48, 64)
SHA = "0123456789abcdef" * 4
WHITE = (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One data set.

    Attributes:
        shots: makes the truth, by frame.
        write: writes it below a folder.
        scene: id of the scene that is written.
        in_files: the mistakes that its files can hold.
        in_views: the mistakes that can be told from the truth once it is loaded.
        image: pattern of the file with the picture of the first frame; "" where it is inside another file.
        depth: the same for its depth; "" for sparse depth too.
        needs: packages without which its files can be neither written nor read.
        tolerances: arguments of the check.
        options: arguments of the adapter.
    """

    name: str
    shots: Callable[[], Mapping[str, Shot]]
    write: Callable[[Path, Mapping[str, Shot]], None]
    scene: str
    in_files: tuple[str, ...]
    in_views: tuple[str, ...] = MUTATIONS
    image: str = ""
    depth: str = ""
    metric: bool = True
    real: bool = False
    needs: tuple[str, ...] = ()
    tolerances: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def open(self, root: Path) -> Dataset:
        return DATASETS[self.name](root, **self.options)


def _posed(names: tuple[str, ...], k: np.ndarray, size: tuple[int, int], **options: Any) -> dict[str, Shot]:
    return {name: shoot(k, w2c, size, **options) for name, w2c in zip(names, POSES, strict=False)}


def _around(names: tuple[str, ...]) -> dict[str, Shot]:
    k = camera_matrix(90, 64, 64)
    poses = zip(names, orbit(len(names)), strict=True)
    return {name: shoot(k, w2c, (64, 64), OBJECT, background=WHITE) for name, w2c in poses}


def _pair() -> dict[str, Shot]:
    k, size = np.array([[480.0, 0, 480], [0, 480, 270], [0, 0, 1]]), (540, 960)
    places = {"left": (0, 0, 0), "right": (0.1, 0, 0)}
    return {side: shoot(k, pose((0, 0, 0), place), size, ROOM) for side, place in places.items()}


def _two_pairs() -> dict[str, Shot]:
    k, size = camera_matrix(80, 96, 54), (54, 96)
    shots = {}
    for i, left in enumerate(POSES[:2]):
        right = left.copy()
        right[0, 3] -= 0.3 + 0.1 * i
        shots[f"0000{i}-left"] = shoot(k, left, size)
        shots[f"0000{i}-right"] = shoot(k, right, size)
    return shots


def _square() -> dict[str, Shot]:
    k = camera_matrix(50, *SIZE[::-1])
    places = ken_burns.PLACES.items()
    return {corner: shoot(k, pose((0, 0, 0), (*at, 0)), SIZE, unit=100) for corner, at in places}


def _toned() -> dict[str, Shot]:
    """Pictures that tone mapping leaves as they are: nine in ten pixels with something in them are darker than 0.8."""
    shots = _posed(("0000", "0002", "0005"), _SHIFTED, SIZE)
    for name, shot in shots.items():
        linear = (shot.image / 255.0) ** 2.2
        level = np.quantile((linear @ [0.3, 0.59, 0.11])[shot.hit], 0.9)
        image = np.rint(255 * (linear * 0.8**2.2 / level).clip(max=1) ** (1 / 2.2)).astype(np.uint8)
        shots[name] = replace(shot, image=image)
    return shots


def _listed(writer: Callable[..., None], *below: str) -> Callable[[Path, Mapping[str, Shot]], None]:
    """A writer that takes a folder (or file) and a list of shots."""
    return lambda root, shots: writer(root.joinpath(*below), list(shots.values()))


_EXACT_CENTRE = tuple(kind for kind in MUTATIONS if kind != "half a pixel")
_NO_CAMERAS = ("scale", "ray length", "mirrored depth", "mirrored image")
_SHIFTED = camera_matrix(50, *SIZE[::-1], shift=(2.3, -1.4))

_ALL = (
    Case(
        name="rgbd_folder",
        shots=partial(_posed, ("0.5", "1.5", "2.5"), _SHIFTED, SIZE),
        write=_listed(rgbd_folder.write, "mine", "one"),
        scene="rgbd_folder/mine/one",
        image="images/0.5.png",
        depth="depth/0.5.npy",
        in_files=MUTATIONS,
        real=True,
    ),
    Case(
        name="tartanair",
        shots=partial(_posed, ("000000", "000001", "000002"), camera_matrix(320, 640, 480), (480, 640)),
        write=_listed(tartanair.write, "abandonedfactory", "abandonedfactory", "Easy", "P000"),
        scene="tartanair/abandonedfactory/Easy/P000",
        image="000000_left.png",
        depth="000000_left_depth.npy",
        in_files=_EXACT_CENTRE,
    ),
    Case(
        name="irs",
        shots=_pair,
        write=_listed(irs.write, "Home", "ArchVizInterior03Data"),
        scene="irs/Home/ArchVizInterior03Data/00001",
        image="l_00001.png",
        depth="d_00001.exr",
        in_files=_NO_CAMERAS,
        in_views=tuple(kind for kind in MUTATIONS if kind != "other axes"),  # a step along x is the same in both
        needs=("OpenEXR",),
    ),
    Case(
        name="unreal_stereo_4k",
        shots=_two_pairs,
        write=_listed(unreal_stereo_4k.write, "UnrealStereo4K_00000", "00000"),
        scene="unreal_stereo_4k/00000",
        image="Image0/00000.png",
        depth="Disp0/00000.npy",
        in_files=_EXACT_CENTRE,  # half a pixel is noticed and corrected
    ),
    Case(
        name="gta_sfm",
        shots=partial(_posed, ("0", "1", "2"), _SHIFTED, SIZE),
        write=_listed(gta_sfm.write, "train", "20190124_203632.hdf5"),
        scene="gta_sfm/train/20190124_203632",
        in_files=MUTATIONS,
        needs=("h5py",),
    ),
    Case(
        name="ken_burns",
        shots=_square,
        write=lambda root, shots: ken_burns.write(root, "city-flying", "00007", shots),
        scene="ken_burns/city-flying/00007",
        image="00007-bl-image.png",
        depth="00007-bl-depth.exr",
        in_files=_NO_CAMERAS,
        metric=False,
        needs=("OpenEXR",),
    ),
    Case(
        name="point_odyssey",
        shots=partial(_posed, ("00000", "00001", "00002"), _SHIFTED, SIZE, world=ROOM, unit=3),
        write=_listed(point_odyssey.write, "train", "ani"),
        scene="point_odyssey/train/ani",
        image="rgb_00000.jpg",
        depth="depth_00000.png",
        in_files=MUTATIONS,
        tolerances={"depth_error": 3e-3, "image_error": 6},  # steps of 15 mm, JPEG
    ),
    Case(
        name="trellis",
        shots=partial(_around, ("000", "001", "002")),
        write=_listed(trellis.write, "ABO", "renders", SHA),
        scene=f"trellis/ABO/{SHA}",
        image="000.png",
        depth="000_depth.png",
        in_files=_EXACT_CENTRE,
        metric=False,
        options={"clean": False},  # there is no table to clean by
    ),
    Case(
        name="omniobject3d",
        shots=partial(_around, ("r_0", "r_1", "r_2")),
        write=_listed(omniobject3d.write, "blender_renders", "anise", "anise_001"),
        scene="omniobject3d/anise_001",
        image="r_0.png",
        depth="r_0_depth.exr",
        in_files=_EXACT_CENTRE,
        metric=False,
        needs=("OpenEXR",),
    ),
    Case(
        name="dl3dv",
        shots=partial(_posed, ("frame_00001", "frame_00002", "frame_00003"), _SHIFTED, SIZE),
        write=_listed(dl3dv.write, "1K", SHA),
        scene=f"dl3dv/{SHA}",
        image="frame_00001.png",
        in_files=MUTATIONS,
        metric=False,
        real=True,
        tolerances={"sparse": True},
        options={"clean": False},  # the points are seen once
    ),
    Case(
        name="hypersim",
        shots=_toned,
        write=hypersim.write,
        scene="hypersim/ai_001_001/cam_00",
        image="frame.0000.color.hdf5",
        depth="frame.0000.depth_meters.hdf5",
        in_files=MUTATIONS,
        needs=("h5py",),
        tolerances={"image_error": 1.0},
    ),
    Case(
        name="virtual_kitti_2",
        shots=partial(_posed, ("00000-0", "00000-1", "00001-0"), _SHIFTED, SIZE, unit=3),
        write=virtual_kitti_2.write,
        scene="virtual_kitti_2/Scene01/clone",
        image="Camera_0/rgb_00000.jpg",
        depth="Camera_0/depth_00000.png",
        in_files=MUTATIONS,
        tolerances={"depth_error": 3e-3, "image_error": 6},  # steps of 10 mm, JPEG
    ),
    Case(
        name="mvs_synth",
        shots=partial(_posed, ("0000", "0001", "0002"), _SHIFTED, SIZE),
        write=lambda root, shots: mvs_synth.write(root / "GTAV_540" / "0007", shots),
        scene="mvs_synth/0007",
        image="0000.png",
        depth="0000.exr",
        in_files=MUTATIONS,
        needs=("OpenEXR",),
    ),
    Case(
        name="blended_mvs",
        shots=partial(_posed, ("00000000", "00000001", "00000002"), _SHIFTED, SIZE),
        write=lambda root, shots: blended_mvs.write(root / SHA[:24], shots),
        scene=f"blended_mvs/{SHA[:24]}",
        image="00000000.jpg",
        depth="00000000.pfm",
        in_files=MUTATIONS,
        metric=False,
        tolerances={"image_error": 6},
    ),
    Case(
        name="scannetpp",
        shots=partial(_posed, ("DSC00001", "DSC00002", "DSC00003"), _SHIFTED, SIZE, world=ROOM),
        write=lambda root, shots: scannetpp.write(root / "data" / "0a5c013435", shots),
        scene="scannetpp/0a5c013435/dslr",
        image="resized_images/DSC00001.JPG",
        depth="render_depth/DSC00001.png",
        in_files=MUTATIONS,
        real=True,
        tolerances={"image_error": 6},
    ),
    Case(
        name="arkitscenes",
        shots=partial(_posed, ("1500", "2000", "2500"), _SHIFTED, SIZE, world=ROOM),
        write=arkitscenes.write,
        scene=f"arkitscenes/{arkitscenes.VIDEO}",
        image="vga_wide/*_1.500.png",
        depth="lowres_depth/*_1.500.png",
        in_files=MUTATIONS,
        real=True,
    ),
    Case(
        name="co3d",
        shots=partial(_posed, ("frame000001", "frame000002", "frame000007"), _SHIFTED, SIZE),
        write=lambda root, shots: co3d.write(root / "apple", shots),
        scene="co3d/apple/110_13051_23361",
        image="frame000001.jpg",
        depth="frame000001.jpg.geometric.png",
        in_files=MUTATIONS,
        metric=False,
        real=True,
        tolerances={"image_error": 6},
    ),
    Case(
        name="megadepth_dense",
        shots=partial(_posed, ("1_a", "2_b", "3_c"), camera_matrix(50, *SIZE[::-1]), SIZE),
        write=megadepth_dense.write,
        scene="megadepth_dense/0022/0",
        image="1_a.jpg",
        depth="1_a.h5",
        in_files=MUTATIONS,
        metric=False,
        real=True,
        needs=("h5py",),
        tolerances={"image_error": 6},
    ),
    *(
        Case(
            name=name,
            shots=partial(_posed, ("000001", "000002", "000003"), _SHIFTED, SIZE),
            write=_listed(writer, *below),
            scene=scene,
            image="000001.png",
            in_files=MUTATIONS,
            metric=False,
            real=True,
            tolerances={"sparse": True},
            options={"clean": False},  # the points are seen once
        )
        for name, writer, below, scene in (
            ("tanks_and_temples", sfm.write_tanks, ("tandt", "Truck"), "tanks_and_temples/Truck"),
            ("megadepth", sfm.write_megadepth, ("MegaDepth_v1_SfM", "5000"), "megadepth/5000/0"),
        )
    ),
)

CASES = {case.name: case for case in _ALL}


@cache
def shots_of(name: str) -> Mapping[str, Shot]:
    """The truth of a case, made once."""
    return CASES[name].shots()


def mutated(name: str, kind: str) -> dict[str, Shot]:
    """The truth as it is told with one mistake."""
    return {frame: world.mutate(shot, kind) for frame, shot in shots_of(name).items()}
