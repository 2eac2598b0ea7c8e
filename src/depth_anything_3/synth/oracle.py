"""A stand-in for the network on long paths: it knows the truth, and errs by as much as it is told.

The world is a plain with balls along a closed path that is walked several times; depth is exact and small. What the
oracle says about a run of frames is in a gauge of its own (a random similarity), drifts evenly from the first frame to
the last, and has the pixel errors of a network. Asked about frames that share nothing, it makes up a place for them, as
a network does. Everything is a function of the seed and of the frames that were asked for.

World: z up, lengths in metres. Cameras: OpenCV axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.rotation_vectors import nearest_rotation
from depth_anything_3.geometry.sim3 import Sim3, sim3_exp
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]

PathShape = Literal["ring", "eight", "line"]

_EYE_HEIGHT, _STEP = 1.6, 0.5
_FAR = 60.0  # what is farther is sky
_SHARED_PLACE, _SHARED_COSINE = 12.0, 0.5  # frames that see the same things: distance, and cosine of the headings


@dataclass(frozen=True, kw_only=True)
class OracleErrors:
    """How wrong the oracle is; the standard deviation of each error, unless it says otherwise.

    Attributes:
        gauge: the scale of a window is between 1 / gauge and gauge.
        scale_drift: of the logarithm of the scale, from the first frame of a window to the last.
        rotation_drift_deg: degrees about each axis, from first to last.
        translation_drift: part of the length of the path, along each axis, from first to last.
        focal: of the logarithm of a window's focal length.
        jitter: part of the drifts that each frame has by itself.
        depth: relative, of each pixel.
        outliers: part of the pixels whose depth is wrong by a factor of up to three.
    """

    gauge: float = 2.0
    scale_drift: float = 0.02
    rotation_drift_deg: float = 0.3
    translation_drift: float = 0.01
    focal: float = 0.02
    jitter: float = 0.1
    depth: float = 0.03
    outliers: float = 0.10


@dataclass(frozen=True, kw_only=True, eq=False)
class OracleWorld:
    """The truth about N frames.

    Attributes:
        extrinsics: world-to-camera.
        intrinsics: of all frames.
        depth: z-depth in metres, with what moves in it; infinite for sky.
        path_length: metres.
        frames_per_lap: frames after which the path comes to the same place.
    """

    extrinsics: Float[np.ndarray, "n 3 4"]
    intrinsics: Float[np.ndarray, "3 3"]
    depth: Float[np.ndarray, "n h w"]
    path_length: float
    frames_per_lap: int

    def __len__(self) -> int:
        return len(self.depth)


def make_oracle_world(
    frames: int, *, path: PathShape = "ring", laps: int = 4, height: int = 24, width: int = 32, moving: float = 0.15
) -> OracleWorld:
    """Walk along a path and look ahead.

    Args:
        frames: half a metre apart.
        path: a circle, a figure eight, or a line that never comes back.
        laps: times around; each lap is beside the last by a hand's breadth.
        height, width: of the pictures.
        moving: part of each picture that shows something that is elsewhere when the place is seen again. It is part of
            the truth, because a frame shows it whichever window it is in.

    Raises:
        InputError: the path is unknown or there is no frame.
    """
    if path not in get_args(PathShape):
        raise InputError("path", repr(path), "a shape", get_args(PathShape))
    if frames < 1 or laps < 1:
        raise InputError("frames", f"{frames} in {laps} laps", "at least one of each")
    places = _places(frames, path, 1 if path == "line" else laps)
    poses = _look_ahead(places)
    lens = np.array([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1.0]])
    balls = _balls(places)
    depth = np.stack([_depth(poses[i], lens, balls, height, width) for i in range(frames)])
    _add_moving(depth, moving)
    length = float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())
    lap = frames if path == "line" else -(-frames // laps)
    return OracleWorld(
        extrinsics=poses.extrinsics(), intrinsics=lens, depth=depth, path_length=length, frames_per_lap=lap
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Oracle:
    """Answers about frames of a world, as a network would give them.

    Attributes:
        world: the truth.
        seed: another seed errs otherwise.
        errors: how much.
    """

    world: OracleWorld
    seed: int = 0
    errors: OracleErrors = OracleErrors()

    def predict(self, frames: Sequence[int]) -> Prediction:
        """What the network would say about these frames together."""
        index = np.asarray(frames, np.int64)
        rng = np.random.default_rng([self.seed, len(index), *index[[0, len(index) // 2, -1]]])
        cameras = self._drifted(self._placed(index, rng), rng)
        gauge = sim3_exp(np.concatenate([10 * rng.normal(size=3), rng.uniform(-1, 1, 4)]))
        scale = self.errors.gauge ** rng.uniform(-1, 1)
        cameras = Sim3(gauge.rotation, gauge.translation, np.asarray(scale)) @ cameras
        lens = np.tile(self.world.intrinsics, (len(index), 1, 1))
        lens[:, [0, 1], [0, 1]] *= np.exp(self.errors.focal * rng.normal())
        depth, sky = self._depth(index, cameras.scale, rng)
        return Prediction(
            depth=depth,
            is_metric=False,
            sky=sky,
            extrinsics=cameras.extrinsics().astype(np.float32),
            intrinsics=lens.astype(np.float32),
        )

    def shares_place(self, one: int, other: int) -> bool:
        """Whether two frames see the same things."""
        cameras = Sim3.from_extrinsics(self.world.extrinsics[[one, other]])
        near = np.linalg.norm(cameras.translation[0] - cameras.translation[1]) < _SHARED_PLACE
        return bool(near and cameras.rotation[0, :, 2] @ cameras.rotation[1, :, 2] > _SHARED_COSINE)

    def descriptors(self) -> Float[np.ndarray, "n 128"]:
        """One per frame: alike where place and heading are alike."""
        rng = np.random.default_rng([self.seed, 7])
        cameras = Sim3.from_extrinsics(self.world.extrinsics)
        state = np.concatenate([cameras.translation[:, :2] / 4, 4 * cameras.rotation[:, :2, 2]], 1)
        waves = state @ rng.normal(size=(4, 128)) + rng.uniform(0, 2 * np.pi, 128)
        return np.cos(waves) + 0.3 * rng.normal(size=waves.shape)

    def _placed(self, index: npt.NDArray[np.int64], rng: np.random.Generator) -> Sim3:
        """True cameras; a run of frames that shares no place with the first one is put where it seems to."""
        cameras = Sim3.from_extrinsics(self.world.extrinsics[index])
        runs = np.split(np.arange(len(index)), np.flatnonzero(np.diff(index) > 20) + 1)
        placed = [cameras[runs[0]]]
        for run in runs[1:]:
            part = cameras[run]
            if not self.shares_place(int(index[len(runs[0]) // 2]), int(index[run[len(run) // 2]])):
                nearby = sim3_exp(np.concatenate([rng.normal(size=3), 0.1 * rng.normal(size=3), [0]]))
                part = cameras[runs[0][:1]] @ nearby @ part[:1].inverse() @ part
            placed.append(part)
        return Sim3.concatenate(placed)

    def _drifted(self, cameras: Sim3, rng: np.random.Generator) -> Sim3:
        """The path bends and grows evenly, and every camera is off by a little; the scale is that of its depth."""
        errors, count = self.errors, len(cameras)
        size = np.array(
            [errors.translation_drift] * 3 + [np.radians(errors.rotation_drift_deg)] * 3 + [errors.scale_drift]
        )
        drift = size * rng.normal(size=7)
        growth = np.exp(drift[6] * np.linspace(0, 1, count))
        steps = cameras[:-1].inverse() @ cameras[1:]
        lengths = np.linalg.norm(steps.translation, axis=1, keepdims=True)
        move = growth[:-1, None] * (steps.translation + lengths * drift[:3])
        bend = sim3_exp(np.concatenate([np.zeros(3), drift[3:6] / max(count - 1, 1), [0]])).rotation
        rotation, place = [cameras.rotation[0]], [cameras.translation[0]]
        for turn, step in zip(steps.rotation, move, strict=True):
            place.append(place[-1] + rotation[-1] @ step)
            rotation.append(rotation[-1] @ turn @ bend)
        jitter = errors.jitter * size * rng.normal(size=(count, 7))
        jitter[:, :3] *= lengths.sum()
        return Sim3(nearest_rotation(np.stack(rotation)), np.stack(place), growth) @ sim3_exp(jitter)

    def _depth(
        self, index: npt.NDArray[np.int64], scale: Array, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.float32], Bool[np.ndarray, "v h w"]]:
        """What the pixels say, in the unit of the window, and which are sky."""
        true = self.world.depth[index]
        sky = ~np.isfinite(true)
        noisy = np.where(sky, _FAR, true) * np.exp(self.errors.depth * rng.normal(size=true.shape))
        wrong = rng.random(true.shape) < self.errors.outliers
        noisy = np.where(wrong, noisy * 3 ** rng.uniform(-1, 1, true.shape), noisy)
        return (scale[:, None, None] * noisy).astype(np.float32), sky


def _places(frames: int, path: PathShape, laps: int) -> Array:
    """(N, 3) eyes, half a metre apart on average."""
    turn = np.linspace(0, 2 * np.pi * laps, frames, endpoint=False)
    size = _STEP * frames / laps
    beside = 0.1 * turn / (2 * np.pi)
    if path == "ring":
        radius = size / (2 * np.pi) + beside
        flat = np.stack([radius * np.cos(turn), radius * np.sin(turn)], -1)
    elif path == "eight":  # Gerono's lemniscate, whose length is 6.0972 times its half width
        width = size / 6.0972 + beside
        flat = np.stack([width * np.sin(turn), width * np.sin(turn) * np.cos(turn)], -1)
    else:
        flat = np.stack([_STEP * np.arange(frames), 5 * np.sin(0.02 * np.arange(frames))], -1)
    return np.concatenate([flat, np.full((frames, 1), _EYE_HEIGHT)], -1)


def _look_ahead(places: Array) -> Sim3:
    """World-from-camera: along the path, upright."""
    forward = np.gradient(places, axis=0) if len(places) > 1 else np.array([[1.0, 0, 0]])
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    down = np.broadcast_to([0.0, 0, -1], forward.shape)
    rotation = np.stack([np.cross(down, forward), down, forward], -1)
    return Sim3(rotation, places, np.ones(len(places)))


def _balls(places: Array) -> Array:
    """(B, 4) centres and radii, about one for each metre and a half of the path, none of them in the way."""
    rng = np.random.default_rng(0)
    near = places[::3]
    radius = rng.uniform(0.5, 2.5, len(near))
    angle, away = rng.uniform(0, 2 * np.pi, len(near)), rng.uniform(3, 12, len(near))
    centre = near + np.stack([away * np.cos(angle), away * np.sin(angle), rng.uniform(-1.5, 3.5, len(near))], -1)
    gap = np.array([np.linalg.norm(places[:, :2] - c[:2], axis=1).min() for c in centre])
    free = gap > radius + 1.0
    return np.concatenate([centre, radius[:, None]], -1)[free]


def _depth(pose: Sim3, lens: Array, balls: Array, height: int, width: int) -> Array:
    """(H, W) z-depth of the nearest ball or of the ground; infinite beyond the far limit."""
    x = (np.arange(width) + 0.5 - lens[0, 2]) / lens[0, 0]
    y = (np.arange(height) + 0.5 - lens[1, 2]) / lens[1, 1]
    ray = np.stack([*np.meshgrid(x, y), np.ones((height, width))], -1).reshape(-1, 3)
    centre = (balls[:, :3] - pose.translation) @ pose.rotation
    near = (centre[:, 2] > -balls[:, 3]) & (np.linalg.norm(centre, axis=1) < _FAR)
    centre, radius = centre[near], balls[near, 3]
    # |t ray - centre| = radius, smaller root
    half, square = ray @ centre.T, (ray**2).sum(1)[:, None]
    root = half**2 - square * ((centre**2).sum(1) - radius**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        ball = np.where(root > 0, (half - np.sqrt(root)) / square, np.inf)
        slope = ray @ pose.rotation[2]
        ground = np.where(slope < 0, -pose.translation[2] / slope, np.inf)
    depth = np.minimum(np.where(ball > 0, ball, np.inf).min(1, initial=np.inf), ground)
    return np.where(depth < _FAR, depth, np.inf).reshape(height, width)


def _add_moving(depth: Array, part: float) -> None:
    """Put an upright rectangle of its own depth into every new picture."""
    rng = np.random.default_rng(1)
    _, height, width = depth.shape
    rows, columns = round(height * part**0.5), round(width * part**0.5)
    for picture in depth:
        top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
        picture[top : top + rows, left : left + columns] = rng.uniform(2, 12)


# --- as a model ------------------------------------------------------------------------------------------------------

_BITS = 20


def frame_picture(frame: int, *, height: int = 24, width: int = 32) -> npt.NDArray[np.uint8]:
    """(H, W, 3) a picture of stripes from which :class:`OracleModel` knows the frame, also after JPEG."""
    bits = (frame >> np.arange(_BITS)) & 1
    column = np.arange(width) * (_BITS // 2) // width
    stripes = np.where(np.arange(height)[:, None] < height // 2, bits[column], bits[_BITS // 2 + column])
    return np.repeat((stripes * 200 + 28).astype(np.uint8)[..., None], 3, axis=-1)


def frame_of_picture(picture: npt.NDArray[np.uint8]) -> int:
    """The frame that :func:`frame_picture` made a picture of."""
    height, width = picture.shape[:2]
    column = (((np.arange(_BITS // 2) + 0.5) * width) // (_BITS // 2)).astype(int)
    values = np.concatenate([picture[height // 4, column, 1], picture[3 * height // 4, column, 1]])
    return int(((values > 128).astype(np.int64) << np.arange(_BITS)).sum())


@dataclass(frozen=True, eq=False)
class OracleNetwork:
    """What a reconstruction asks a network about.

    Attributes:
        descriptors: of all frames.
        abilities, last_local_block: as of :class:`~depth_anything_3.model.da3.DepthAnything3Net`.
    """

    descriptors: npt.NDArray[np.float32]
    abilities: frozenset[str] = frozenset({"cameras"})
    last_local_block: int = 0


class OracleModel:
    """An :class:`Oracle` behind the interface of :class:`~depth_anything_3.api.DepthAnything3`.

    Args:
        oracle: answers; frames are known by their pictures, see :func:`frame_picture`.
    """

    model_name = "oracle"

    def __init__(self, oracle: Oracle) -> None:
        self.oracle, self.model = oracle, OracleNetwork(oracle.descriptors().astype(np.float32))
        self.process_res = int(max(oracle.world.depth.shape[1:]))
        self.calls = 0

    def local_tokens(self, image: Sequence[npt.NDArray[np.uint8]], **options: object) -> npt.NDArray[np.float32]:
        """(N, 1, 1, C)."""
        return self.model.descriptors[[frame_of_picture(picture) for picture in image]][:, None, None]

    def inference(
        self,
        image: Sequence[npt.NDArray[np.uint8]],
        extrinsics: object = None,
        intrinsics: npt.NDArray[np.float64] | None = None,
        **options: object,
    ) -> Prediction:
        """What the oracle says about the frames of these pictures; given poses and options have no effect."""
        self.calls += 1
        frames = [frame_of_picture(picture) for picture in image]
        prediction = self.oracle.predict(frames)
        given = prediction.intrinsics if intrinsics is None else np.asarray(intrinsics, np.float32)
        tokens = self.model.descriptors[frames][:, None, None]
        shape = (*prediction.depth.shape, 3)
        return replace(
            prediction,
            intrinsics=given,
            aux={"feat_layer_0": tokens},
            processed_images=np.full(shape, 128, np.uint8),
        )
