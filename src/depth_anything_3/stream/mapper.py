"""One world from many windows: the state behind a long sequence, without the network.

    mapper = Mapper()
    for window in plan_windows(frames):
        mapper.add_window(window, predict(window.frames))
    for candidate in propose_loops(descriptors):
        frames = mapper.loop_frames(candidate)
        mapper.add_loop(candidate, predict(frames[0] + frames[1]))
    mapper.solve()
    mapper.extrinsics()

Every window has a world of its own. A new one is joined to the last by the frames that they share
(:mod:`~depth_anything_3.stream.alignment`); a loop window is joined in the same way to the two windows that it ties
together. The poses of the owned frames, the joints and the loops are relations of one pose graph over all frames
(:mod:`~depth_anything_3.stream.graph`). Before a loop comes in, its relations agree with the chain exactly.

The network, the frames and the disk are the business of :mod:`~depth_anything_3.stream.reconstructor`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.sim3 import Sim3
from depth_anything_3.stream.alignment import Alignment, SampledViews, align_views, sample_views
from depth_anything_3.stream.factors import Factor, Relations, stacked, whitening
from depth_anything_3.stream.graph import GraphOptions, GraphResult, solve_graph
from depth_anything_3.stream.loops import LoopCandidate, LoopCheck, LoopOptions, check_loop, loop_frames
from depth_anything_3.stream.windows import Window
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MapperOptions:
    """How windows become one world.

    The three drifts say how far off the network is from the first to the last frame of a window; between frames
    they grow like a random walk. Only their ratios to each other, and to what alignments and loops say of
    themselves, matter.

    Attributes:
        rotation_drift: radians about each axis.
        translation_drift: part of the length of the window's path, along each axis.
        scale_drift: of the logarithm of the scale.
        fixed_scale: all windows are metric and share their unit.
        disagreement: the most that a network may be off the cameras that it was told of frames that it sees again: of
            rotations in radians, of places as part of the median depth; see :meth:`Mapper.agrees`.
        loops: candidates and their check.
        graph: the solver.
    """

    rotation_drift: float = 0.006
    translation_drift: float = 0.01
    scale_drift: float = 0.02
    fixed_scale: bool = False
    disagreement: float = 0.05
    loops: LoopOptions = field(default_factory=LoopOptions)
    graph: GraphOptions = field(default_factory=GraphOptions)

    def __post_init__(self) -> None:
        if not min(self.rotation_drift, self.translation_drift, self.scale_drift, self.disagreement) > 0:
            raise InputError("options", repr(self), "drifts and a disagreement above 0")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Placed:
    """A window and what is kept of it; None where the archive has it."""

    window: Window
    views: SampledViews | None


class Mapper:
    """Joins windows, takes loops and solves. Windows come in order; the state is what its attributes say.

    Args:
        options: None for the defaults.
        archive: gives back the views of a window by its number, once the next one is there; then only those of the
            last one are held here. None: all are.

    Attributes:
        nodes: one per owned frame: camera to world, with the scale of its window's depth.
        relations: what is known about the nodes; loops are the doubtful ones.
        options: as given.
    """

    def __init__(
        self, options: MapperOptions | None = None, archive: Callable[[int], SampledViews] | None = None
    ) -> None:
        self.options = options or MapperOptions()
        self._archive = archive
        self.nodes = Sim3.identity(0)
        self.relations: list[Relations] = []
        self._windows: list[_Placed] = []
        self._lenses: list[npt.NDArray[np.float32]] = []

    def __len__(self) -> int:
        """Frames so far. The last window's are taken as its own until the next one comes."""
        return len(self.nodes)

    def add_window(self, window: Window, prediction: Prediction) -> Alignment | None:
        """Join the next window to the last one.

        Args:
            window: begins inside the last one; the first begins at frame 0.
            prediction: of ``window.frames``, with cameras.

        Returns:
            How it lies in the last one; None for the first.

        Raises:
            InputError: the window does not follow the last one, or the prediction has another number of frames.
        """
        lenses = prediction.intrinsics
        own = slice(window.own_start - window.start, window.own_stop - window.start)
        return self.add_views(window, sample_views(prediction), None if lenses is None else lenses[own])

    def add_views(
        self, window: Window, views: SampledViews, lenses: Float[np.ndarray, "m 3 3"] | None = None
    ) -> Alignment | None:
        """As :meth:`add_window`, with what it keeps of the prediction.

        Args:
            window: begins inside the last one; the first begins at frame 0.
            views: of ``window.frames``.
            lenses: camera matrices of the frames that the window owns.
        """
        self._check_window(window, views)
        alignment, world = None, Sim3.identity()
        if self._windows:
            last = self._windows[-1]
            shared = range(window.start, last.window.stop)
            there = self._views(len(self._windows) - 1, shared)
            alignment = align_views(there, views[: len(shared)], fixed_scale=self.options.fixed_scale)
            # The last window may have been moved by a solve; its frame at the border says where it is now.
            border = window.own_start - 1
            camera = self._views(len(self._windows) - 1, [border]).cameras[0]
            world = self.nodes[border] @ camera.inverse() @ alignment.similarity
        self._append(window, views, alignment, world)
        if lenses is not None:
            self._lenses.append(np.asarray(lenses, np.float32))
        return alignment

    def add_group(
        self,
        anchors: Sequence[int],
        views: SampledViews,
        lenses: Float[np.ndarray, "m 3 3"] | None = None,
    ) -> Alignment | None:
        """Join new frames to any that are there, wherever they are in the sequence.

        Args:
            anchors: frames that have come, which the network saw again together with the new ones; the last one is
                that which the new frames are tied to. None for the first group.
            views: of the anchors, in that order, and then of the new frames.
            lenses: camera matrices of the new frames.

        Raises:
            InputError: an anchor has not come yet, or there is none although frames are there.
        """
        new, count = views[len(anchors) :], len(self)
        if (count > 0) != (len(anchors) > 0):
            raise InputError("anchors", f"{len(anchors)} frames", "some of the frames that are there")
        alignment, world = None, Sim3.identity()
        if anchors:
            alignment = align_views(self._seen(anchors), views[: len(anchors)], fixed_scale=self.options.fixed_scale)
            world = alignment.similarity
        own = Window(start=count, stop=count + len(new), own_start=count, own_stop=count + len(new))
        if alignment is not None:
            joint = self.nodes[[anchors[-1]]].inverse() @ world @ new.cameras[:1]
            covariance = alignment.covariance + self._drift(views.cameras)
            self.relations.append(_relation([anchors[-1]], [count], joint, covariance, doubtful=False))
        self._append(own, new, None, world)
        if lenses is not None:
            self._lenses.append(np.asarray(lenses, np.float32))
        return alignment

    def anchors(self, window: Window, chosen: Sequence[int] = ()) -> Float[np.ndarray, "k 4 4"]:
        """Where the frames that are there already are, as a network is told when it sees them with new ones.

        Args:
            window: the next one.
            chosen: the frames, as for :meth:`add_group`; empty for those that the window shares with the last.

        Returns:
            World-to-camera poses, the first one the identity. Lengths are such that the cameras of the last window are
            typically at distance 1 from its first, as those of the new one will be.
        """
        last = self._views(len(self._windows) - 1, self._windows[-1].window.frames).cameras
        reach = np.sort(np.linalg.norm(last.translation - last.translation[0], axis=1))
        unit = float(reach[(len(reach) - 1) // 2]) * (float(self.nodes.scale[-1]) if chosen else 1.0)
        cameras = self._shared(window, chosen).cameras
        steps = cameras[:1].inverse() @ cameras
        poses = np.tile(np.eye(4), (len(steps), 1, 1))
        poses[:, :3] = Sim3(steps.rotation, steps.translation / (unit or 1.0), np.ones(len(steps))).extrinsics()
        return poses

    def agrees(self, window: Window, views: SampledViews, chosen: Sequence[int] = ()) -> bool:
        """Whether a network that was told :meth:`anchors` says the same about them, up to one similarity.

        Args:
            window, chosen: as there.
            views: what it says, the anchors first.
        """
        there = self._shared(window, chosen)
        found = align_views(there, views[: len(there)], fixed_scale=self.options.fixed_scale)
        known = there.depth[np.isfinite(there.depth)]
        depth = float(np.median(known)) / float(found.similarity.scale) if len(known) else 1.0
        moved, turned = (np.sqrt(np.trace(found.covariance[part, part])) for part in (slice(0, 3), slice(3, 6)))
        return bool(max(moved / depth, turned) <= self.options.disagreement)

    def _shared(self, window: Window, chosen: Sequence[int]) -> SampledViews:
        if chosen:
            return self._seen(chosen)
        last = len(self._windows) - 1
        return self._views(last, range(window.start, self._windows[last].window.stop))

    def _seen(self, frames: Sequence[int]) -> SampledViews:
        """Frames where they are in the world, with depth in its unit."""
        parts = [self._views(self._owner(frame), [frame]) for frame in frames]
        nodes = self.nodes[np.asarray(frames, np.int64)]
        return SampledViews(
            cameras=Sim3(nodes.rotation, nodes.translation, np.ones(len(nodes))),
            depth=np.concatenate([part.depth for part in parts]) * nodes.scale[:, None],
        )

    def _append(self, window: Window, views: SampledViews, alignment: Alignment | None, world: Sim3) -> None:
        own = range(window.own_start, window.own_stop)
        cameras = views[np.asarray(own) - window.start].cameras
        if alignment is not None:
            border = self._views(len(self._windows) - 1, [own[0] - 1]).cameras
            joint = border.inverse() @ alignment.similarity @ cameras[:1]
            covariance = alignment.covariance + self._drift(views.cameras)
            self.relations.append(_relation([own[0] - 1], [own[0]], joint, covariance, doubtful=False))
        if len(own) > 1:
            steps = cameras[:-1].inverse() @ cameras[1:]
            covariance = np.broadcast_to(self._drift(views.cameras), (len(own) - 1, 7, 7))
            self.relations.append(_relation(own[:-1], own[1:], steps, covariance, doubtful=False))
        self.nodes = Sim3.concatenate([self.nodes, world @ cameras])
        if self._windows and self._archive is not None:
            self._windows[-1] = replace(self._windows[-1], views=None)
        self._windows.append(_Placed(window=window, views=views))

    def _views(self, number: int, frames: Sequence[int] | range) -> SampledViews:
        """What a window has kept of some of its frames."""
        placed = self._windows[number]
        views = placed.views
        if views is None:
            assert self._archive is not None
            views = self._archive(number)
        return views[np.asarray(frames, np.int64) - placed.window.start]

    def loop_frames(self, candidate: LoopCandidate) -> tuple[list[int], list[int]]:
        """The frames of a loop window, those about each end.

        Raises:
            InputError: a frame has not come yet.
        """
        first, second = (
            loop_frames(frame, self._windows[self._owner(frame)].window, self.options.loops)
            for frame in (candidate.first, candidate.second)
        )
        return first, second

    def add_loop(self, candidate: LoopCandidate, prediction: Prediction) -> LoopCheck:
        """Take a loop into the graph if its two sides see one place.

        Args:
            candidate: a pair of frames.
            prediction: of the frames of :meth:`loop_frames`, one side after the other.

        Raises:
            InputError: the prediction has another number of frames or no cameras.
        """
        frames = self.loop_frames(candidate)
        if len(prediction.depth) != len(frames[0]) + len(frames[1]):
            raise InputError("prediction", f"{len(prediction.depth)} frames", f"{len(frames[0]) + len(frames[1])}")
        check = check_loop(prediction, len(frames[0]), self.options.loops)
        if check.accepted:
            self.relations.append(self._loop_relation(candidate, frames, sample_views(prediction)))
        return check

    def _loop_relation(
        self, candidate: LoopCandidate, frames: tuple[list[int], list[int]], views: SampledViews
    ) -> Relations:
        """Between the candidate's frames: from the first's window into the loop's world, and on to the second's."""
        ends, split = [candidate.first, candidate.second], len(frames[0])
        owners, parts = [self._owner(end) for end in ends], (views[:split], views[split:])
        to_first, to_second = (
            align_views(self._views(owner, side), part, fixed_scale=self.options.fixed_scale)
            for owner, side, part in zip(owners, frames, parts, strict=True)
        )
        first, second = (self._views(owner, [end]).cameras for owner, end in zip(owners, ends, strict=True))
        loop_first, loop_second = (part.cameras[len(part) // 2 :][:1] for part in parts)
        to_loop = to_second.similarity.inverse() @ second
        measured = first.inverse() @ to_first.similarity @ to_loop
        # The joints' covariances are at the loop's cameras and in its unit; the relation's is at the second's.
        from_first = (to_loop.inverse() @ loop_first).adjoint()[0]
        from_second = (to_loop.inverse() @ loop_second).adjoint()[0]
        covariance = from_first @ to_first.covariance @ from_first.T
        covariance += from_second @ (to_second.covariance + self._loop_drift(views)) @ from_second.T
        return _relation(ends[:1], ends[1:], measured, covariance, doubtful=True)

    def _loop_drift(self, views: SampledViews) -> Array:
        """Of the network between the sides, in the unit of the loop window; lengths go with the depth."""
        known = views.depth[np.isfinite(views.depth)]
        length = self.options.translation_drift * (float(np.median(known)) if len(known) else 1.0)
        return np.diag([length**2] * 3 + [self.options.rotation_drift**2] * 3 + [self.options.scale_drift**2])

    def _drift(self, cameras: Sim3) -> Array:
        """(7, 7) covariance of the motion from one frame of a window to the next."""
        steps = np.linalg.norm(np.diff(cameras.translation, axis=0), axis=1)
        length = self.options.translation_drift * max(float(steps.sum()), 1e-6)
        whole = [length**2] * 3 + [self.options.rotation_drift**2] * 3 + [self.options.scale_drift**2]
        return np.diag(whole) / max(len(steps), 1)

    def solve(self, priors: Sequence[Factor] = (), *, last: int | None = None) -> GraphResult | None:
        """Fit all frames to what is known; None where there is nothing to fit.

        Args:
            priors: GPS, gravity, metric scale, given poses; nodes are frames.
            last: move only the last so many frames, for an answer while the sequence goes on. None moves all.

        Raises:
            InputError: as :func:`~depth_anything_3.stream.graph.solve_graph`.
            MissingExtraError: scipy is not installed.
        """
        if not self.relations and not priors:
            return None
        free = None if last is None else np.arange(len(self)) >= len(self) - last
        known: list[Factor] = [stacked(self.relations)] if self.relations else []
        result = solve_graph(self.nodes, [*known, *priors], free=free, options=self.options.graph)
        self.nodes = result.nodes
        return result

    def extrinsics(self) -> Float[np.ndarray, "n 3 4"]:
        """World-to-camera poses of all frames, in the world of the first window."""
        return self.nodes.extrinsics()

    def depth_scales(self) -> Float[np.ndarray, " n"]:
        """What the depth of each frame, from the window that owns it, is to be multiplied by."""
        return self.nodes.scale

    def lenses(self) -> Float[np.ndarray, "n 3 3"]:
        """Camera matrices of all frames as the windows say, in pixels of the predictions.

        Raises:
            InputError: no prediction had intrinsics.
        """
        if not self._lenses:
            raise InputError("prediction", "none with intrinsics", "predictions with intrinsics")
        return np.concatenate(self._lenses).astype(np.float64)

    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """One camera matrix for the sequence, in pixels of the predictions: the median over all frames.

        Raises:
            InputError: no prediction had intrinsics.
        """
        middle: Array = np.median(self.lenses(), axis=0)
        return middle

    def _owner(self, frame: int) -> int:
        for number, placed in enumerate(self._windows):
            if placed.window.own_start <= frame < placed.window.own_stop:
                return number
        raise InputError("frame", str(frame), f"a frame that has come, below {len(self)}")

    def _check_window(self, window: Window, views: SampledViews) -> None:
        if len(views) != len(window):
            raise InputError("prediction", f"{len(views)} frames", f"{len(window)}, those of the window")
        last = self._windows[-1].window if self._windows else None
        follows = window.own_start == len(self) and (last is None or last.start <= window.start < last.stop)
        if not follows:
            raise InputError(
                "window", repr(window), f"a window that owns frame {len(self)} and shares frames with the last"
            )


def _relation(
    first: Sequence[int], second: Sequence[int], measured: Sim3, covariance: Array, *, doubtful: bool
) -> Relations:
    return Relations(
        first=np.asarray(first, np.int64),
        second=np.asarray(second, np.int64),
        measured=measured,
        whiten=whitening(covariance.reshape(-1, 7, 7)),
        doubtful=np.full(len(first), doubtful),
    )
