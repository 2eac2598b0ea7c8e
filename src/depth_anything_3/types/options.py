"""Options that cross layers, each defined once.

The Python API, the command line and the server derive their parameters from these dataclasses. This module imports
neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from depth_anything_3.errors import InputError

O = TypeVar("O", bound=str)  # noqa: E741

ProcessMethod = Literal["upper_bound_resize", "upper_bound_crop", "lower_bound_resize", "lower_bound_crop"]
AlphaMode = Literal["composite", "mask", "drop"]
MixedSizes = Literal["crop", "pad"]
ReferenceViewStrategy = Literal["first", "middle", "saddle_balanced", "saddle_sim_range", "saddle_sim_range_others"]

RefineMode = Literal["off", "poses", "full"]

LoopSearch = Literal["off", "final", "online"]
StreamConditioning = Literal["anchors", "off"]
WhenFull = Literal["block", "drop"]

ExtrinsicsConvention = Literal["opencv_w2c", "opencv_c2w", "opengl_w2c", "opengl_c2w", "colmap", "blender"]
"""What a 4x4 pose maps (``w2c``: world to camera, ``c2w``: camera to world), and the camera's axes: OpenCV (x right, y
down, z forward) or OpenGL (x right, y up, z backward). COLMAP's is ``opencv_w2c``, Blender's and nerfstudio's
``opengl_c2w``."""

GaussianSource = Literal["head", "depth"]
"""What 3D Gaussians are made by: the network's Gaussian head, or its depth and the colours of the pixels alone."""

MetricFocal = Literal["given", "predicted"]
"""Which focal length makes metres of what a metric network says."""

IntrinsicsOrigin = Literal["given", "fov", "exif"]
"""Where camera matrices come from: a calibration, a field of view that somebody named, or the tags of the photos."""

FocalOrigin = Literal["given", "fov", "exif", "predicted"]
"""Whose focal length made metres: that of given matrices, by their origin, or the network's own."""

OutputSize = Literal["processed", "input"]
"""Whose pixels the maps of a prediction have: the processed pictures', or those of the pictures as they were given."""

PROCESS_METHODS: tuple[str, ...] = get_args(ProcessMethod)
ALPHA_MODES: tuple[str, ...] = get_args(AlphaMode)
MIXED_SIZES: tuple[str, ...] = get_args(MixedSizes)
REFERENCE_VIEW_STRATEGIES: tuple[str, ...] = get_args(ReferenceViewStrategy)
REFINE_MODES: tuple[str, ...] = get_args(RefineMode)
EXTRINSICS_CONVENTIONS: tuple[str, ...] = get_args(ExtrinsicsConvention)
GAUSSIAN_SOURCES: tuple[str, ...] = get_args(GaussianSource)
METRIC_FOCALS: tuple[str, ...] = get_args(MetricFocal)
INTRINSICS_ORIGINS: tuple[str, ...] = get_args(IntrinsicsOrigin)
FOCAL_ORIGINS: tuple[str, ...] = get_args(FocalOrigin)
OUTPUT_SIZES: tuple[str, ...] = get_args(OutputSize)
LOOP_SEARCHES: tuple[str, ...] = get_args(LoopSearch)
STREAM_CONDITIONINGS: tuple[str, ...] = get_args(StreamConditioning)
WHEN_FULL: tuple[str, ...] = get_args(WhenFull)

PATCH_SIZE = 14
"""Side of a network patch in pixels; processed images are multiples of it."""

PROCESS_RES = 504
"""Side in pixels that the published networks were made for."""

CAMERA_SIGMA = (0.25, 0.15)
"""How far off a network's cameras are taken to be unless it says so itself: the rotation between two views in radians,
and the logarithm of a focal length. Refinement looks for matches with this in mind."""


def check_choice(argument: str, value: object, choices: Sequence[str]) -> None:
    """Raise :class:`InputError` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise InputError(argument, repr(value), "one of the valid names", choices)


def check_count(argument: str, value: object, *, least: int = 1, optional: bool = False) -> None:
    """Raise :class:`InputError` unless ``value`` is a whole number, at least ``least``; or None, where ``optional``."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(argument, repr(value), f"a whole number, at least {least}")


def least_sure(origins: Iterable[O]) -> O:
    """Of several :data:`IntrinsicsOrigin` or :data:`FocalOrigin`, the one to be trusted least, for what rests on all.

    Raises:
        ValueError: there are none.
    """
    return max(origins, key=FOCAL_ORIGINS.index)


@dataclass(frozen=True, kw_only=True)
class PreprocessOptions:
    """How images become network inputs.

    Attributes:
        process_res: target length in pixels of the side that the method bounds.
        process_res_method: ``upper_bound_*`` bounds the longest side, ``lower_bound_*`` the shortest; ``*_resize``
            then rounds both sides to multiples of 14 by resizing, ``*_crop`` by a centre crop.
        alpha: what becomes of transparency: ``composite`` on white; ``mask``: the same, and the less than half
            opaque pixels are masked out; or ``drop`` (the published behaviour, which shows the colour hidden under
            transparent pixels).
        mixed_sizes: what is done to images of one scene that differ in shape: all are cropped at the centre to what is
            common to them (``crop``, the published behaviour), or padded with grey around it to what holds them all
            (``pad``); padding is masked out.
    """

    process_res: int = PROCESS_RES
    process_res_method: ProcessMethod = "upper_bound_resize"
    alpha: AlphaMode = "composite"
    mixed_sizes: MixedSizes = "crop"

    def __post_init__(self) -> None:
        if isinstance(self.process_res, bool) or not isinstance(self.process_res, int):
            raise InputError("process_res", repr(self.process_res), "a whole number of pixels")
        if self.process_res < PATCH_SIZE:
            raise InputError("process_res", str(self.process_res), f"at least {PATCH_SIZE} pixels (one patch)")
        check_choice("process_res_method", self.process_res_method, PROCESS_METHODS)
        check_choice("alpha", self.alpha, ALPHA_MODES)
        check_choice("mixed_sizes", self.mixed_sizes, MIXED_SIZES)


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """Which photos of a folder are taken.

    Attributes:
        recursive: also those in the folders below it.
        stride: every how many-th, from the first on.
        limit: at most how many; None for all.
        extensions: only files with these extensions, with or without the dot, in any letter case; empty for all.
    """

    recursive: bool = False
    stride: int = 1
    limit: int | None = None
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_count("stride", self.stride)
        check_count("limit", self.limit, optional=True)


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Which frames of a video are taken.

    Attributes:
        start: from this time on, in seconds from the start of the video; None for its start.
        end: before this time; None for its end.
        fps: at most so many frames per second: the first at or after each tick of a clock that starts with the span.
            Times are compared to within a millisecond.
        stride: every how many-th frame of the span, from the first on; in place of ``fps``.
        max_frames: at most so many of the frames that the others leave, spread evenly over them.
    """

    start: float | None = None
    end: float | None = None
    fps: float | None = None
    stride: int | None = None
    max_frames: int | None = None

    def __post_init__(self) -> None:
        for name, what in (("start", "seconds"), ("end", "seconds"), ("fps", "frames per second")):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            least = 0.0 if name == "start" else 1e-9
            if value is not None and not (number and least <= value < float("inf")):
                sign = "not negative" if name == "start" else "positive"
                raise InputError(name, repr(value), f"a number of {what} that is {sign}")
        check_count("stride", self.stride, optional=True)
        check_count("max_frames", self.max_frames, optional=True)
        if self.end is not None and self.end <= (self.start or 0.0):
            raise InputError(
                "end", f"{self.end:g} with start {self.start or 0:g}", "a time after the start, in seconds"
            )
        if self.fps is not None and self.stride is not None:
            raise InputError("stride", f"{self.stride} with fps {self.fps:g}", "one of the two")


@dataclass(frozen=True, kw_only=True)
class InferOptions:
    """What is computed from the network inputs, and in which frame it is returned.

    Attributes:
        align_to_input_ext_scale: with given poses, return them unchanged and bring the depth to their scale (True),
            or return them moved into the predicted frame with the depth untouched (False).
        infer_gs: also predict 3D Gaussians.
        gs_source: whether they come from the Gaussian ``head``, which few models have, or are plain balls, one per
            pixel, from the ``depth``, which takes a model with cameras.
        gs_refine: so many steps in which the Gaussians are optimised until pictures of them look like the views; 0
            leaves them as they are. See :mod:`depth_anything_3.splat.refine`.
        use_ray_pose: cameras from the predicted rays instead of the camera decoder.
        ref_view_strategy: how the reference view is chosen among three or more views without given poses.
        export_feat_layers: indices of transformer blocks whose patch features are returned in ``aux``.
        refine: ``poses`` lets matches between the views correct cameras and the scale of each view's depth; ``full``
            also measures depth by comparing the views; see :mod:`depth_anything_3.refine.scene`.
        matcher: what finds the matches of ``refine``: ``sift``, ``attention`` (the network's own, for where texture is
            thin) or another name in :data:`depth_anything_3.refine.matchers.MATCHERS`; ``sift+attention`` asks the
            second only where the first finds too little.
        metric_focal: whether metres come from the ``given`` focal length, where there is one, or always from the
            ``predicted`` one, as published.
        metric_res: longest side in pixels of the picture that metres are taken from, where they come from a metric
            network: at other values of ``process_res`` it sees the pictures once more at this size, and the depth is
            multiplied by the median ratio. None is the checkpoint's own, which published ones do not have: there, the
            metres are those of ``process_res``.
        shared_intrinsics: bring predicted cameras to one camera matrix for all views, which must be pictures of one
            size; poses and depth follow, see :func:`depth_anything_3.infer.intrinsics.constrain_intrinsics`.
        square_pixels: bring predicted cameras to fx = fy in the pixels of the pictures as they were given, likewise.
        derive_confidence: confidence from how well the network agrees with itself on mirrored and smaller pictures, for
            models without one (and in the place of others'); takes about twice as long again, see
            :mod:`depth_anything_3.infer.agreement`.
        output_size: maps and intrinsics for the pixels of the ``processed`` pictures, or of the ``input``, which are
            then all of one size; see :func:`depth_anything_3.refine.input_resolution.at_input_resolution`.
        max_memory: the network is run so that it is predicted to take at most so many gigabytes (of 10^9 bytes), of
            the process on the CPU, of the device's memory elsewhere; None for what is free. See
            :mod:`depth_anything_3.infer.plan`.
        key_pooling: for many views, approximate: in attention across views so many by so many neighbouring patches of
            a view are seen as one, their mean. 1 is exact; what 2 and 3 gain and cost: ``docs/performance.md``.
    """

    align_to_input_ext_scale: bool = True
    infer_gs: bool = False
    gs_source: GaussianSource = "head"
    gs_refine: int = 0
    use_ray_pose: bool = False
    ref_view_strategy: ReferenceViewStrategy = "saddle_balanced"
    export_feat_layers: tuple[int, ...] = ()
    refine: RefineMode = "off"
    matcher: str = "sift"
    metric_focal: MetricFocal = "given"
    metric_res: int | None = None
    shared_intrinsics: bool = False
    square_pixels: bool = False
    derive_confidence: bool = False
    output_size: OutputSize = "processed"
    max_memory: float | None = None
    key_pooling: int = 1

    def __post_init__(self) -> None:
        check_count("key_pooling", self.key_pooling)
        if self.max_memory is not None and not 0 < self.max_memory < float("inf"):
            raise InputError("max_memory", repr(self.max_memory), "a positive number of gigabytes, or None")
        check_count("metric_res", self.metric_res, optional=True)
        check_choice("gs_source", self.gs_source, GAUSSIAN_SOURCES)
        check_count("gs_refine", self.gs_refine, least=0)
        check_choice("metric_focal", self.metric_focal, METRIC_FOCALS)
        check_choice("output_size", self.output_size, OUTPUT_SIZES)
        check_choice("refine", self.refine, REFINE_MODES)
        check_choice("ref_view_strategy", self.ref_view_strategy, REFERENCE_VIEW_STRATEGIES)


@dataclass(frozen=True, kw_only=True)
class CleanOptions:
    """Which pixels become points, and what is done to the points. The depth itself is never changed.

    Everything is free of the unit: lengths are shares of a depth, so that the same options suit metres and relative
    scale.

    Attributes:
        drop_sky: leave out sky, where the prediction knows it.
        conf_percentile: the share of pixels, in percent, that is left out as least confident.
        flying: leave out pixels on the ramp that a blurred edge makes between two surfaces: those off both by more
            than this share of their depth. 0 leaves them in.
        flying_width: the widest ramp in pixels.
        flying_gap: also leave out what is at most so many pixels wide between two ramps: thin things that were
            narrower than the blur, but also those that were a little wider.
        consistency: two views agree where their depths differ by less than this share. Pixels that more views
            contradict than confirm are left out. 0 compares nothing.
        agreeing_views: so many other views must confirm a pixel; all that can see it, where fewer can.
        neighbours: each view is compared with the so many views that share most with it.
        voxel: merge the points in each cube of this size, as a share of the median depth. 0 merges nothing.
        outlier_std: leave out points whose mean distance to their nearest points is above the mean by so many
            standard deviations. 0 leaves them in.
        outlier_neighbours: how many nearest points that counts.
        radius: leave out points with fewer than ``radius_neighbours`` others within this share of the median depth.
            0 leaves them in.
        radius_neighbours: how many that takes.
    """

    drop_sky: bool = True
    conf_percentile: float = 0.0
    flying: float = 0.02
    flying_width: int = 7
    flying_gap: int = 0
    consistency: float = 0.0
    agreeing_views: int = 0
    neighbours: int = 8
    voxel: float = 0.0
    outlier_std: float = 0.0
    outlier_neighbours: int = 16
    radius: float = 0.0
    radius_neighbours: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.conf_percentile < 100:
            raise InputError("conf_percentile", repr(self.conf_percentile), "a percentage from 0 to below 100")
        for name in ("flying", "consistency", "voxel", "outlier_std", "radius"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(name, repr(getattr(self, name)), "a number that is not negative (0 switches it off)")
        least = {"flying_width": 2, "flying_gap": 0, "agreeing_views": 0}
        least |= {"neighbours": 1, "outlier_neighbours": 1, "radius_neighbours": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(name, repr(getattr(self, name)), f"at least {low}")


CLEAN_PRESETS: dict[str, CleanOptions] = {
    # Every pixel that has a depth.
    "raw": CleanOptions(drop_sky=False, flying=0.0),
    # What is certainly wrong goes, single views lose little.
    "clean": CleanOptions(conf_percentile=10.0, consistency=0.05),
    # What is not confirmed goes too.
    "strict": CleanOptions(
        conf_percentile=30.0,
        flying_gap=4,
        consistency=0.03,
        agreeing_views=2,
        voxel=0.002,
        outlier_std=2.0,
    ),
}
"""The cleaning that every door offers by name: Python, command line, server and app."""


def clean_preset(name: str) -> CleanOptions:
    """The options of :data:`CLEAN_PRESETS` under a name; an unknown one raises :class:`InputError`."""
    check_choice("preset", name, tuple(CLEAN_PRESETS))
    return CLEAN_PRESETS[name]


@dataclass(frozen=True, kw_only=True)
class FuseOptions:
    """How depth maps become one surface.

    Attributes:
        voxel: distance of the samples, in the unit of the depth; None takes two pixels at the median depth, or the
            smallest size that fits ``max_blocks`` where that needs more.
        truncation: samples farther than so many voxels behind a surface are not touched by it, and the distance to
            it counts at most so much.
        min_weight: a cell becomes part of the surface where every corner was seen so often (each view counts 1, or
            its confidence).
        max_blocks: at most so many blocks of 8 x 8 x 8 samples, 10 KiB each: the default bounds them to 500 MiB.
        min_island: parts of the surface with fewer triangles are left out; 0 keeps all.
    """

    voxel: float | None = None
    truncation: float = 4.0
    min_weight: float = 1.0
    max_blocks: int = 51_200
    min_island: int = 0

    def __post_init__(self) -> None:
        if self.voxel is not None and not 0 < self.voxel < float("inf"):
            raise InputError("voxel", repr(self.voxel), "a positive length or None")
        for name, low in (("truncation", 1), ("min_weight", 0), ("max_blocks", 1), ("min_island", 0)):
            if not low <= getattr(self, name) < float("inf"):
                raise InputError(name, repr(getattr(self, name)), f"at least {low}")


@dataclass(frozen=True, kw_only=True)
class OnnxOptions:
    """What an ONNX graph is made for.

    Attributes:
        views: number of views of a scene, which is fixed.
        height, width: of the pictures, multiples of 14; with ``dynamic`` only those that the graph is traced with.
        dynamic: height and width may be any multiple of 14, from 28 on.
        rays: also return the predicted rays.
        int8: write a second graph with 8-bit weights in its matrix products.
    """

    views: int = 1
    height: int = 504
    width: int = 504
    dynamic: bool = False
    rays: bool = False
    int8: bool = False

    def __post_init__(self) -> None:
        for name, step, least in (("views", 1, 1), ("height", PATCH_SIZE, 28), ("width", PATCH_SIZE, 28)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least or value % step:
                raise InputError(name, repr(value), f"a multiple of {step}, at least {least}")


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How a long sequence is reconstructed, window by window.

    Attributes:
        window: frames that the network sees together; memory grows with it.
        overlap: frames that neighbouring windows share. 8 to 16 work well; up to a sixth of ``window`` keeps the work
            below 1.2 times that of seeing each frame once.
        loops: when places seen again are looked for: never (``off``), once all frames are there (``final``), or after
            every window as well (``online``).
        conditioning: whether the network, if it can take poses, is told those that frames of a window have from the
            last ones (``anchors``). Where what it says disagrees with them, it sees the window again without, and so
            all later ones.
        shared_intrinsics: one camera matrix for all frames, the median, in what is returned.
        queue: frames that wait in front of the network when they come while it runs.
        when_full: what then becomes of a frame that finds the queue full: the caller waits (``block``), or the frame is
            left out (``drop``).
    """

    window: int = 120
    overlap: int = 12
    loops: LoopSearch = "final"
    conditioning: StreamConditioning = "anchors"
    shared_intrinsics: bool = True
    queue: int = 64
    when_full: WhenFull = "block"

    def __post_init__(self) -> None:
        for name, least in (("window", 2), ("overlap", 1), ("queue", 1)):
            check_count(name, getattr(self, name), least=least)
        if self.overlap > self.window // 2:
            raise InputError("overlap", str(self.overlap), f"at most half of the window, {self.window // 2}")
        check_choice("loops", self.loops, LOOP_SEARCHES)
        check_choice("conditioning", self.conditioning, STREAM_CONDITIONINGS)
        check_choice("when_full", self.when_full, WHEN_FULL)
