"""A long sequence, window by window: frames in, cameras and depth out, in bounded memory, resumable.

    with StreamingReconstructor(model, StreamOptions(), store="state") as stream:
        for image in images:
            for event in stream.push(image):
                ...
        stream.finalize()
        stream.trajectory()

The network sees windows of frames that overlap; :class:`~depth_anything_3.stream.mapper.Mapper` joins them, takes loops
and solves. All that is large lies in a :class:`~depth_anything_3.stream.store.Store`: frames as they came and what the
network said about them. A frame that the network sees a second time is read back from there, so that a process that
died and one that did not go on with the same bytes, and end with the same cameras.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.geometry.alignment import align_trajectories
from depth_anything_3.geometry.sim3 import Sim3
from depth_anything_3.infer.preprocess import check_cameras, resize_pictures
from depth_anything_3.io.images import ImageSource, LensPhoto, undistorted_mask
from depth_anything_3.io.masks import MaskSource, decode_mask
from depth_anything_3.stream.alignment import SampledViews, sample_views
from depth_anything_3.stream.events import (
    CONDITIONINGS,
    Conditioning,
    Event,
    FrameTracked,
    LoopChecked,
    PosesUpdated,
    WindowAdded,
)
from depth_anything_3.stream.factors import Factor, PosePrior, Relations, ScalePrior
from depth_anything_3.stream.frames import (
    FrameDepth,
    Picture,
    StreamFrame,
    decode_depth,
    decode_picture,
    encode_depth,
    encode_picture,
)
from depth_anything_3.stream.loops import LoopCandidate, propose_loops
from depth_anything_3.stream.mapper import Mapper, MapperOptions
from depth_anything_3.stream.places import describe, whitened
from depth_anything_3.stream.store import Store, pack, unpack
from depth_anything_3.stream.windows import Window, plan_windows
from depth_anything_3.types.inputs import Anchors, ResizeRecord
from depth_anything_3.types.options import (
    INTRINSICS_ORIGINS,
    FocalOrigin,
    InferOptions,
    IntrinsicsOrigin,
    PreprocessOptions,
    StreamOptions,
    check_choice,
    least_sure,
)
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]

SETTLED = 400
"""Frames behind the newest that still move before the end, where something absolute is known (poses, metres)."""

_USED = (
    "use_ray_pose",
    "ref_view_strategy",
    "metric_focal",
    "refine",
    "matcher",
    "max_memory",
    "key_pooling",
)  # of an inference's options
_FOCALS: tuple[FocalOrigin | None, ...] = (None, *get_args(FocalOrigin))
_WORTH_SAYING = 0.05  # of a frame, lost by cropping
_METRIC_SIGMA = 0.05  # of the logarithm of a metric window's scale
_GIVEN_ROTATION, _GIVEN_POSITION = np.radians(0.2), 2e-3  # deviations of given poses: radians, part of their spread
_PICTURE, _DEPTH, _WINDOW, _LOOP, _NODES, _SEARCH, _END = "pict", "dept", "wind", "loop", "node", "look", "ends"


@runtime_checkable
class WindowModel(Protocol):
    """What :class:`~depth_anything_3.api.DepthAnything3` has and is needed here."""

    process_res: int

    @property
    def model(self) -> Any:
        """With ``abilities`` and ``last_local_block``, as :class:`~depth_anything_3.model.da3.DepthAnything3Net`."""
        ...

    @property
    def local_tokens(self) -> Callable[..., npt.NDArray[np.float32]]:
        """As :meth:`depth_anything_3.api.DepthAnything3.local_tokens`."""
        ...

    @property
    def inference(self) -> Callable[..., Prediction]:
        """As :meth:`depth_anything_3.api.DepthAnything3.inference`."""
        ...


class StreamingReconstructor:
    """Cameras and depth of a sequence of any length.

    Args:
        model: sees the windows.
        options: windows and loops; None for the defaults.
        preprocessing: how frames become network inputs; None for the model's own size.
        inference: of ``InferOptions``, those that make sense here: ``use_ray_pose``, ``ref_view_strategy``,
            ``metric_focal``, ``max_memory``, ``key_pooling``, ``matcher`` and ``refine``, which is then done in every
            window.
        mapper: details of alignment, loops and solver; None for the defaults.
        store: folder for the state, new or to be gone on with: :attr:`received` says which frame comes next. None
            takes a temporary one that goes with this object.
        anew: discard the state that is there, whatever it is of.
        total: length of the sequence where it is known; the windows are then equally long.
        origin: where the frames and the weights come from, as plain data; a state of another origin is not gone on
            with.

    Attributes:
        conditioned: of each window, whether the network was told where the shared frames are and kept to it.
        inferred: frames that the network has seen, counted as often as it has.

    Raises:
        CapabilityError: the model predicts no cameras.
        InputError: an option makes no sense here, or the store is of something else.
    """

    def __init__(
        self,
        model: WindowModel,
        options: StreamOptions | None = None,
        *,
        preprocessing: PreprocessOptions | None = None,
        inference: InferOptions | None = None,
        mapper: MapperOptions | None = None,
        store: str | os.PathLike[str] | None = None,
        anew: bool = False,
        total: int | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.options = options or StreamOptions()
        self.preprocessing = preprocessing or PreprocessOptions(process_res=model.process_res)
        self.inference = inference or InferOptions()
        self._model = model
        _check(model, self.preprocessing, self.inference)
        self._size = _even_size(total, self.options)
        self._temporary = tempfile.TemporaryDirectory() if store is None else None
        mapping = mapper or MapperOptions()
        manifest = {
            "options": dataclasses.asdict(self.options),
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "inference": dataclasses.asdict(self.inference),
            "mapper": dataclasses.asdict(mapping),
            "window_size": self._size,
            "origin": dict(origin or {}),
        }
        for name in ("queue", "when_full", "shared_intrinsics"):  # change nothing in the store
            del manifest["options"][name]  # type: ignore[attr-defined]
        place = self._temporary.name if self._temporary else os.fspath(store or "")
        self.store = Store(place, manifest, anew=anew)
        self.mapper = Mapper(mapping, archive=self._archived)
        self._waiting: dict[int, Picture] = {}
        self._facts: list[Picture] = []
        self._windows: list[Window] = []
        self._descriptors: list[npt.NDArray[np.float32]] = []
        self._map_from_source: list[Array] = []
        self._tried: list[LoopCandidate] = []
        self._metric: list[bool] = []
        self._metric_focal: list[FocalOrigin | None] = []
        self._map_hw = (0, 0)
        self._first: ResizeRecord | None = None
        self._unsettled = self._warned = False
        self._finished = (0, 0)
        self.inferred = 0
        self.conditioned: list[Conditioning] = []
        self._replay()

    def __enter__(self) -> StreamingReconstructor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store; a temporary one is removed."""
        self.store.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __len__(self) -> int:
        """Frames that have a camera."""
        return len(self.mapper)

    @property
    def received(self) -> int:
        """Frames that came so far; the next one has this number."""
        return len(self._facts) + len(self._waiting)

    @property
    def is_metric(self) -> bool:
        """Whether lengths are metres: all windows are, and no given poses have set another unit."""
        return bool(self._metric) and all(self._metric) and not self._given()

    @property
    def metric_focal(self) -> FocalOrigin | None:
        """As of a :class:`~depth_anything_3.types.prediction.Prediction`; of several, the one to be trusted least."""
        known = [focal for focal in self._metric_focal if focal is not None]
        return least_sure(known) if self.is_metric and len(known) == len(self._windows) else None

    # --- frames in -------------------------------------------------------------------------------------------------

    def push(
        self,
        image: Any,
        *,
        timestamp: float | None = None,
        intrinsics: npt.ArrayLike | None = None,
        intrinsics_origin: IntrinsicsOrigin = "given",
        extrinsics: npt.ArrayLike | None = None,
        mask: MaskSource | None = None,
        name: str = "",
    ) -> list[Event]:
        """Take the next frame; once enough have come, the network sees a window of them.

        Args:
            image, timestamp, intrinsics, intrinsics_origin, extrinsics, mask, name: see
                :class:`~depth_anything_3.stream.frames.StreamFrame`, which may come as ``image`` too.

        Returns:
            What has happened; mostly nothing.

        Raises:
            InputError: a wrong camera or mask.
            ImageError: it cannot be read.
        """
        if not isinstance(image, StreamFrame):
            image = StreamFrame(
                image=image,
                timestamp=timestamp,
                intrinsics=intrinsics,
                intrinsics_origin=intrinsics_origin,
                extrinsics=extrinsics,
                mask=mask,
                name=name,
            )
        return self.take(self.prepare(image))

    def prepare(self, frame: StreamFrame) -> Picture:
        """Read a frame and bring it to the shape of the first one, as ``mixed_sizes`` says.

        May run in another thread than the rest, but for one frame after the other. See :meth:`push` for errors.
        """
        check_choice("intrinsics_origin", frame.intrinsics_origin, INTRINSICS_ORIGINS)
        pixels, record = self._in_shape(frame.image)
        poses, lenses = check_cameras(
            None if frame.extrinsics is None else np.asarray(frame.extrinsics)[None],
            np.eye(3)[None] if frame.intrinsics is None else np.asarray(frame.intrinsics)[None],
            1,
        )
        return Picture(
            pixels=pixels,
            source_hw=record.source_hw,
            scale_xy=record.scale_xy,
            offset_xy=record.offset_xy,
            timestamp=None if frame.timestamp is None else float(frame.timestamp),
            intrinsics=None if frame.intrinsics is None or lenses is None else lenses[0],
            intrinsics_origin=frame.intrinsics_origin,
            extrinsics=None if poses is None else poses[0],
            mask=_sized_mask(frame, record),
            name=frame.name or (Path(frame.image).name if isinstance(frame.image, (str, os.PathLike)) else ""),
        )

    def _in_shape(self, image: ImageSource) -> tuple[npt.NDArray[np.uint8], ResizeRecord]:
        """Pixels in the shape of the sequence, which is that of its first frame."""
        if self._first is None and self._facts:
            self._first = _record_of(self._picture(0))
        shape = None if self._first is None else self._first.processed_hw
        pixels, records = resize_pictures([image], most=self._most_pixels, options=self.preprocessing, shape=shape)
        record = records[0]
        if self._first is None:
            self._first = record
        elif not self._warned and (lost := _lost(record)) > _lost(self._first) + _WORTH_SAYING:
            self._warned = True
            (height, width), (high, wide) = record.source_hw, record.processed_hw
            warnings.warn(
                f"a frame of {width}x{height} pixels was cropped at the centre to the shape of the first one, "
                f"{wide}x{high}, and lost {lost:.0%}; mixed_sizes='pad' keeps all. Later ones are not told.",
                UserWarning,
                stacklevel=2,
            )
        return pixels[0], record

    def local_tokens(self, picture: Picture) -> npt.NDArray[np.float32]:
        """(1, ..., C) tokens of a frame by itself, from :meth:`prepare`; what tells places apart."""
        return self._model.local_tokens(
            [picture.pixels],
            process_res=self.preprocessing.process_res,
            process_res_method=self.preprocessing.process_res_method,
        )

    def take(self, picture: Picture) -> list[Event]:
        """As :meth:`push`, of a frame from :meth:`prepare`."""
        if self.received:
            first = self._waiting[min(self._waiting)] if self._waiting else self._picture(0)
            if first.pixels.shape != picture.pixels.shape:
                shapes = (f"{p.pixels.shape[1]} x {p.pixels.shape[0]} pixels" for p in (picture, first))
                raise InputError("image", f"frame {self.received} of {next(shapes)}", f"{next(shapes)}, as the first")
        self._waiting[self.received] = picture
        # One more than fits is waited for, so that the window knows that another one follows.
        if self.received - self._next_start() <= self._size:
            return []
        start = self._next_start()
        border = start + self._size - self.options.overlap + self.options.overlap // 2
        return self._run(Window(start=start, stop=start + self._size, own_start=len(self), own_stop=border))

    def take_group(self, pictures: Sequence[Picture], anchors: Sequence[int]) -> list[Event]:
        """Let the network see frames together with any that are there, and join them by those.

        Args:
            pictures: from :meth:`prepare`; the next frames of the sequence.
            anchors: frames that are there, the most alike last; none for the first group.

        Raises:
            InputError: frames of the sequence are still waiting, or an anchor is not there.
        """
        if self._waiting:
            raise InputError("pictures", "frames behind others that wait", "frames after a flush()")
        for picture in pictures:
            self._waiting[self.received] = picture
        own = Window(start=len(self), stop=self.received, own_start=len(self), own_stop=self.received)
        return self._run(own, anchors)

    def flush(self) -> list[Event]:
        """Make a window of what is waiting, however little it is."""
        if self.received == len(self):
            return []
        return self._run(
            Window(start=self._next_start(), stop=self.received, own_start=len(self), own_stop=self.received)
        )

    def finalize(self, priors: Sequence[Factor] = ()) -> list[Event]:
        """Take what is waiting, look for loops, and fit all frames to all that is known. More frames may follow.

        Args:
            priors: what else is known about frames, such as GPS or gravity; see
                :mod:`~depth_anything_3.stream.factors`.

        Raises:
            InputError: no frame has come.
        """
        if not self.received:
            raise InputError("frames", "none", "at least one frame")
        events = self.flush() + self._search()
        if self.options.loops == "final":
            events += self._close_loops()
        # Solving what is solved would move it a little further: what was finished stays as it is.
        reached = (len(self._windows), len(self._tried))
        if priors or reached != self._finished:
            events += self._settle(priors)
            self._finished = reached
            self.store.put(_END, len(self.store.keys(_END)), pack(reached=reached))
            self.store.commit()
        return events

    # --- results ---------------------------------------------------------------------------------------------------

    def trajectory(self) -> Float[np.ndarray, "n 3 4"]:
        """World-to-camera poses, OpenCV axes; in the world of given poses, else in that of the first window."""
        return self.mapper.extrinsics()

    def intrinsics(self) -> Float[np.ndarray, "n 3 3"]:
        """Camera matrices in pixels of the frames as they came."""
        source = np.linalg.inv(np.stack(self._map_from_source)) if len(self) else np.zeros((0, 3, 3))
        found: Array = source @ self._lenses()
        return found

    def timestamps(self) -> list[float | None]:
        """As they came."""
        return [facts.timestamp for facts in self._facts[: len(self)]]

    def names(self) -> list[str]:
        """As they came; of files, the file's name."""
        return [facts.name or f"frame_{i:06d}" for i, facts in enumerate(self._facts[: len(self)])]

    def records(self) -> list[ResizeRecord]:
        """How the pixels of the depth maps come from those of the frames as they came."""
        return [self._record(frame) for frame in range(len(self))]

    def depth(self, frame: int) -> Float[np.ndarray, "h w"]:
        """z-depth of a frame in the unit of the trajectory, float32; NaN for sky and what was masked out."""
        return (self._frame_depth(frame).depth * self.mapper.nodes.scale[frame]).astype(np.float32)

    def confidence(self, frame: int) -> Float[np.ndarray, "h w"] | None:
        """Of the depth, or None for networks without."""
        return self._frame_depth(frame).conf

    def image(self, frame: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) RGB of a frame, of the size of its depth."""
        return _sized(self._picture(frame).pixels, self._map_hw)

    def prediction(self, frames: Sequence[int] | None = None) -> Prediction:
        """Some frames as one prediction, for what works on those: exporters, cleaning, fusion.

        Args:
            frames: which; None for all, which then must fit into memory.

        Raises:
            InputError: a frame that has no camera yet.
        """
        chosen = list(range(len(self))) if frames is None else [int(frame) for frame in frames]
        if wrong := [frame for frame in chosen if not 0 <= frame < len(self)]:
            raise InputError("frames", str(wrong[:5]), f"frames from 0 to {len(self) - 1}")
        parts = [self._frame_depth(frame) for frame in chosen]
        scale = self.mapper.nodes.scale[chosen, None, None]
        confs = [part.conf for part in parts if part.conf is not None]
        names = self.names()
        return Prediction(
            depth=(np.stack([part.depth for part in parts]) * scale).astype(np.float32),
            is_metric=self.is_metric,
            metric_focal=self.metric_focal,
            conf=np.stack(confs) if len(confs) == len(parts) else None,
            extrinsics=self.trajectory()[chosen].astype(np.float32),
            intrinsics=self._lenses()[chosen].astype(np.float32),
            processed_images=np.stack([self.image(frame) for frame in chosen]),
            names=tuple(names[frame] for frame in chosen),
            records=tuple(self._record(frame) for frame in chosen),
            model_name=getattr(self._model, "model_name", ""),
        )

    # --- a window --------------------------------------------------------------------------------------------------

    def _run(self, window: Window, anchors: Sequence[int] = ()) -> list[Event]:
        overdue = self._search()
        pictures = [self._picture(frame) for frame in (*anchors, *window.frames)]
        prediction, tokens, conditioning = self._seen(window, anchors, pictures)
        for frame in range(len(self._facts), window.stop):
            self.store.put(_PICTURE, frame, encode_picture(self._waiting[frame]))
        for frame in range(window.own_start, window.own_stop):
            at = len(anchors) + frame - window.start
            self.store.put(_DEPTH, frame, encode_depth(_frame_depth(prediction, at)))
        number = len(self._windows)
        record = _window_record(window, anchors, prediction, tokens, pictures)
        self.store.put(_WINDOW, number, pack(**record, conditioning=CONDITIONINGS.index(conditioning)))
        for frame in range(len(self._facts), window.stop):
            self._facts.append(_without_pixels(self._waiting.pop(frame)))
        # From the record, as after a restart: arrays that lie otherwise in memory would be rounded otherwise.
        events = self._add(window, unpack(self.store.get(_WINDOW, number)))
        if self._absolute():
            events += self._settle(last=SETTLED)
        self.store.commit()
        return overdue + self._tracked(window) + events + self._search()

    def _add(self, window: Window, record: dict[str, npt.NDArray[Any]]) -> list[Event]:
        """Change the state by the record of a window."""
        anchors = record["anchors"].tolist()
        if anchors:
            alignment = self.mapper.add_group(anchors, _views(record), record["lenses"])
        else:
            alignment = self.mapper.add_views(window, _views(record), record["lenses"])
        self._windows.append(window)
        self._descriptors.append(record["descriptors"])
        self._map_from_source += list(record["map_from_source"])
        self._metric.append(bool(record["metric"]))
        self._metric_focal.append(_FOCALS[int(record["metric_focal"])])
        height, width = record["map_hw"].tolist()
        self._map_hw = (height, width)
        conditioning = CONDITIONINGS[int(record["conditioning"])]
        self.conditioned.append(conditioning)
        self.inferred += (len(window) + len(anchors)) * (2 if conditioning == "disagreed" else 1)
        return [WindowAdded(window=window, alignment=alignment, conditioning=conditioning)]

    def _seen(
        self, window: Window, anchors: Sequence[int], pictures: Sequence[Picture]
    ) -> tuple[Prediction, npt.NDArray[np.float32], Conditioning]:
        """What the network says: told where the frames are that the last windows saw, if it then agrees."""
        told = self._anchors(window, anchors, pictures)
        if told is None:
            return *self._predict(pictures), "none"
        prediction, tokens = self._predict(pictures, told)
        if self.mapper.agrees(window, sample_views(prediction), anchors):
            return prediction, tokens, "held"
        return *self._predict(pictures), "disagreed"

    def _anchors(self, window: Window, anchors: Sequence[int], pictures: Sequence[Picture]) -> Anchors | None:
        """Cameras of the frames that are there already; None where the network is not to be told, or cannot be."""
        able = "pose_conditioning" in self._model.model.abilities
        given = all(p.extrinsics is not None and p.intrinsics is not None for p in pictures)
        refused = "disagreed" in self.conditioned
        if self.options.conditioning == "off" or not able or given or refused or not self._windows:
            return None
        poses = self.mapper.anchors(window, anchors)
        if len(poses) < 2:
            return None
        last = len(self) - 1
        lens = np.median(self.mapper.lenses()[-len(window) :], axis=0)
        picture_from_map = self._facts[last].from_source @ np.linalg.inv(self._map_from_source[last])
        known = [p.from_source @ p.intrinsics if p.intrinsics is not None else None for p in pictures[: len(poses)]]
        lenses = np.stack([picture_from_map @ lens if k is None else k for k in known])
        return Anchors(extrinsics=poses, intrinsics=lenses)

    def _tracked(self, window: Window) -> list[Event]:
        poses, lenses = self.trajectory(), self.intrinsics()
        return [
            FrameTracked(frame=i, extrinsics=poses[i], intrinsics=lenses[i], timestamp=self._facts[i].timestamp)
            for i in range(window.own_start, window.own_stop)
        ]

    def _predict(
        self, pictures: Sequence[Picture], anchors: Anchors | None = None
    ) -> tuple[Prediction, npt.NDArray[np.float32]]:
        """What the network says, and the tokens that tell places apart."""
        layer = self._model.model.last_local_block
        lenses = [p.from_source @ p.intrinsics for p in pictures if p.intrinsics is not None]
        poses = [p.extrinsics for p in pictures if p.extrinsics is not None]
        known = len(lenses) == len(pictures)
        told = known and len(poses) == len(pictures) and "pose_conditioning" in self._model.model.abilities
        free = len(pictures) > 2 and not told and anchors is None
        prediction = self._model.inference(
            [picture.pixels for picture in pictures],
            extrinsics=np.stack(poses) if told else None,
            intrinsics=np.stack(lenses) if known else None,
            intrinsics_origin=least_sure(picture.intrinsics_origin for picture in pictures),
            anchors=anchors,
            use_ray_pose=self.inference.use_ray_pose,
            ref_view_strategy=self.inference.ref_view_strategy if free else "saddle_balanced",
            metric_focal=self.inference.metric_focal,
            max_memory=self.inference.max_memory,
            key_pooling=self.inference.key_pooling,
            refine=self.inference.refine if len(pictures) > 1 else "off",
            matcher=self.inference.matcher if len(pictures) > 1 else "sift",
            process_res=self.preprocessing.process_res,
            process_res_method=self.preprocessing.process_res_method,
            export_feat_layers=[layer],
        )
        tokens = np.asarray(prediction.aux[f"feat_layer_{layer}"])
        depth = prediction.depth.copy()
        for i, picture in enumerate(pictures):
            if picture.mask is not None:
                depth[i][~_sized(picture.mask, depth.shape[1:])] = np.nan
        return dataclasses.replace(prediction, depth=depth, aux={}), tokens

    # --- loops and the solver --------------------------------------------------------------------------------------

    def _search(self) -> list[Event]:
        """Look for loops after a window, unless that was done before the process died."""
        if self.options.loops != "online" or len(self.store.keys(_SEARCH)) == len(self._windows):
            return []
        events = self._close_loops()
        if self._unsettled:
            events += self._settle()
        self.store.put(_SEARCH, len(self._windows), b"")
        self.store.commit()
        return events

    def _close_loops(self) -> list[Event]:
        """Look at places that seem to be seen again, as many as the options allow."""
        options, events = self.mapper.options.loops, list[Event]()
        if len(self) <= options.least_gap:
            return events
        candidates = propose_loops(whitened(np.concatenate(self._descriptors)), options)
        for candidate in candidates:
            if len(self._tried) >= options.most(len(self)):
                break
            if not any(_near(candidate, other, options.apart) for other in self._tried):
                events += self._check_loop(candidate)
        return events

    def _check_loop(self, candidate: LoopCandidate) -> list[Event]:
        sides = self.mapper.loop_frames(candidate)
        frames = [*sides[0], *sides[1]]
        prediction, _ = self._predict([self._picture(frame) for frame in frames])
        before = len(self.mapper.relations)
        check = self.mapper.add_loop(candidate, prediction)
        record: dict[str, Any] = {
            "candidate": [candidate.first, candidate.second, candidate.similarity],
            "inferred": len(frames),
        }
        for relations in self.mapper.relations[before:]:
            z = relations.measured
            record |= {"rotation": z.rotation, "translation": z.translation, "scale": z.scale}
            record["whiten"] = relations.whiten
        del self.mapper.relations[before:]
        self.store.put(_LOOP, len(self._tried), pack(**record))
        self._add_loop(unpack(self.store.get(_LOOP, len(self._tried))))
        self.store.commit()
        return [LoopChecked(candidate=candidate, check=check)]

    def _settle(self, priors: Sequence[Factor] = (), *, last: int | None = None) -> list[Event]:
        """Fit the frames to what is known, and remember where they are then."""
        before = self.mapper.nodes
        given = self._given()
        if given:
            self._move_to_given(given)
        self.mapper.solve([*self._absolute(), *priors], last=last)
        after = self.mapper.nodes
        moved = np.flatnonzero((before.translation != after.translation).any(1) | (before.scale != after.scale))
        if len(moved) or self._unsettled:
            number = len(self.store.keys(_NODES))
            arrays = {"rotation": after.rotation, "translation": after.translation, "scale": after.scale}
            self.store.put(_NODES, number, pack(**arrays))
            self._set_nodes(unpack(self.store.get(_NODES, number)))
        return [PosesUpdated(first=int(moved[0]), last=int(moved[-1]) + 1)] if len(moved) else []

    def _given(self) -> list[int]:
        """Frames whose pose was given."""
        return [i for i, facts in enumerate(self._facts[: len(self)]) if facts.extrinsics is not None]

    def _given_poses(self, frames: Sequence[int]) -> Array:
        return np.stack([np.asarray(self._facts[i].extrinsics)[:3] for i in frames])

    def _move_to_given(self, frames: Sequence[int]) -> None:
        """Take the whole world to that of the given poses."""
        found = align_trajectories(self._given_poses(frames), self.trajectory()[list(frames)], robust=True)
        move = Sim3(found.rotation, found.translation, np.asarray(found.scale))
        self.mapper.nodes = move @ self.mapper.nodes

    def _absolute(self) -> list[Factor]:
        """What is known about the world itself: given poses, else metres."""
        if given := self._given():
            pose = Sim3.from_extrinsics(self._given_poses(given))
            spread = float(np.sqrt(((pose.translation - pose.translation.mean(0)) ** 2).sum(1).mean()))
            sigma = _GIVEN_POSITION * spread or 1.0
            count = len(given)
            return [
                PosePrior(
                    node=np.array(given),
                    pose=pose,
                    rotation_sigma=np.full(count, float(_GIVEN_ROTATION)),
                    position_sigma=np.full(count, sigma),
                )
            ]
        if not self.is_metric:
            return []
        middle = np.array([(w.own_start + w.own_stop - 1) // 2 for w in self._windows])
        sigma_each = np.full(len(middle), _METRIC_SIGMA)
        return [ScalePrior(node=middle, scale=np.ones(len(middle)), sigma=sigma_each)]

    # --- what is kept ----------------------------------------------------------------------------------------------

    def _replay(self) -> None:
        """The state of the process that wrote the store."""
        for frame in self.store.keys(_PICTURE):
            self._facts.append(decode_picture(self.store.get(_PICTURE, frame), pixels=False))
        for kind, key in self.store.in_order((_WINDOW, _LOOP, _NODES)):
            record = unpack(self.store.get(kind, key))
            if kind == _WINDOW:
                start, stop, own_start, own_stop = record["window"].tolist()
                window = Window(start=start, stop=stop, own_start=own_start, own_stop=own_stop)
                self._add(window, record)
            elif kind == _NODES:
                self._set_nodes(record)
            else:
                self._add_loop(record)
        for end in self.store.keys(_END)[-1:]:
            windows, tried = unpack(self.store.get(_END, end))["reached"].tolist()
            self._finished = (windows, tried)

    def _set_nodes(self, record: dict[str, npt.NDArray[Any]]) -> None:
        self.mapper.nodes = Sim3(record["rotation"], record["translation"], record["scale"])
        self._unsettled = False

    def _add_loop(self, record: dict[str, npt.NDArray[Any]]) -> None:
        """Change the state by the record of a loop."""
        first, second, similarity = record["candidate"].tolist()
        self._tried.append(LoopCandidate(first=int(first), second=int(second), similarity=similarity))
        self.inferred += int(record["inferred"])
        if "whiten" in record:
            self._unsettled = True
            self.mapper.relations.append(
                Relations(
                    first=np.array([int(first)]),
                    second=np.array([int(second)]),
                    measured=Sim3(record["rotation"], record["translation"], record["scale"]),
                    whiten=record["whiten"],
                    doubtful=np.ones(1, bool),
                )
            )

    def _archived(self, number: int) -> SampledViews:
        record = unpack(self.store.get(_WINDOW, number))
        return _views(record)[len(record["anchors"]) :]

    def _picture(self, frame: int) -> Picture:
        if frame in self._waiting:
            return self._waiting[frame]
        return decode_picture(self.store.get(_PICTURE, frame))

    def _frame_depth(self, frame: int) -> FrameDepth:
        return decode_depth(self.store.get(_DEPTH, frame))

    def _lenses(self) -> Array:
        """(N, 3, 3) in pixels of the depth maps."""
        lenses = self.mapper.lenses()
        if self.options.shared_intrinsics:
            return np.broadcast_to(np.median(lenses, axis=0), lenses.shape)
        return lenses

    def _record(self, frame: int) -> ResizeRecord:
        matrix = self._map_from_source[frame]
        return ResizeRecord(
            source_hw=self._facts[frame].source_hw,
            processed_hw=self._map_hw,
            scale_xy=(float(matrix[0, 0]), float(matrix[1, 1])),
            offset_xy=(float(matrix[0, 2]), float(matrix[1, 2])),
        )

    @property
    def _most_pixels(self) -> int:
        """The longest side that is kept of a frame: that of the network, or what refinement looks at."""
        size = self.preprocessing.process_res
        plain = self.inference.refine == "off" and self.preprocessing.process_res_method.startswith("upper_bound")
        if plain:
            return size
        from depth_anything_3.refine.scene import FEATURE_SIZE  # imports torch, which nothing else here needs

        return max(FEATURE_SIZE, size)

    def _next_start(self) -> int:
        """The first frame of the next window."""
        if not self._windows:
            return 0
        last = self._windows[-1]
        return max(last.start, last.stop - self.options.overlap)


def keyframes(count: int, most: int) -> list[int]:
    """At most so many frames of a sequence, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()


def _check(model: WindowModel, preprocessing: PreprocessOptions, inference: InferOptions) -> None:
    if not {"cameras"} <= model.model.abilities and not inference.use_ray_pose:
        raise CapabilityError("model", "one that predicts no cameras", "a model with cameras")
    if preprocessing.alpha == "mask":
        raise InputError("alpha", "'mask'", "'composite' or 'drop'; masks of a sequence come with its frames")
    for field in dataclasses.fields(InferOptions):
        value = getattr(inference, field.name)
        if field.name not in _USED and value != field.default:
            raise InputError(field.name, repr(value), f"{field.default!r} for a sequence")


def _even_size(total: int | None, options: StreamOptions) -> int:
    if total is None:
        return options.window
    return max(len(w) for w in plan_windows(max(total, 1), size=options.window, overlap=options.overlap))


def _near(one: LoopCandidate, other: LoopCandidate, apart: int) -> bool:
    return max(abs(one.first - other.first), abs(one.second - other.second)) < apart


def _views(record: dict[str, npt.NDArray[Any]]) -> SampledViews:
    rotation = record["rotation"]
    return SampledViews(cameras=Sim3(rotation, record["translation"], np.ones(len(rotation))), depth=record["depth"])


def _window_record(
    window: Window,
    anchors: Sequence[int],
    prediction: Prediction,
    tokens: npt.NDArray[np.float32],
    pictures: Sequence[Picture],
) -> dict[str, Any]:
    """What is kept of a window beside its frames."""
    own = slice(len(anchors) + window.own_start - window.start, len(anchors) + window.own_stop - window.start)
    lenses, views = prediction.intrinsics, sample_views(prediction)
    if lenses is None:
        raise InputError("model", "a prediction without intrinsics", "intrinsics of all frames")
    return {
        "window": [window.start, window.stop, window.own_start, window.own_stop],
        "anchors": np.asarray(anchors, np.int64),
        "rotation": views.cameras.rotation,
        "translation": views.cameras.translation,
        "depth": views.depth,
        "lenses": lenses[own],
        "descriptors": describe(tokens)[own],
        "map_from_source": np.stack([_map_from_source(prediction, i, p) for i, p in enumerate(pictures)])[own],
        "metric": prediction.is_metric,
        "metric_focal": _FOCALS.index(prediction.metric_focal),
        "map_hw": prediction.depth.shape[1:],
    }


def _frame_depth(prediction: Prediction, view: int) -> FrameDepth:
    depth = prediction.depth[view]
    if prediction.sky is not None:
        depth = np.where(prediction.sky[view], np.float32(np.nan), depth)
    return FrameDepth(depth=depth, conf=None if prediction.conf is None else prediction.conf[view])


def _without_pixels(picture: Picture) -> Picture:
    return dataclasses.replace(picture, pixels=np.zeros((0, 0, 3), np.uint8), mask=None)


def _map_from_source(prediction: Prediction, view: int, picture: Picture) -> Array:
    """(3, 3) from pixels of the frame as it came to those of its depth map."""
    if prediction.records:
        return prediction.records[view].processed_from_source @ picture.from_source
    return picture.from_source


def _sized_mask(frame: StreamFrame, record: ResizeRecord) -> npt.NDArray[np.bool_] | None:
    """The mask at the size of the picture, False where that was padded; None where all of it is good."""
    found = np.ones((1, 1), np.bool_)
    if frame.mask is not None:
        found = decode_mask(frame.mask, index=0, size=record.source_hw)
        if isinstance(frame.image, LensPhoto):
            found = undistorted_mask(found, frame.image)
    indices, inside = zip(*(_source_index(record, axis) for axis in (0, 1)), strict=True)
    rows, columns = (index.clip(0, size - 1) for index, size in zip(indices, found.shape, strict=True))
    sized: npt.NDArray[np.bool_] = found[np.ix_(rows, columns)] & inside[0][:, None] & inside[1]
    return None if frame.mask is None and sized.all() else sized


def _record_of(picture: Picture) -> ResizeRecord:
    return ResizeRecord(
        source_hw=picture.source_hw,
        processed_hw=(picture.pixels.shape[0], picture.pixels.shape[1]),
        scale_xy=picture.scale_xy,
        offset_xy=picture.offset_xy,
    )


def _source_index(record: ResizeRecord, axis: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Row (axis 0) or column of the frame under each of the picture's, and whether the frame reaches there."""
    scale, offset = record.scale_xy[1 - axis], record.offset_xy[1 - axis]
    place = (np.arange(record.processed_hw[axis]) + 0.5 - offset) / scale
    return np.floor(place).astype(np.int64), (place >= 0) & (place <= record.source_hw[axis])


def _lost(record: ResizeRecord) -> float:
    """The part of a frame that was cropped."""
    (height, width), (high, wide) = record.source_hw, record.processed_hw
    kept = min(1.0, high / (height * record.scale_xy[1])) * min(1.0, wide / (width * record.scale_xy[0]))
    return 1 - kept


def _sized(pixels: npt.NDArray[Any], hw: tuple[int, ...]) -> npt.NDArray[Any]:
    """A picture or mask at another size; by areas for pictures, the nearest pixel for masks."""
    if pixels.shape[:2] == tuple(hw):
        return pixels
    import cv2

    size = (int(hw[1]), int(hw[0]))
    if pixels.dtype == np.bool_:
        return np.asarray(cv2.resize(pixels.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)) > 0
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
