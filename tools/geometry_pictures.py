"""Pictures for docs/geometry and docs/refinement: real scenes fused from their true depth, clouds before and after.

    python tools/geometry_pictures.py meshes ../shared/data --out docs/geometry
    python tools/geometry_pictures.py clouds ../shared/data --model bundled --out docs/geometry
    python tools/geometry_pictures.py refined ../shared/data --model bundled --out docs/refinement

``meshes`` draws every scene that has depth: its first picture, the surface in its colours from there and from aside,
and its normals. ``clouds`` draws what a model predicts, raw, clean and strict, from aside. ``refined`` draws it from
aside as the network has it, refined, and refined and cleaned. Needs the extra ``clean``.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from depth_anything_3.api import DepthAnything3
from depth_anything_3.bench.scenes import EvalScene, load_real_scene
from depth_anything_3.datasets.benchmark.real_mini import frame_lists
from depth_anything_3.refine.points import points
from depth_anything_3.refine.tsdf import fuse
from depth_anything_3.types.cloud import Mesh
from depth_anything_3.types.options import CLEAN_PRESETS, FuseOptions
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[Any]

VIEWS, LONGEST, HEIGHT = 8, 400, 150
DEGREES = 25.0

SENSORS = {
    "princeton_box50": FuseOptions(voxel=0.006, truncation=8),
    "tum_fr1_rpy": FuseOptions(voxel=0.02, truncation=8),
}
"""Where the sensor is noisier than two pixels are wide, which is the size of voxels that is taken otherwise."""


def real_scenes(data: Path, views: int, longest: int) -> Iterator[EvalScene]:
    """The scenes of the protocol real-mini with so many views, or all where they have fewer."""
    for name, lists in frame_lists().items():
        frames = max((shown for shown in lists if len(shown) <= views), key=len)
        yield load_real_scene(data / name, frames=frames, longest_side=longest)


def meshes(data: Path, out: Path) -> None:
    """One picture per scene with depth."""
    for scene in real_scenes(data, VIEWS, LONGEST):
        if not scene.has_depth:
            continue
        surface = fuse(scene.depth, scene.images, scene.intrinsics, scene.extrinsics, SENSORS.get(scene.name))
        size = f"{len(surface.vertices)} vertices, {len(surface.faces)} triangles"
        print(f"{scene.name}: {len(scene.depth)} views, {size}")
        tiles = [scene.images[0]]
        for degrees in (0.0, DEGREES):
            samples, normals, colours = on_surface(surface)
            tiles.append(from_aside(samples, colours, scene, degrees))
        tiles.append(from_aside(samples, (127.5 + 127.5 * normals).astype(np.uint8), scene, DEGREES))
        save(tiles, out / f"mesh_{scene.name}.jpg")


def clouds(data: Path, model: str, out: Path) -> None:
    """One picture per scene: the clouds of a model's prediction, by preset."""
    network = DepthAnything3.from_pretrained(model)
    for scene in real_scenes(data, 4, LONGEST):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prediction = network.inference(list(scene.images))
        tiles = [scene.images[0]]
        for preset in CLEAN_PRESETS:
            print(f"{scene.name}, {preset}: {len(points(prediction, preset))} points")
            tiles.append(cloud_from_aside(prediction, preset, scene.name))
        save(tiles, out / f"cloud_{scene.name}.jpg")


def refined(data: Path, model: str, out: Path) -> None:
    """One picture per scene: the network's cloud, the refined one, and the refined and cleaned one."""
    network = DepthAnything3.from_pretrained(model)
    for scene in real_scenes(data, VIEWS, 1024):
        images = list(scene.images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alone, better = network.inference(images), network.inference(images, refine="full")
        assert better.refinement is not None
        print(f"{scene.name}: {better.refinement.summary()}")
        tiles = [
            scene.images[0],
            cloud_from_aside(alone, "raw", scene.name),
            cloud_from_aside(better, "raw", scene.name),
            cloud_from_aside(better, "strict", scene.name),
        ]
        save(tiles, out / f"real_{scene.name}.jpg")


def cloud_from_aside(prediction: Prediction, preset: str, name: str) -> Array:
    """What a prediction has seen, cleaned, from beside its first camera."""
    cloud = points(prediction, preset)
    assert prediction.intrinsics is not None and prediction.extrinsics is not None
    seen = EvalScene(
        name=name,
        slices=(),
        images=np.asarray(prediction.processed_images),
        depth=np.nan_to_num(prediction.depth),
        intrinsics=prediction.intrinsics.astype(np.float64),
        extrinsics=prediction.extrinsics.astype(np.float64),
    )
    return from_aside(cloud.xyz, cloud.rgb, seen, DEGREES)


def on_surface(surface: Mesh, count: int = 1_500_000) -> tuple[Array, Array, Array]:
    """Random points on the triangles, evenly by area, with normals and colours."""
    random = np.random.default_rng(0)
    corners = surface.vertices[surface.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    chosen = random.choice(len(area), count, p=area / area.sum())
    share = random.dirichlet((1, 1, 1), count)[..., None]
    face = surface.faces[chosen]
    mixed = [(v[face] * share).sum(1) for v in (surface.vertices, surface.normals, surface.rgb)]
    return mixed[0], mixed[1], mixed[2].round().astype(np.uint8)


def from_aside(xyz: Array, colours: Array, scene: EvalScene, degrees: float) -> Array:
    """Points from the first camera, moved around the middle of the scene by an angle; the nearest on top."""
    pose, k = scene.extrinsics[0], scene.intrinsics[0]
    local = xyz @ pose[:, :3].T + pose[:, 3]
    first = scene.depth[0]
    centre = np.array([0, 0, np.median(first[first > 0])])
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    local = (local - centre) @ turn.T + centre * (1 if degrees == 0 else 1.25)
    height, width = first.shape
    scale = HEIGHT / height
    front = local[:, 2] > 0.05 * centre[2]
    order = np.argsort(-local[front, 2])
    pixels = (local[front] @ (k * [[scale], [scale], [1]]).T)[order]
    x, y = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(np.int64).T
    canvas = np.full((HEIGHT, round(width * scale), 3), 255, np.uint8)
    inside = (x >= 0) & (x < canvas.shape[1]) & (y >= 0) & (y < HEIGHT)
    canvas[y[inside], x[inside]] = colours[front][order][inside]
    return canvas


def save(tiles: list[Array], path: Path) -> None:
    """Pictures of one height next to each other."""
    resized = [Image.fromarray(t).resize((round(t.shape[1] * HEIGHT / t.shape[0]), HEIGHT)) for t in tiles]
    Image.fromarray(np.concatenate([np.asarray(p) for p in resized], 1)).save(path, quality=75)


def main() -> None:
    """Parse and draw."""
    parser = argparse.ArgumentParser(description="Pictures for docs/geometry.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("meshes")
    for name in ("clouds", "refined"):
        commands.add_parser(name).add_argument("--model", default="bundled")
    for command in commands.choices.values():
        command.add_argument("data", type=Path)
        command.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.command == "meshes":
        meshes(given.data, given.out)
    else:
        {"clouds": clouds, "refined": refined}[given.command](given.data, given.model, given.out)


if __name__ == "__main__":
    main()
