"""Pictures and truth of a scene as arrays, the moving parts included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped

from depth_anything_3.errors import DA3Error, InputError
from depth_anything_3.synth.album import Album
from depth_anything_3.synth.cameras import Cameras, make_cameras
from depth_anything_3.synth.motion import Motion, moving_pixels, scene_at, swept, with_motion
from depth_anything_3.synth.render import render
from depth_anything_3.synth.scenes import Scene, make_scene
from depth_anything_3.synth.variants import specular, textureless, thin_pixels, with_thin

STYLES = ("textured", "textureless", "specular")
"""How the surfaces of a scene look."""

_TRIES = 8
_ENOUGH_MOTION = 0.01
_PREVIEW = 48


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Pictures and truth of N views.

    Attributes:
        rgb: float values from 0 to 1 as rendered, or uint8 as a camera stored them.
        depth: z-depth in metres; 0 where the sky is.
        sky: nothing was hit.
        normal: unit length, camera frame (OpenCV axes), towards the camera; 0 where the sky is.
        object_id: see :class:`~depth_anything_3.synth.render.Rendering`.
        moving: pixels on things that are elsewhere in other views.
        thin: pixels on thin things.
        intrinsics: camera matrices in pixels; the centre of the top-left pixel is (0.5, 0.5).
        extrinsics: world-to-camera poses, OpenCV axes, metres.
    """

    rgb: Shaped[np.ndarray, "n h w 3"]
    depth: Float[np.ndarray, "n h w"]
    sky: Bool[np.ndarray, "n h w"]
    normal: Float[np.ndarray, "n h w 3"]
    object_id: Int[np.ndarray, "n h w"]
    moving: Bool[np.ndarray, "n h w"]
    thin: Bool[np.ndarray, "n h w"]
    intrinsics: Float[np.ndarray, "n 3 3"]
    extrinsics: Float[np.ndarray, "n 3 4"]


def build(
    seed: int,
    kind: str | None = None,
    *,
    style: str = "textured",
    thin: int = 0,
    moving: int = 0,
    duration: float = 3.0,
    photos: Album | None = None,
) -> tuple[Scene, tuple[Motion, ...]]:
    """The scene of a seed with its variants, and what moves in it.

    Args:
        seed: of the scene and of everything added to it.
        kind: of scene, or None to let the seed choose.
        style: one of :data:`STYLES`.
        thin: groups of thin things to add.
        moving: bodies that move.
        duration: seconds in which they pass.
        photos: textures; a scene without texture does not show them.

    Raises:
        InputError: an unknown kind or style, or a number out of its range.
    """
    if style not in STYLES:
        raise InputError("style", repr(style), "a style", STYLES)
    scene, motions = make_scene(seed, kind, photos=photos), tuple[Motion, ...]()
    if thin:
        scene = with_thin(scene, seed, thin)
    if moving:
        scene, motions = with_motion(scene, seed, moving, duration=duration)
    changed = {"textureless": textureless, "specular": specular}.get(style)
    return (scene if changed is None else changed(scene, seed)), motions


def film(
    scene: Scene,
    motions: Sequence[Motion],
    cameras: Cameras,
    height: int,
    width: int,
    *,
    times: Sequence[float] = (),
    samples: int = 1,
) -> Sample:
    """Render views, each at its own time, on the CPU; the colours are floats.

    Args:
        scene: at time 0.
        motions: what moves in it.
        cameras: of the views.
        height: rows.
        width: columns.
        times: seconds, one per view; may be left out where nothing moves.
        samples: colour is averaged over ``samples`` x ``samples`` rays per pixel.

    Raises:
        InputError: something moves and there is not one time per view.
    """
    if motions and len(times) != len(cameras.extrinsics):
        raise InputError("times", f"{len(times)} times", f"one for each of the {len(cameras.extrinsics)} views")
    if motions:
        instants = [scene_at(scene, motions, time) for time in times]
        parts = [
            render(instant, one, height, width, samples=samples)
            for instant, one in zip(instants, separate(cameras), strict=True)
        ]
    else:
        parts = [render(scene, cameras, height, width, samples=samples)]
    rgb, depth, normal, sky, owner = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("rgb", "depth", "normal", "sky", "object_id")
    )
    matrices = torch.from_numpy(cameras.intrinsics)
    return Sample(
        rgb=rgb.numpy(),
        depth=torch.where(sky, 0.0, depth).numpy(),
        sky=sky.numpy(),
        normal=normal.numpy(),
        object_id=owner.numpy(),
        moving=moving_pixels(owner, motions).numpy(),
        thin=thin_pixels(scene.world.solids, owner, depth, matrices).numpy(),
        intrinsics=cameras.intrinsics,
        extrinsics=cameras.extrinsics,
    )


def cameras_for(
    scene: Scene,
    motions: Sequence[Motion],
    times: Sequence[float],
    height: int,
    width: int,
    *,
    seed: int,
    kind: str | None = None,
) -> Cameras:
    """Cameras, one for each time, that nothing runs into and that look at what moves.

    Those of the seed; where they find no free place or see next to nothing of what moves, those of one of the next few
    seeds.

    Args:
        scene: at time 0.
        motions: what moves in it.
        times: seconds.
        height: rows of the pictures.
        width: columns.
        seed: not negative.
        kind: of trajectory, or None to let the seed choose.

    Raises:
        InputError: an unknown kind, or a number out of its range.
        DA3Error: no free place was found.
    """
    everything, best, most, reason = swept(scene, motions, times), None, -1.0, DA3Error("no free place")
    for attempt in range(_TRIES):
        try:
            cameras = make_cameras(everything, len(times), height, width, seed=seed + attempt, kind=kind)
        except InputError:
            raise
        except DA3Error as error:
            reason = error
            continue
        share = _share_of_motion(scene, motions, cameras, times, height, width) if motions else 1.0
        if share > most:
            best, most = cameras, share
        if share > _ENOUGH_MOTION:
            break
    if best is None:
        raise reason
    return best


def _share_of_motion(
    scene: Scene, motions: Sequence[Motion], cameras: Cameras, times: Sequence[float], height: int, width: int
) -> float:
    """Share of moving pixels, measured in a few small pictures."""
    shrink, some = _PREVIEW / max(height, width), np.unique(np.linspace(0, len(times) - 1, 8).astype(int))
    small = (max(round(height * shrink), 1), max(round(width * shrink), 1))
    scale = np.array([small[1] / width, small[0] / height, 1.0], dtype=np.float32)[:, None]
    preview = Cameras(intrinsics=cameras.intrinsics[some] * scale, extrinsics=cameras.extrinsics[some])
    share = [
        moving_pixels(render(scene_at(scene, motions, times[i]), one, *small, shadows=False).object_id, motions)
        for i, one in zip(some, separate(preview), strict=True)
    ]
    return float(torch.cat(share).float().mean())


def separate(cameras: Cameras) -> list[Cameras]:
    """One camera each."""
    return [
        Cameras(intrinsics=cameras.intrinsics[i : i + 1], extrinsics=cameras.extrinsics[i : i + 1])
        for i in range(len(cameras.extrinsics))
    ]
