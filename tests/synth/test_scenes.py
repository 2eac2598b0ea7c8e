"""A scene is a function of its seed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from depth_anything_3.errors import InputError
from depth_anything_3.synth.cameras import clearance
from depth_anything_3.synth.scenes import KINDS, make_scene
from depth_anything_3.synth.textures import TEXTURES

FINGERPRINT = """
import hashlib, torch
from depth_anything_3.synth.cameras import make_cameras
from depth_anything_3.synth.render import render, to_bytes
from depth_anything_3.synth.scenes import KINDS, make_scene
torch.set_num_threads({threads})
digest = hashlib.sha256()
for kind in KINDS:
    scene = make_scene(11, kind)
    cameras = make_cameras(scene, 2, 24, 40, seed=5, kind="handheld")
    out = render(scene, cameras, 24, 40)
    for value in (cameras.extrinsics, cameras.intrinsics, to_bytes(out.rgb), out.depth, out.normal, out.object_id):
        digest.update(value.tobytes() if hasattr(value, "tobytes") else value.numpy().tobytes())
print(digest.hexdigest())
"""


def fingerprint(repository: Path, threads: int) -> str:
    environment = {**os.environ, "PYTHONPATH": str(repository / "src"), "PYTHONHASHSEED": str(threads)}
    program = FINGERPRINT.format(threads=threads)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_give_the_same_bytes(repository: Path) -> None:
    first = fingerprint(repository, 1)
    assert len(first.strip()) == len(hashlib.sha256().hexdigest())
    assert first == fingerprint(repository, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_scene_is_sound(kind: str) -> None:
    scenes = [make_scene(seed, kind) for seed in (0, 1, 0)]
    assert torch.equal(scenes[0].world.solids.centre, scenes[2].world.solids.centre)
    assert scenes[0].world.solids.centre.shape != scenes[1].world.solids.centre.shape or not torch.equal(
        scenes[0].world.solids.centre, scenes[1].world.solids.centre
    )
    for scene in scenes[:2]:
        solids = scene.world.solids
        assert 20 <= len(solids) <= 800
        eye = torch.eye(3).expand(len(solids), 3, 3)
        torch.testing.assert_close(solids.rotation @ solids.rotation.transpose(1, 2), eye, rtol=0, atol=1e-6)
        assert solids.cut.max() < len(scene.world.cutters)
        assert len(scene.materials.texture) == scene.world.terrain_id + 1
        assert (scene.stage.high > scene.stage.low).all()
        assert 4 <= len(set(scene.materials.texture.tolist())) <= len(TEXTURES)
        for name in ("first", "second", "dirt", "gloss"):
            assert torch.isfinite(getattr(scene.materials, name)).all()
            assert getattr(scene.materials, name).min() >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_room_for_cameras(kind: str) -> None:
    for seed in range(4):
        scene = make_scene(seed, kind)
        generator = torch.Generator().manual_seed(seed)
        span = scene.stage.high - scene.stage.low
        points = scene.stage.low + torch.rand(300, 3, generator=generator) * span
        if scene.world.terrain is not None:
            from depth_anything_3.synth.terrain import height_at

            points[:, 2] += height_at(scene.world.terrain, points[:, 0], points[:, 1])
        assert (clearance(scene.world, points.numpy()) > scene.stage.near).mean() > 0.2


def test_a_seed_chooses_the_kind() -> None:
    assert {make_scene(seed).kind for seed in range(len(KINDS))} == set(KINDS)


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="corridor"):
        make_scene(0, "kitchen")
    with pytest.raises(InputError, match="seed"):
        make_scene(-1)
