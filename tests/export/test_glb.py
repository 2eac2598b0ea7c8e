"""The exported scene, read back with independent libraries and compared with an analytic one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from depth_anything_3.errors import InputError
from depth_anything_3.export import glb
from depth_anything_3.types.prediction import Prediction

pygltflib = pytest.importorskip("pygltflib")

Array = npt.NDArray[Any]
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
QUIET = glb.Options(export_depth_vis=False)

# A plane n.x = 6 and two cameras that look at it from different places.
NORMAL, OFFSET = np.array([0.1, -0.2, 1.0]), 6.0
HEIGHT, WIDTH = 12, 16
K = np.array([[20.0, 0.4, 7.0], [0.0, 22.0, 6.5], [0.0, 0.0, 1.0]])


def turn(axis: int, angle: float) -> Array:
    """A rotation about one coordinate axis, written out."""
    c, s = np.cos(angle), np.sin(angle)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    result = np.eye(3)
    result[i, i], result[i, j], result[j, i], result[j, j] = c, -s, s, c
    return result


def plane_scene(**changes: Any) -> tuple[Any, Array]:
    """The prediction, and the (2, H, W, 3) world points that its pixel centres see, from ray-plane intersection."""
    rotations = [turn(1, 0.2) @ turn(0, -0.1), turn(1, -0.3) @ turn(2, 0.5)]
    centres = [np.array([0.3, -0.2, 0.5]), np.array([1.0, 0.4, -0.3])]
    points, depth, poses = np.zeros((2, HEIGHT, WIDTH, 3)), np.zeros((2, HEIGHT, WIDTH)), np.zeros((2, 3, 4))
    for view, (world_from_camera, centre) in enumerate(zip(rotations, centres, strict=True)):
        poses[view] = np.c_[world_from_camera.T, -world_from_camera.T @ centre]
        for row, column in np.ndindex(HEIGHT, WIDTH):
            ray = world_from_camera @ np.linalg.inv(K) @ [column + 0.5, row + 0.5, 1]
            depth[view, row, column] = (OFFSET - NORMAL @ centre) / (NORMAL @ ray)
            points[view, row, column] = centre + depth[view, row, column] * ray
    fields: dict[str, Any] = {
        "depth": depth.astype(np.float32),
        "is_metric": True,
        "extrinsics": poses.astype(np.float32),
        "intrinsics": np.stack([K, K]).astype(np.float32),
        "processed_images": np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8),
        "names": ("left.png", "right.png"),
    }
    return Prediction(**{**fields, **changes}), points


class Scene:
    """A file as pygltflib sees it, with arrays decoded from its accessors."""

    def __init__(self, path: Path) -> None:
        self.gltf = pygltflib.GLTF2().load_binary(str(path))
        self.alignment = np.array(self.gltf.scenes[self.gltf.scene].extras["hf_alignment"])
        self.nodes = {node.name: node for node in self.gltf.nodes}

    def array(self, index: int) -> Array:
        accessor = self.gltf.accessors[index]
        view = self.gltf.bufferViews[accessor.bufferView]
        dtype = {pygltflib.FLOAT: "<f4", pygltflib.UNSIGNED_SHORT: "<u2"}[accessor.componentType]
        columns = {"VEC3": 3, "VEC4": 4}[accessor.type]
        start = view.byteOffset + (accessor.byteOffset or 0)
        data = self.gltf.binary_blob()[start : start + view.byteLength]
        return np.frombuffer(data, dtype).reshape(accessor.count, columns)

    def primitive(self, name: str) -> Any:
        (primitive,) = self.gltf.meshes[self.nodes[name].mesh].primitives
        return primitive

    def positions(self, name: str = "points") -> Array:
        return self.array(self.primitive(name).attributes.POSITION)

    def srgb(self, name: str = "points") -> Array:
        """Vertex colours as a viewer shows them: linear light, encoded for the screen."""
        linear = self.array(self.primitive(name).attributes.COLOR_0)[:, :3] / 65535
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        return np.round(encoded * 255).astype(np.uint8)

    def matrix(self, name: str) -> Array:
        return np.array(self.nodes[name].matrix).reshape(4, 4).T


def export(prediction: Prediction, folder: Path, options: glb.Options = QUIET) -> Scene:
    return Scene(glb.export(prediction, folder, options)[0])


def moved(matrix: Array, points: Array) -> Array:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def homogeneous(poses: Array) -> Array:
    return np.concatenate([poses, np.tile([[[0.0, 0, 0, 1]]], (len(poses), 1, 1))], axis=1)


def test_points_of_an_analytic_scene(tmp_path: Path) -> None:
    prediction, truth = plane_scene()
    scene = export(prediction, tmp_path)
    world = moved(np.linalg.inv(scene.alignment), scene.positions())
    np.testing.assert_allclose(world, truth.reshape(-1, 3), atol=1e-5)
    np.testing.assert_allclose(world @ NORMAL, OFFSET, atol=1e-5)
    np.testing.assert_array_equal(scene.srgb(), prediction.processed_images.reshape(-1, 3))


def test_frame_is_the_first_camera_at_the_median(tmp_path: Path) -> None:
    prediction, truth = plane_scene()
    scene = export(prediction, tmp_path, glb.Options(export_depth_vis=False, num_max_points=50))
    in_first_camera = moved(homogeneous(prediction.extrinsics)[0], truth.reshape(-1, 3)) * [1, -1, -1]
    expected = FLIP @ homogeneous(prediction.extrinsics)[0]
    expected[:3, 3] -= np.median(in_first_camera, axis=0)  # of all points, not of the fifty that are written
    np.testing.assert_allclose(scene.alignment, expected, atol=1e-5)
    assert len(scene.positions()) == 50


def test_the_frame_is_a_choice(tmp_path: Path) -> None:
    prediction, truth = plane_scene()
    options = glb.Options(export_depth_vis=False, frame="input")
    scene = export(prediction, tmp_path, options)
    np.testing.assert_allclose(scene.positions() * [1, -1, -1], truth.reshape(-1, 3), atol=1e-5)
    scene = export(prediction, tmp_path, glb.Options(export_depth_vis=False, frame="z_up"))
    np.testing.assert_allclose(
        moved(np.linalg.inv(scene.alignment), scene.positions()), truth.reshape(-1, 3), atol=1e-5
    )
    np.testing.assert_allclose(np.median(scene.positions(), axis=0), 0, atol=1e-5)
    up = -prediction.extrinsics[:, 1, :3].mean(0)
    np.testing.assert_allclose(scene.alignment[:3, :3] @ up / np.linalg.norm(up), [0, 1, 0], atol=1e-6)
    assert scene.gltf.scenes[0].extras["unit"] == "metre" and scene.gltf.scenes[0].extras["frame"] == "z_up"


def test_camera_nodes_are_the_poses(tmp_path: Path) -> None:
    prediction, _ = plane_scene()
    scene = export(prediction, tmp_path)
    for view, name in enumerate(prediction.names):
        world_from_camera = np.linalg.inv(homogeneous(prediction.extrinsics)[view])
        np.testing.assert_allclose(scene.matrix(name), scene.alignment @ world_from_camera @ FLIP, atol=1e-6)
    np.testing.assert_allclose(scene.matrix("left.png")[:3, :3], np.eye(3), atol=1e-6)  # looks along -z, y up


def test_lenses_show_pixels_where_they_are(tmp_path: Path) -> None:
    """Through the projection matrix of the glTF specification, every point lands on the pixel that it came from."""
    centred = np.array([[20.0, 0, WIDTH / 2], [0, 22.0, HEIGHT / 2], [0, 0, 1]], np.float32)
    prediction, _ = plane_scene(intrinsics=np.stack([centred, centred]))
    scene = export(prediction, tmp_path)
    count = HEIGHT * WIDTH
    for view, name in enumerate(prediction.names):
        camera = scene.gltf.cameras[scene.nodes[name].camera]
        assert camera.extras["intrinsics"] == centred.tolist()
        local = moved(np.linalg.inv(scene.matrix(name)), scene.positions()[view * count : (view + 1) * count])
        lens = camera.perspective
        right = local[:, 0] / (lens.aspectRatio * np.tan(lens.yfov / 2)) / -local[:, 2]
        up = local[:, 1] / np.tan(lens.yfov / 2) / -local[:, 2]
        rows, columns = np.divmod(np.arange(count), WIDTH)
        np.testing.assert_allclose((right + 1) / 2 * WIDTH, columns + 0.5, atol=1e-4)
        np.testing.assert_allclose((1 - up) / 2 * HEIGHT, rows + 0.5, atol=1e-4)
        assert 0 < lens.znear < -local[:, 2].max() and lens.zfar is None


def test_pyramids_reach_to_the_image_corners(tmp_path: Path) -> None:
    prediction, _ = plane_scene()
    scene = export(prediction, tmp_path, glb.Options(export_depth_vis=False, camera_size=0.05))
    low, high = np.percentile(scene.positions(), (5, 95), axis=0)
    for name, colour in (("left.png", [139, 242, 36]), ("right.png", [139, 36, 242])):
        pyramid = f"{name} pyramid"
        np.testing.assert_array_equal(scene.matrix(pyramid), scene.matrix(name))
        lines = scene.positions(pyramid)
        assert scene.primitive(pyramid).mode == pygltflib.LINES and len(lines) == 16
        tips = np.unique(lines[np.abs(lines).sum(-1) > 0] * [1, -1, -1], axis=0).astype(np.float64)
        np.testing.assert_allclose(tips[:, 2], 0.05 * np.linalg.norm(high - low), rtol=1e-5)
        corners = tips / tips[:, 2:] @ K.T
        expected = np.array([[0, 0], [0, HEIGHT], [WIDTH, 0], [WIDTH, HEIGHT]])
        np.testing.assert_allclose(sorted(corners[:, :2].round(3).tolist()), expected, atol=2e-3)
        assert (scene.srgb(pyramid) == colour).all()


def test_cameras_are_data_even_when_not_shown(tmp_path: Path) -> None:
    prediction, _ = plane_scene()
    scene = export(prediction, tmp_path, glb.Options(export_depth_vis=False, show_cameras=False))
    assert len(scene.gltf.meshes) == 1
    assert [node.name for node in scene.gltf.nodes] == ["points", "left.png", "right.png"]
    assert scene.nodes["left.png"].camera == 0


def test_structure_of_the_file(tmp_path: Path) -> None:
    prediction, _ = plane_scene()
    scene = export(prediction, tmp_path)
    assert [node.name for node in scene.gltf.nodes] == [
        "points",
        "left.png",
        "left.png pyramid",
        "right.png",
        "right.png pyramid",
    ]
    assert scene.gltf.scenes[0].extras["scale"] == "metric"
    assert scene.gltf.extensionsUsed == ["KHR_materials_unlit"]
    (material,) = scene.gltf.materials
    assert material.extensions == {"KHR_materials_unlit": {}}
    assert scene.primitive("points").mode == pygltflib.POINTS
    accessor = scene.gltf.accessors[scene.primitive("points").attributes.POSITION]
    assert accessor.min == scene.positions().min(0).tolist() and accessor.max == scene.positions().max(0).tolist()
    colours = scene.array(scene.primitive("points").attributes.COLOR_0)
    assert colours.shape == (2 * HEIGHT * WIDTH, 4) and (colours[:, 3] == 65535).all()


def test_trimesh_reads_the_same_scene(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    prediction, truth = plane_scene()
    (path,) = glb.export(prediction, tmp_path, QUIET)
    scene = trimesh.load(path)
    transform, name = scene.graph["points"]
    cloud = moved(transform, scene.geometry[name].vertices)
    alignment = Scene(path).alignment
    np.testing.assert_allclose(moved(np.linalg.inv(alignment), cloud), truth.reshape(-1, 3), atol=1e-5)
    assert scene.metadata["hf_alignment"] == alignment.tolist()
    for view, node in enumerate(prediction.names):
        transform, name = scene.graph[f"{node} pyramid"]
        vertices = moved(np.linalg.inv(alignment) @ transform, scene.geometry[name].vertices)
        centre = np.linalg.inv(homogeneous(prediction.extrinsics)[view])[:3, 3]
        assert np.linalg.norm(vertices - centre, axis=-1).min() < 1e-5


def test_default_options_write_the_previews_too(tmp_path: Path) -> None:
    paths = glb.export(plane_scene()[0], tmp_path, glb.Options())
    names = [path.relative_to(tmp_path).as_posix() for path in paths]
    assert names == ["scene.glb", "depth_vis/0000.jpg", "depth_vis/0001.jpg", "scene.jpg"]
    assert names == glb.planned_files(2, glb.Options())
    assert (tmp_path / "scene.jpg").read_bytes() == paths[1].read_bytes()
    assert glb.planned_files(2, QUIET) == ["scene.glb"]


def test_confidence_sky_backdrop_and_holes_select_points(tmp_path: Path) -> None:
    base, truth = plane_scene()
    rng = np.random.default_rng(3)
    images, depth = base.processed_images.copy(), base.depth.copy()
    images[0, :3], images[1, :2] = 5, 250
    depth[1, -1, :3] = np.nan, np.inf, 0
    conf = (1 + rng.exponential(size=depth.shape)).astype(np.float32)
    sky = rng.random(depth.shape) > 0.8
    prediction, _ = plane_scene(depth=depth, processed_images=images, conf=conf, sky=sky)
    options = glb.Options(export_depth_vis=False, filter_black_bg=True, filter_white_bg=True)
    scene = export(prediction, tmp_path, options)
    backdrop = (images < 16).all(-1) | (images >= 240).all(-1)
    level = np.where(backdrop, 1, conf)
    keep = (level >= np.percentile(level, 40)) & ~sky & ~backdrop & np.isfinite(depth) & (depth > 0)
    world = moved(np.linalg.inv(scene.alignment), scene.positions())
    np.testing.assert_allclose(world, truth[keep], atol=1e-5)
    np.testing.assert_array_equal(scene.srgb(), images[keep])
    np.testing.assert_array_equal(prediction.conf, conf)


def test_thinned_points_are_some_of_all_points(tmp_path: Path) -> None:
    prediction, _ = plane_scene()
    everything = export(prediction, tmp_path / "all").positions()
    some = export(prediction, tmp_path / "some", glb.Options(export_depth_vis=False, num_max_points=100)).positions()
    assert len(some) == 100
    assert {tuple(point) for point in some.tolist()} <= {tuple(point) for point in everything.tolist()}


def test_no_point_left_is_a_file_with_cameras_and_a_warning(tmp_path: Path) -> None:
    prediction, _ = plane_scene(depth=np.full((2, HEIGHT, WIDTH), np.nan, np.float32))
    with pytest.warns(UserWarning, match="cameras only"):
        scene = export(prediction, tmp_path)
    assert set(scene.nodes) == {*prediction.names, "left.png pyramid", "right.png pyramid"}
    np.testing.assert_allclose(scene.alignment, FLIP @ homogeneous(prediction.extrinsics)[0], atol=1e-6)
    for show in (True, False):
        with pytest.warns(UserWarning, match="cameras only"):
            glb.export(prediction, tmp_path, glb.Options(export_depth_vis=False, show_cameras=show))


def test_unusable_cameras_are_left_out_or_refused(tmp_path: Path) -> None:
    base, truth = plane_scene()
    poses, intrinsics = base.extrinsics.copy(), base.intrinsics.copy()
    poses[0, 0, 0] = np.nan
    with pytest.warns(UserWarning, match="views 0 are left out"):
        scene = export(plane_scene(extrinsics=poses)[0], tmp_path)
    world = moved(np.linalg.inv(scene.alignment), scene.positions())
    np.testing.assert_allclose(world, truth[1].reshape(-1, 3), atol=1e-5)
    intrinsics[1, 0, 0] = 0
    with pytest.raises(InputError, match="no view with a usable camera"):
        export(plane_scene(extrinsics=poses, intrinsics=intrinsics)[0], tmp_path / "none")
    assert not (tmp_path / "none").exists()
    poses[0], poses[1, :, :3] = base.extrinsics[0], 0
    with pytest.warns(UserWarning, match="views 1 are left out"):
        export(plane_scene(extrinsics=poses)[0], tmp_path)


def test_options_without_effect_are_a_warning(tmp_path: Path, make_prediction: Any) -> None:
    with pytest.warns(UserWarning, match="conf_thresh_percentile=95 has no effect above ensure_thresh_percentile=90"):
        export(make_prediction(), tmp_path, glb.Options(export_depth_vis=False, conf_thresh_percentile=95))
    with pytest.warns(UserWarning, match="conf_thresh without effect, the prediction has no confidence"):
        export(make_prediction(conf=None), tmp_path, glb.Options(export_depth_vis=False, conf_thresh=2))


def test_every_variant_is_quiet_and_finite(variant: Prediction, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = glb.export(variant, tmp_path, glb.Options())
    scene = Scene(paths[0])
    assert np.isfinite(scene.positions()).all() and len(scene.positions()) > 100
    assert len(scene.gltf.cameras) == len(variant.depth)
    if not variant.names:
        assert "view_0000" in scene.nodes


def test_real_cloud_has_the_colours_of_the_other_photo(tmp_path: Path, shared: Path) -> None:
    """Measured depth and known poses: what the left camera saw, seen from the right one, is what that one saw."""
    folder = shared / "data" / "middlebury_motorcycle"
    images = np.stack([np.asarray(Image.open(folder / "images" / f"{side}.png")) for side in ("left", "right")])
    depth = np.stack([np.asarray(Image.open(folder / "depth" / "left.png")) / np.float32(1000)] * 2)
    depth[1] = 0
    with np.load(folder / "scene.npz") as truth:
        intrinsics, poses = truth["K"] + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]], np.linalg.inv(truth["c2w"])
    prediction = Prediction(
        depth=depth.astype(np.float32),
        is_metric=True,
        extrinsics=poses[:, :3].astype(np.float32),
        intrinsics=intrinsics.astype(np.float32),
        processed_images=images,
    )
    scene = export(prediction, tmp_path)
    right = moved(poses[1] @ np.linalg.inv(scene.alignment), scene.positions())
    pixels = right / right[:, 2:] @ intrinsics[1].T
    columns, rows = np.floor(pixels[:, 0]).astype(int), np.floor(pixels[:, 1]).astype(int)
    inside = (columns >= 0) & (columns < images.shape[2]) & (rows >= 0) & (rows < images.shape[1])
    seen = images[1][rows[inside], columns[inside]].astype(int)
    difference = np.abs(seen - scene.srgb()[inside]).max(axis=-1)
    assert len(scene.positions()) == (depth > 0).sum() and inside.mean() > 0.9
    assert np.median(difference) < 10


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:glb")
def test_official_validator_has_nothing_to_say(
    tmp_path: Path, make_prediction: Any, validate: Callable[[Path], dict[str, Any]]
) -> None:
    nothing = np.zeros((2, HEIGHT, WIDTH), np.float32)
    cases = {
        "plain": (plane_scene()[0], QUIET),
        "random": (make_prediction(20), QUIET),
        "cameras": (plane_scene(depth=nothing)[0], QUIET),
        "poses": (plane_scene(depth=nothing)[0], glb.Options(export_depth_vis=False, show_cameras=False)),
    }
    for name, (prediction, options) in cases.items():
        (path,) = glb.export(prediction, tmp_path / name, options)
        assert validate(path)["messages"] == [], name
