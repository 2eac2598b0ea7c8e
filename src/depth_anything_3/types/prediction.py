"""The result of an inference: plain numpy arrays in one frame and one unit, validated and read-only."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from depth_anything_3._attr_dict import AttrDict
from depth_anything_3._files import atomic_path
from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.types.alignment import Alignment
from depth_anything_3.types.confidence import ConfidenceMap
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.observations import Observations
from depth_anything_3.types.options import FocalOrigin
from depth_anything_3.types.refinement import GaussianRefinement, Refinement
from depth_anything_3.types.rig import Rig

if TYPE_CHECKING:
    from typing_extensions import Self

_FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=False, eq=False)
class Prediction:
    """Depth, cameras and more for the N views of one scene.

    Poses are world-to-camera with OpenCV axes (x right, y down, z forward); depth is z-depth in the same unit as the
    translations; pixels are those of the processed images, with the centre of the top-left one at (0.5, 0.5).
    Arrays are read-only, so that exporters cannot change what the next one reads; copy before editing.

    Attributes:
        depth: (N, H, W) float32.
        is_metric: True where depth and translations are metres.
        sky: (N, H, W) bool, where ``sky_prob`` is at least 0.5; or None for models without a sky branch.
        conf: (N, H, W) float32 confidence, at least 1, or None for models without one. Sky in nested models is
            exactly 1, the lowest value.
        extrinsics: (N, 3, 4) float32, or None for models without cameras; those make one view with given intrinsics
            the world.
        intrinsics: (N, 3, 3) float32 in pixels of the processed images, or None.
        processed_images: (N, H, W, 3) uint8 RGB.
        gaussians: 3D Gaussians, or None.
        aux: ``feat_layer_<i>`` (N, H/14, W/14, C) float32 patch features, in input order.
        scale_factor: the factor that made a nested prediction metric, or None.
        names: N display names of the inputs.
        timestamps: N times in seconds from the start of the video that the views come from; empty for photos.
        records: N resize records that lead back to the caller's pixels.
        model_name: the preset that made the prediction, or "" where unknown.
        refinement: what refinement did, or None where there was none.
        alignment: what given poses or lengths did to frame and unit, or None where there were none.
        metric_focal: whose focal length made metres of a metric network's depth: that of ``given`` matrices, of a field
            of view (``fov``), of the tags of the photos (``exif``), or the ``predicted`` one; None for other networks,
            and where none is known.
        rig: the given or estimated rig that the poses are those of, or None.
        confidence_map: what ``conf`` is worth, or None where that was not measured; see :func:`probability_right`.
        ray_residual_deg: by view, the median angle in degrees between the predicted rays and those of the cameras that
            the network's answer was given; None where no rays were computed (they are with ``use_ray_pose``).
        sky_prob: (N, H, W) float32 in [0, 1], the sky score cut off at 1; or None for models without a sky branch.
        memory_plan: how the network was run to fit into memory and what that was predicted to take, such as
            ``"attention-blocked, 1.2 GB of 8.0 GB"``; "" where unknown. See :mod:`depth_anything_3.infer.plan`.
        valid: (N, H, W) bool, False where a pixel has no depth: masked out, padding, or a depth that is not finite and
            positive; None stands for the last of these. Sky is told apart, in ``sky``. See :func:`usable_pixels`.
        observations: where the views see the points that refinement matched, in pixels of the upright source pictures
            (of the processed images where there are no records); or None. Points have numbers, and no places: these
            follow from whatever the cameras are.
        gaussian_refinement: what optimising the Gaussians on their views did, or None where nothing was optimised.
    """

    depth: npt.NDArray[np.float32]
    is_metric: bool
    sky: npt.NDArray[np.bool_] | None = None
    conf: npt.NDArray[np.float32] | None = None
    extrinsics: npt.NDArray[np.float32] | None = None
    intrinsics: npt.NDArray[np.float32] | None = None
    processed_images: npt.NDArray[np.uint8] | None = None
    gaussians: Gaussians | None = None
    aux: Mapping[str, npt.NDArray[np.float32]] = dataclasses.field(default_factory=AttrDict)
    scale_factor: float | None = None
    names: tuple[str, ...] = ()
    records: tuple[ResizeRecord, ...] = ()
    model_name: str = ""
    refinement: Refinement | None = None
    alignment: Alignment | None = None
    metric_focal: FocalOrigin | None = None
    timestamps: tuple[float, ...] = ()
    sky_prob: npt.NDArray[np.float32] | None = None
    valid: npt.NDArray[np.bool_] | None = None
    ray_residual_deg: tuple[float, ...] | None = None
    rig: Rig | None = None
    confidence_map: ConfidenceMap | None = None
    memory_plan: str = ""
    observations: Observations | None = None
    gaussian_refinement: GaussianRefinement | None = None

    def __post_init__(self) -> None:
        depth = np.asarray(self.depth)
        if depth.ndim != 3:
            raise InputError("depth", f"shape {depth.shape}", "shape (N, H, W)")
        n, h, w = depth.shape
        expected: dict[str, tuple[tuple[int, ...], npt.DTypeLike]] = {
            "depth": ((n, h, w), np.float32),
            "sky": ((n, h, w), np.bool_),
            "sky_prob": ((n, h, w), np.float32),
            "valid": ((n, h, w), np.bool_),
            "conf": ((n, h, w), np.float32),
            "extrinsics": ((n, 3, 4), np.float32),
            "intrinsics": ((n, 3, 3), np.float32),
            "processed_images": ((n, h, w, 3), np.uint8),
        }
        for name, (shape, dtype) in expected.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _read_only(name, value, shape, dtype))
        aux = AttrDict({name: _features(f"aux[{name}]", value, n) for name, value in self.aux.items()})
        object.__setattr__(self, "aux", aux)
        object.__setattr__(self, "is_metric", bool(self.is_metric))
        object.__setattr__(self, "scale_factor", None if self.scale_factor is None else float(self.scale_factor))
        if not isinstance(self.gaussians, Gaussians | None):
            raise InputError("gaussians", f"an object of type {type(self.gaussians).__name__}", "Gaussians or None")
        if self.ray_residual_deg is not None:
            angles = tuple(float(angle) for angle in self.ray_residual_deg)
            object.__setattr__(self, "ray_residual_deg", _one_per_view("ray_residual_deg", angles, float, n))
        for name, kind in (("names", str), ("records", ResizeRecord), ("timestamps", float)):
            object.__setattr__(self, name, _one_per_view(name, getattr(self, name), kind, n))
        if self.observations is not None:
            object.__setattr__(self, "observations", _frozen_observations(self.observations, n))

    @property
    def scale(self) -> Literal["metric", "relative"]:
        """``"metric"`` where lengths are metres, else ``"relative"``: known up to one factor."""
        return "metric" if self.is_metric else "relative"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything to one compressed ``.npz`` file; :meth:`load` reads it back bit for bit.

        The file appears whole: it is written under a temporary name and renamed.
        """
        target = Path(path)
        if target.suffix != ".npz":
            raise InputError("path", str(path), "a file name that ends in .npz")
        with atomic_path(target) as temporary:
            np.savez_compressed(temporary, **_to_arrays(self))
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file written by :meth:`save`. Gaussians come back as CPU tensors. Nothing is unpickled."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except FileNotFoundError:
            raise
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError("path", f"{path} ({error})", "a file written by Prediction.save") from error
        return cls(**_from_arrays(arrays, str(path)))


def probability_right(prediction: Prediction) -> npt.NDArray[np.float32]:
    """(N, H, W) probabilities that depth is within 25 % of the truth after one scale per scene: calibrated confidence.

    Measured on the procedural world, for networks whose checkpoint says so; what other pictures do to it is not known.

    Raises:
        CapabilityError: the prediction has no confidence, or its worth was not measured.
    """
    if prediction.conf is None or prediction.confidence_map is None:
        raise CapabilityError("prediction", "no calibrated confidence", "one of a model whose confidence was measured")
    return prediction.confidence_map(prediction.conf)


def valid_pixels(prediction: Prediction) -> npt.NDArray[np.bool_]:
    """(N, H, W): where there is a depth, finite and positive, that is neither masked out nor padding."""
    known: npt.NDArray[np.bool_] = np.isfinite(prediction.depth) & (prediction.depth > 0)
    return known if prediction.valid is None else known & prediction.valid


def usable_pixels(prediction: Prediction) -> npt.NDArray[np.bool_]:
    """(N, H, W): :func:`valid_pixels` that are not sky, which is what lengths, points and surfaces are made of."""
    valid = valid_pixels(prediction)
    return valid if prediction.sky is None else valid & ~prediction.sky


def known_depth(prediction: Prediction) -> npt.NDArray[np.float32]:
    """(N, H, W) float32: the depth, NaN where ``valid`` says that there is none."""
    if prediction.valid is None:
        return prediction.depth
    return np.where(prediction.valid, prediction.depth, np.float32(np.nan))


def masked_out(prediction: Prediction, keep: npt.NDArray[np.bool_]) -> Prediction:
    """The prediction with more pixels masked out.

    Args:
        prediction: any.
        keep: (N, H, W), False for what is to be masked out.

    Raises:
        InputError: another shape or dtype.
    """
    if np.shape(keep) != prediction.depth.shape or np.asarray(keep).dtype != np.bool_:
        got = f"shape {np.shape(keep)} and dtype {np.asarray(keep).dtype}"
        raise InputError("keep", got, f"shape {prediction.depth.shape} and dtype bool")
    return dataclasses.replace(prediction, valid=valid_pixels(prediction) & keep)


def _read_only(name: str, value: Any, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    array = np.asarray(value)
    if array.shape != shape:
        raise InputError(name, f"shape {array.shape}", f"shape {shape}")
    if array.dtype != dtype:
        # Floats may lose digits; whole numbers that do not fit would wrap around.
        if not np.can_cast(array.dtype, dtype, "same_kind" if np.dtype(dtype).kind == "f" else "safe"):
            raise InputError(name, f"dtype {array.dtype}", f"dtype {np.dtype(dtype)}")
        array = array.astype(dtype)
    return _frozen_view(array)


def _features(name: str, value: Any, n: int) -> npt.NDArray[np.float32]:
    shape = np.shape(value)
    if len(shape) != 4 or shape[0] != n:
        raise InputError(name, f"shape {shape}", f"shape ({n}, H/14, W/14, C)")
    return _read_only(name, value, shape, np.float32)


def _one_per_view(name: str, value: Any, kind: type, n: int) -> tuple[Any, ...]:
    entries = tuple(value)
    if isinstance(value, str) or not all(isinstance(entry, kind) for entry in entries):
        raise InputError(name, repr(value), f"{kind.__name__} objects, one per view ({n})")
    if entries and len(entries) != n:
        raise InputError(name, f"{len(entries)} entries", f"one per view ({n})")
    return entries


def _frozen_observations(seen: Observations, n: int) -> Observations:
    seen.check(int(seen.point.max(initial=-1)) + 1, n)
    return Observations(**{name: _frozen_view(getattr(seen, name)) for name in _OBSERVATION_FIELDS})


def _frozen_view(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


_ARRAY_FIELDS = ("depth", "sky", "conf", "extrinsics", "intrinsics", "processed_images", "sky_prob", "valid")
_OBSERVATION_FIELDS = tuple(field.name for field in dataclasses.fields(Observations))
_GAUSSIAN_FIELDS = tuple(field.name for field in dataclasses.fields(Gaussians))


def _to_arrays(prediction: Prediction) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        name: getattr(prediction, name) for name in _ARRAY_FIELDS if getattr(prediction, name) is not None
    }
    arrays |= {f"aux.{name}": value for name, value in prediction.aux.items()}
    if prediction.gaussians is not None:
        for name in _GAUSSIAN_FIELDS:
            arrays[f"gaussians.{name}"] = getattr(prediction.gaussians, name).detach().cpu().numpy()
    if prediction.observations is not None:
        arrays |= prediction.observations.as_arrays()
    metadata = {
        "format_version": _FORMAT_VERSION,
        "is_metric": prediction.is_metric,
        "scale_factor": prediction.scale_factor,
        "names": list(prediction.names),
        "timestamps": list(prediction.timestamps),
        "records": [dataclasses.asdict(record) for record in prediction.records],
        "model_name": prediction.model_name,
        "refinement": None if prediction.refinement is None else prediction.refinement.as_dict(),
        "alignment": None if prediction.alignment is None else prediction.alignment.as_dict(),
        "metric_focal": prediction.metric_focal,
        "memory_plan": prediction.memory_plan,
        "ray_residual_deg": prediction.ray_residual_deg,
        "confidence_map": None if prediction.confidence_map is None else dataclasses.asdict(prediction.confidence_map),
        "gaussian_refinement": (
            None if prediction.gaussian_refinement is None else dataclasses.asdict(prediction.gaussian_refinement)
        ),
        "rig": None if prediction.rig is None else prediction.rig.as_dict(),
    }
    arrays["metadata"] = np.frombuffer(json.dumps(metadata, sort_keys=True).encode(), np.uint8)
    return arrays


def _from_arrays(arrays: dict[str, npt.NDArray[Any]], path: str) -> dict[str, Any]:
    metadata = _metadata(arrays, path)
    if metadata.pop("format_version") != _FORMAT_VERSION:
        raise InputError("path", f"{path}, of another format version", f"format version {_FORMAT_VERSION}")
    metadata["records"] = tuple(_record(**record) for record in metadata["records"])
    if metadata.get("refinement") is not None:
        metadata["refinement"] = Refinement.from_dict(metadata["refinement"])
    if metadata.get("gaussian_refinement") is not None:
        metadata["gaussian_refinement"] = GaussianRefinement(**metadata["gaussian_refinement"])
    if metadata.get("alignment") is not None:
        metadata["alignment"] = Alignment.from_dict(metadata["alignment"])
    if metadata.get("confidence_map") is not None:
        values = {name: tuple(knots) for name, knots in metadata["confidence_map"].items()}
        metadata["confidence_map"] = ConfidenceMap(**values)
    if metadata.get("rig") is not None:
        metadata["rig"] = Rig.from_dict(metadata["rig"])
    fields = {**metadata, **{name: arrays[name] for name in _ARRAY_FIELDS if name in arrays}}
    fields["aux"] = {name[4:]: value for name, value in arrays.items() if name.startswith("aux.")}
    fields["observations"] = Observations.from_arrays(arrays)
    if "gaussians.means" in arrays:
        from torch import from_numpy

        fields["gaussians"] = Gaussians(**{n: from_numpy(arrays[f"gaussians.{n}"]) for n in _GAUSSIAN_FIELDS})
    return fields


def _metadata(arrays: Mapping[str, npt.NDArray[Any]], path: str) -> dict[str, Any]:
    try:
        metadata = json.loads(arrays["metadata"].tobytes())
    except (KeyError, ValueError):
        metadata = None
    if not isinstance(metadata, dict) or "format_version" not in metadata or "depth" not in arrays:
        raise InputError("path", f"{path}, which other software wrote", "a file written by Prediction.save")
    return metadata


def _record(**fields: Any) -> ResizeRecord:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    return ResizeRecord(**values)
