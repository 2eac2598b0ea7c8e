"""Every data set for scoring, on files that an independent writer made; what is wrong or missing is named."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.world import POSES, ROOM, Shot, camera_matrix, shoot
from datasets.writers import dl3dv, sfm
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.benchmark import seven_scenes, tum_rgbd
from depth_anything_3.datasets.benchmark.base import BENCH_DATASETS, BenchDataset, Crop, shuffled, sorted_scenes
from depth_anything_3.datasets.benchmark.nyuv2 import INTRINSICS as NYU_K
from depth_anything_3.errors import InputError

SIZE = (48, 64)


def shots(k: np.ndarray | None = None, size: tuple[int, int] = SIZE, poses: Sequence[np.ndarray] = POSES) -> list[Shot]:
    matrix = camera_matrix(50, size[1], size[0]) if k is None else k
    return [shoot(matrix, pose, size, ROOM) for pose in poses]


def picture(file: Path, shot: Shot) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    name = str(file) if file.suffix.lower() == ".png" else str(file.with_suffix(".png"))
    cv2.imwrite(name, shot.image[..., ::-1])
    if name != str(file):
        Path(name).rename(file)  # readers go by the content


def grey(file: Path, values: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.rint(values).astype(np.uint16))


def text(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def ply(file: Path, faces: bool) -> None:
    triangle = "element face 1\nproperty list uchar int vertex_indices\n" if faces else ""
    head = f"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n{triangle}"
    text(file, head + "end_header\n0 0 0\n1 0 0\n0 1 0.5\n" + ("3 0 1 2\n" if faces else ""))


def numbers(values: np.ndarray) -> str:
    return " ".join(f"{v:.9g}" for v in np.asarray(values).ravel())


def quaternion_wxyz(rotation: np.ndarray) -> np.ndarray:
    vector = cv2.Rodrigues(rotation)[0][:, 0]
    angle = float(np.linalg.norm(vector))
    return np.array([np.cos(angle / 2), *(0.5 * np.sinc(angle / 2 / np.pi) * vector)])


def colmap(folder: Path, names: Sequence[str], some: Sequence[Shot]) -> None:
    k, (h, w) = some[0].k, some[0].size
    text(folder / "cameras.txt", f"# a\n# b\n# c\n1 PINHOLE {w} {h} {k[0, 0]} {k[1, 1]} {k[0, 2]} {k[1, 2]}\n")
    lines = [
        f"{i + 1} {numbers(quaternion_wxyz(s.w2c[:3, :3]))} {numbers(s.w2c[:3, 3])} 1 {name}\n\n"
        for i, (name, s) in enumerate(zip(names, some, strict=True))
    ]
    text(folder / "images.txt", "# a\n# b\n# c\n# d\n" + "".join(lines))
    text(folder / "points3D.txt", "")


def write_hiroom(root: Path) -> list[Shot]:
    some = shots()
    place = root / "data" / "house" / "floor" / "room"
    for i, shot in enumerate(some):
        picture(place / "image" / f"{i}.png", shot)
        grey(place / "depth" / f"{i}.png", np.where(shot.z < 100, shot.z, 0) / 100 * 65535)
        (place / "pose").mkdir(exist_ok=True)
        np.save(place / "pose" / f"{i}.npy", shot.w2c)
    picture(place / "image" / "unposed.png", some[0])
    (place / "aliasing_mask").mkdir()
    cv2.imwrite(str(place / "aliasing_mask" / "0.png"), np.eye(*SIZE, dtype=np.uint8))
    np.save(place / "cam_K.npy", some[0].k)
    ply(root / "fused_pcd" / "house-floor-room.ply", faces=False)
    text(root / "selected_scene_list_val.txt", "house/floor/room\n")
    return some


def write_eth3d(root: Path) -> list[Shot]:
    some = shots()
    place = root / "relief"
    names = [f"dslr_images/DSC_{n:04d}.JPG" for n in (425, 426, 427)]
    colmap(place / "dslr_calibration_jpg", names, some)
    for name, shot in zip(names, some, strict=True):
        picture(place / "images" / name, shot)
        file = place / "ground_truth_depth" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(shot.z.astype("<f4").tobytes())
    ply(place / "combined_mesh.ply", faces=True)
    colmap(root / "unpublished" / "dslr_calibration_jpg", names[:1], some[:1])
    (root / "unpublished" / "images").mkdir()
    return some[:2]  # 427 is filtered


def write_seven_scenes(root: Path) -> list[Shot]:
    some = shots(seven_scenes.INTRINSICS, (480, 640))
    place = root / "7Scenes" / "stairs" / "seq-02"
    for i, shot in enumerate(some):
        picture(place / f"frame-{i:06d}.color.png", shot)
        grey(place / f"frame-{i:06d}.depth.png", np.where(shot.z < 60, shot.z * 1000, 65535))
        text(place / f"frame-{i:06d}.pose.txt", numbers(shot.c2w))
    ply(root / "7Scenes" / "meshes" / "stairs.ply", faces=True)
    return some


def write_scannetpp(root: Path) -> list[Shot]:
    some = shots()
    place = root / "09c1414f1b" / "merge_dslr_iphone"
    names = ["iphone/a.png", "iphone/b.png", "dslr/c.png"]
    colmap(place / "colmap" / "sparse_render_rgb", names, some)
    for name, shot in zip(names, some, strict=True):
        picture(place / "images" / name, shot)
        grey(place / "render_depth" / f"{Path(name).stem}.png", np.where(shot.z < 60, shot.z * 1000, 0))
    ply(root / "09c1414f1b" / "scans" / "mesh_aligned_0.05.ply", faces=True)
    return some[:2]


def dtu_camera(file: Path, shot: Shot) -> None:
    rows = "\n".join(numbers(row) for row in shot.w2c)
    text(file, f"extrinsic\n{rows}\n\nintrinsic\n" + "\n".join(numbers(row) for row in shot.k) + "\n\n425 2.5\n")


def write_dtu49(root: Path) -> list[Shot]:
    from scipy.io import savemat

    some = shots()
    for i, shot in enumerate(some):
        picture(root / "Rectified" / "scan9" / f"rect_{i + 1:03d}_3_r5000.png", shot)
        dtu_camera(root / "Cameras" / f"{i:08d}_cam.txt", shot)
        file = root / "depth_raw" / "Depths" / "scan9" / f"depth_visual_{i:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.where(np.arange(64) < 40, 200, 3)[None].repeat(48, 0).astype(np.uint8))
    ply(root / "Points" / "stl" / "stl009_total.ply", faces=False)
    folder = root / "SampleSet" / "mvs_data" / "ObsMask"
    folder.mkdir(parents=True)
    box = np.array([[0.0, 0, 0], [9, 9, 9]])
    savemat(folder / "ObsMask9_10.mat", {"ObsMask": np.ones((4, 5, 6), np.uint8), "BB": box, "Res": 2.0})
    savemat(folder / "Plane9.mat", {"P": np.array([[0.0], [0], [1], [-1]])})
    return some


def write_dtu64(root: Path) -> list[Shot]:
    some = shots()
    for i, shot in enumerate(some):
        picture(root / "scan24" / "image" / f"{i:06d}.png", shot)
        dtu_camera(root / "Cameras" / f"{i:08d}_cam.txt", shot)
    return some


def write_kitti(root: Path) -> list[Shot]:
    k = camera_matrix(50, 64, 48, (-0.5, 1.5))
    some = shots(k)
    drive = "2011_09_26_drive_0002_sync"
    stored = np.column_stack((k - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]], [4.5, 0, 0]))
    text(root / "2011_09_26" / "calib_cam_to_cam.txt", f"S_02: 1 2\nP_rect_02: {numbers(stored)}\n")
    lines = []
    for i, shot in enumerate(some):
        name = f"{drive}/image_02/data/{i:010d}.png"
        lines.append(f"2011_09_26/{name} {drive}/proj_depth/groundtruth/image_02/{i:010d}.png")
        picture(root / "2011_09_26" / name, shot)
        depth = root / "data_depth_annotated" / "val" / drive / "proj_depth" / "groundtruth" / "image_02"
        if i < 2:
            grey(depth / f"{i:010d}.png", np.where(shot.z < 100, shot.z * 256, 0))
    text(root / "eigen_test_files_with_gt.txt", "\n".join(lines))
    return some[:2]


def write_nyuv2(root: Path) -> list[Shot]:
    import h5py
    from scipy.io import savemat

    root.mkdir(parents=True, exist_ok=True)
    some = shots(NYU_K, (480, 640))
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = np.stack([s.image.transpose(2, 1, 0) for s in some])
        file["rawDepths"] = np.stack([np.where(s.hit, s.z, 0).T for s in some]).astype(np.float32)
    savemat(root / "splits.mat", {"testNdxs": np.array([[1], [3]], np.uint16)})
    return [some[0], some[2]]


def write_sintel(root: Path) -> list[Shot]:
    some = shots()
    for i, shot in enumerate(some, 1):
        picture(root / "training" / "final" / "alley_1" / f"frame_{i:04d}.png", shot)
        for part, end in (("depth", "dpt"), ("camdata_left", "cam")):
            file = root / "training" / part / "alley_1" / f"frame_{i:04d}.{end}"
            file.parent.mkdir(parents=True, exist_ok=True)
            head = struct.pack("<f", 202021.25)
            if end == "dpt":
                body = struct.pack("<ii", 64, 48) + np.where(shot.hit, shot.z, 1e10).astype("<f4").tobytes()
            else:
                body = shot.k.astype("<f8").tobytes() + shot.w2c[:3].astype("<f8").tobytes()
            file.write_bytes(head + body)
    return some


def write_diode(root: Path) -> list[Shot]:
    some = shots(np.array([[886.81, 0, 512], [0, 927.06, 384], [0, 0, 1]]), (768, 1024), POSES[:1])
    place = root / "val" / "indoors" / "scene_00019" / "scan_00183"
    name = "00019_00183_indoors_000_010"
    picture(place / f"{name}.png", some[0])
    np.save(place / f"{name}_depth.npy", some[0].z.astype(np.float32)[..., None])
    np.save(place / f"{name}_depth_mask.npy", (np.arange(1024) < 900)[None].repeat(768, 0).astype(np.float64))
    return some


def write_sun_rgbd(root: Path) -> list[Shot]:
    some = shots(poses=POSES[:1])
    for name in ("NYU0001", "NYU0002"):
        place = root / "SUNRGBD" / "kv1" / "NYUdata" / name
        picture(place / "image" / f"{name}.jpg", some[0])
        mm = np.rint(np.where(some[0].z < 8, some[0].z * 1000, 0)).astype(np.uint16)
        grey(place / "depth" / f"{name}.png", (mm << 3) | (mm >> 13))
        text(place / "intrinsics.txt", numbers(some[0].k))
    text(root / "SUNRGBD" / "test.txt", "kv1/NYUdata/NYU0001\n")
    return some


def write_kitti_odometry(root: Path) -> list[Shot]:
    k = camera_matrix(50, 64, 48)
    some = shots(k)
    stored = np.column_stack((k - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]], [50 * 0.06, 0, 0]))
    beside = np.eye(4)
    beside[0, 3] = 0.06  # camera 2 = beside * camera 0
    poses = [np.linalg.inv(np.linalg.inv(beside) @ s.w2c)[:3] for s in some]
    text(root / "poses" / "04.txt", "\n".join(numbers(pose) for pose in poses))
    text(root / "sequences" / "04" / "calib.txt", f"P0: {numbers(stored * 0)}\nP2: {numbers(stored)}\n")
    for i, shot in enumerate(some):
        picture(root / "sequences" / "04" / "image_2" / f"{i:06d}.png", shot)
    return some


def write_tum_rgbd(root: Path) -> list[Shot]:
    fx, fy, cx, cy = tum_rgbd.INTRINSICS["1"]
    some = shots(np.array([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]]), (480, 640))
    place = root / "rgbd_dataset_freiburg1_desk"
    lists: dict[str, list[str]] = {"rgb": [], "depth": [], "groundtruth": []}
    for i, shot in enumerate(some):
        picture(place / "rgb" / f"{i}.png", shot)
        grey(place / "depth" / f"{i}.png", np.where(shot.z < 13, shot.z * 5000, 0))
        lists["rgb"].append(f"{i}.000 rgb/{i}.png")
        lists["depth"].append(f"{i}.012 depth/{i}.png")
        w, x, y, z = quaternion_wxyz(shot.c2w[:3, :3])
        lists["groundtruth"].append(f"{i}.005 {numbers(shot.c2w[:3, 3])} {x:.9g} {y:.9g} {z:.9g} {w:.9g}")
    lists["rgb"].append("99.0 rgb/0.png")
    for name, lines in lists.items():
        text(place / f"{name}.txt", "# comment\n" + "\n".join(lines) + "\n")
    return some


def write_photos(writer: Callable[..., None], folder: str, root: Path) -> list[Shot]:
    some = shots()
    writer(root / folder, some)
    return some


@dataclass(frozen=True)
class Case:
    """A data set, who writes it, its scene, where depth may differ (relative), and whether a surface has triangles."""

    name: str
    write: Callable[[Path], list[Shot]]
    scene: str
    depth: float | None = 1e-3
    posed: bool = True
    faces: bool | None = None
    far: float = 1e9


CASES = [
    Case("hiroom", write_hiroom, "house/floor/room", faces=False, far=100),
    Case("eth3d", write_eth3d, "relief", faces=True),
    Case("eth3d_mono", write_eth3d, "relief"),
    Case("seven_scenes", write_seven_scenes, "stairs", faces=True, far=60),
    Case("scannetpp", write_scannetpp, "09c1414f1b", faces=True, far=60),
    Case("dtu49", write_dtu49, "scan9", depth=None, faces=False),
    Case("dtu64", write_dtu64, "scan24", depth=None),
    Case("kitti", write_kitti, "2011_09_26_drive_0002_sync", depth=3e-3, posed=False, far=100),
    Case("nyuv2", write_nyuv2, "test", posed=False),
    Case("sintel", write_sintel, "alley_1"),
    Case("diode", write_diode, "indoors/scene_00019/scan_00183", posed=False),
    Case("diode_indoor", write_diode, "indoors/scene_00019/scan_00183", posed=False),
    Case("sun_rgbd", write_sun_rgbd, "kv1/NYUdata/NYU0001", posed=False, far=8),
    Case("kitti_odometry", write_kitti_odometry, "04", depth=None),
    Case("tum_rgbd", write_tum_rgbd, "freiburg1_desk", far=13),
    Case("tanks_and_temples", partial(write_photos, sfm.write_tanks, "Truck"), "Truck", depth=None),
    Case("megadepth_nvs", partial(write_photos, sfm.write_megadepth, "5000"), "5000/0", depth=None),
    Case("dl3dv_benchmark", partial(write_photos, dl3dv.write, "a" * 64), "a" * 64, depth=None),
]


def opened(case: Case, root: Path) -> tuple[BenchDataset, list[Shot]]:
    truth = case.write(root)
    return BENCH_DATASETS[case.name](root), truth  # type: ignore[call-arg]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_was_written_is_what_is_loaded(case: Case, tmp_path: Path) -> None:
    data, truth = opened(case, tmp_path / "root")
    scene = f"{case.name}/{case.scene}"
    assert data.scenes() == (scene,)
    frames = data.select(scene)
    assert len(frames) == len(truth)
    cameras = data.cameras(scene)
    for i, (frame, shot) in enumerate(zip(frames, truth, strict=True)):
        view = data.load(scene, frame)
        np.testing.assert_array_equal(view.image, shot.image)
        np.testing.assert_allclose(view.intrinsics, shot.k, rtol=1e-5, atol=1e-4)
        if case.posed:
            assert view.extrinsics is not None and cameras.extrinsics is not None
            np.testing.assert_allclose(view.extrinsics, shot.w2c[:3], atol=2e-5)
            np.testing.assert_array_equal(cameras.extrinsics[i], view.extrinsics)
        if case.depth is not None:
            assert view.depth is not None
            known = shot.hit & (shot.z < case.far)
            stored = known if case.name != "sintel" else shot.hit
            np.testing.assert_allclose(view.depth[stored], shot.z[stored], rtol=case.depth)
            assert not view.depth[~known & (shot.z < 1e9)].any()
    surface = data.surface(scene)
    assert (surface is None) == (case.faces is None)
    if surface is not None:
        np.testing.assert_allclose(surface.points, [[0, 0, 0], [1, 0, 0], [0, 1, 0.5]])
        assert (surface.faces is not None) == case.faces


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_missing_and_damaged_files_are_named(case: Case, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="root"):
        (tmp_path / "empty").mkdir()
        BENCH_DATASETS[case.name](tmp_path / "empty")  # type: ignore[call-arg]
    data, _ = opened(case, tmp_path / "root")
    scene = data.scenes()[0]
    frames = data.frames(scene)
    for file in (p for p in (tmp_path / "root").rglob("*") if p.suffix.lower() in (".png", ".jpg", ".mat", ".dpt")):
        file.write_bytes(b"torn")
    with pytest.raises(CorruptSample) as error:
        data.load(scene, frames[0])
    assert error.value.file.name in str(error.value) and error.value.file.exists()
    if case.faces is not None:
        for file in (tmp_path / "root").rglob("*.ply"):
            file.unlink()
        with pytest.raises(CorruptSample, match=r"\.ply: no such file"):
            data.surface(scene)


def test_all_are_covered() -> None:
    assert {case.name for case in CASES} == set(BENCH_DATASETS) - {"procedural", "real_mini"}
    for name in BENCH_DATASETS:
        assert BENCH_DATASETS[name].name == name and BENCH_DATASETS[name].modes


def test_masks_and_observed_volumes(tmp_path: Path) -> None:
    dtu, _ = opened(CASES[5], tmp_path / "dtu")
    mask = dtu.load("dtu49/scan9", dtu.frames("dtu49/scan9")[0]).mask
    assert mask is not None and mask[:, :40].all() and not mask[:, 40:].any()
    volume = dtu.observed("dtu49/scan9")
    assert volume is not None and volume.mask.shape == (4, 5, 6) and volume.resolution == 2
    assert volume.plane.tolist() == [0, 0, 1, -1]
    rooms, _ = opened(CASES[0], tmp_path / "rooms")
    aliased = rooms.load("hiroom/house/floor/room", "0").mask
    assert aliased is not None and not np.diagonal(aliased).any() and aliased.sum() == aliased.size - 48


def test_frames_are_chosen_as_the_released_code_does(tmp_path: Path) -> None:
    # Python 3's shuffle of range(10) with the seed 42, as its documentation keeps it.
    assert shuffled(10, 10) == list(range(10))
    assert shuffled(10, 4) == sorted([7, 3, 2, 8])
    data, _ = opened(CASES[3], tmp_path)
    scene = data.scenes()[0]
    assert data.select(scene, "paper") == data.frames(scene)[::11]
    assert len(data.select(scene, max_frames=2)) == 2
    with pytest.raises(InputError, match="max_frames"):
        data.select(scene, max_frames=-1)
    assert sorted_scenes(["stairs"], data.scenes()) == data.scenes()


def test_crops_hit_whole_pixels() -> None:
    mask = BENCH_DATASETS["nyuv2"].crop.mask(480, 640)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (45, 471, 41, 601)
    garg = BENCH_DATASETS["kitti"].crop.mask(375, 1242)
    assert np.flatnonzero(garg.any(1))[0] == int(0.40810811 * 375)
    assert Crop().mask(3, 4).all()
