"""Primary rays per second of the procedural world's renderer, on a reference scene.

usage: python benchmarks/raycast.py [--processes 2] [--height 480] [--width 640] [--seconds 10]

The scene has 40 textured primitives of all four shapes on a height field, and a sun: one shadow ray for every hit that
faces it. Everything is rendered: colour, depth, normals, ids. Each process has one thread of its own, as the workers of
a training run do; the rate is that of all processes together.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import time

import numpy as np
import torch

from depth_anything_3.synth.cameras import Cameras, intrinsics_of, look_at
from depth_anything_3.synth.draft import Draft, Look, Part, turn_x, turn_z
from depth_anything_3.synth.render import render
from depth_anything_3.synth.scenes import Scene, make_scene
from depth_anything_3.synth.shapes import SHAPES, Terrain
from depth_anything_3.synth.textures import TEXTURES


def reference_scene() -> Scene:
    """40 primitives on hills, always the same."""
    draft, base = Draft(np.random.default_rng(40)), make_scene(0, "open")
    axis = torch.linspace(-1, 1, 65)
    heights = 1.2 * (torch.sin(3 * axis)[:, None] * torch.cos(4 * axis)[None] + 1)
    names = [name for name in TEXTURES if name != "plain"]
    for index in range(40):
        place = np.array([*draft.rng.uniform(-12, 12, 2), draft.uniform(1.5, 3)])
        half = draft.rng.uniform(0.3, 1.3, 3)
        rotation = turn_z(draft.uniform(0, 6.3)) @ turn_x(draft.uniform(-0.5, 0.5))
        look = Look(names[index % len(names)], draft.colour(), draft.colour(), period=0.4, gloss=0.3)
        draft.add(Part(SHAPES[index % 4], place, half, rotation), look)
    terrain = Terrain(heights=heights, corner=torch.tensor([-20.0, -20.0]), cell=40 / 64)
    look = Look("stains", (0.2, 0.3, 0.1), (0.3, 0.25, 0.15), period=1.5)
    world, materials = draft.world(0.0, terrain), draft.materials(look, look)
    return Scene(kind="open", seed=0, world=world, materials=materials, lights=base.lights, stage=base.stage)


def rate(arguments: tuple[int, int, float, str]) -> tuple[int, float, float]:
    """Rays, seconds and the share of rays that hit something, of one process."""
    height, width, seconds, device = arguments
    torch.set_num_threads(1)
    scene, views = reference_scene(), 4
    angle = np.arange(views) * 2 * np.pi / views
    position = np.stack((16 * np.cos(angle), 16 * np.sin(angle), np.full(views, 6.0)), 1)
    extrinsics = look_at(position, np.full((views, 3), [0.0, 0.0, 1.5]), np.zeros(views))
    cameras = Cameras(intrinsics=np.repeat(intrinsics_of(60, height, width)[None], views, 0), extrinsics=extrinsics)
    hits = float((~render(scene, cameras, height, width, device=device).sky).float().mean())
    start, rays = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        # Moves the pictures to the host, which also waits for a GPU to finish.
        rays += render(scene, cameras, height, width, device=device).depth.cpu().numel()
    return rays, time.perf_counter() - start, hits


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    job = (options.height, options.width, options.seconds, options.device)
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        results = pool.map(rate, [job] * options.processes, chunksize=1)
    total = sum(rays / seconds for rays, seconds, _ in results)
    print(
        json.dumps(
            {
                "primary_rays_per_second": round(total),
                "share_of_hits": round(results[0][2], 3),
                "processes": options.processes,
                "size": [options.height, options.width],
                "device": options.device,
                "torch": torch.__version__,
                "machine": platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
