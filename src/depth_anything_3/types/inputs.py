"""What preprocessing hands to the network, and the way back to the caller's pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from depth_anything_3.types.options import IntrinsicsOrigin


@dataclass(frozen=True, kw_only=True)
class ResizeRecord:
    """How the pixels of one image became network pixels.

    Pixel coordinates count from the top-left corner of the image: the centre of the top-left pixel is (0.5, 0.5).
    Then ``processed = scale * source + offset``, exactly, for both axes.

    Attributes:
        source_hw: height and width of the image as shown (EXIF orientation applied).
        processed_hw: height and width of the network image.
        scale_xy: factors along x and y.
        offset_xy: shift along x and y in processed pixels; minus the columns and rows cropped at the left and top, plus
            those padded there.
        exif_orientation: the EXIF orientation tag that was applied (1 = none).
    """

    source_hw: tuple[int, int]
    processed_hw: tuple[int, int]
    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]
    exif_orientation: int = 1

    @property
    def processed_from_source(self) -> npt.NDArray[np.float64]:
        """(3, 3): from pixels of the upright source to those of the network image."""
        (sx, sy), (ox, oy) = self.scale_xy, self.offset_xy
        return np.array([[sx, 0.0, ox], [0.0, sy, oy], [0.0, 0.0, 1.0]])

    @property
    def source_from_processed(self) -> npt.NDArray[np.float64]:
        """(3, 3): the way back."""
        (sx, sy), (ox, oy) = self.scale_xy, self.offset_xy
        return np.array([[1 / sx, 0.0, -ox / sx], [0.0, 1 / sy, -oy / sy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """Cameras of the first K views that the network is told beside views whose cameras it shall find.

    Attributes:
        extrinsics: (K, 4, 4) world-to-camera, OpenCV axes, the first one the identity, in a unit in which the N views
            are typically at distance 1 from the first.
        intrinsics: (K, 3, 3) in pixels of the upright source images; in those of the processed ones, where they are
            part of :class:`ModelInputs`.
    """

    extrinsics: npt.NDArray[np.float64]
    intrinsics: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """N images of one scene at network size, with the cameras that came with them.

    Attributes:
        images: (N, 3, H, W) float32, ImageNet-normalised RGB, H and W multiples of 14.
        processed_images: (N, H, W, 3) uint8 RGB, the same pixels (de-normalised, truncated as published).
        names: N display names (file names, or ``image_0000`` for arrays).
        records: N resize records.
        extrinsics: (N, 4, 4) float64 world-to-camera, OpenCV axes, as given; or None.
        intrinsics: (N, 3, 3) float64 in pixels of the processed images; or None.
        intrinsics_origin: where these come from.
        masks: (N, H, W) bool, False where a view is masked out or padded; or None where none is.
        timestamps: N times in seconds from the start of the video that the views come from; empty where they come from
            no video.
        anchors: what the network is told of the first views, in place of ``extrinsics``; or None.
    """

    images: npt.NDArray[np.float32]
    processed_images: npt.NDArray[np.uint8]
    names: tuple[str, ...]
    records: tuple[ResizeRecord, ...]
    extrinsics: npt.NDArray[np.float64] | None = None
    intrinsics: npt.NDArray[np.float64] | None = None
    intrinsics_origin: IntrinsicsOrigin = "given"
    masks: npt.NDArray[np.bool_] | None = None
    timestamps: tuple[float, ...] = ()
    anchors: Anchors | None = None
