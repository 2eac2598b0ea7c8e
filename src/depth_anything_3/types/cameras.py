"""Cameras that come with photos: which photo, where it stood, what its lens does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from depth_anything_3.errors import InputError
from depth_anything_3.types.options import check_choice

LENS_MODELS: dict[str, tuple[str, ...]] = {
    "PINHOLE": (),
    "OPENCV": ("k1", "k2", "p1", "p2"),
    "FULL_OPENCV": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "FOV": ("omega",),
    "DIVISION": ("k",),
    "EUCM": ("alpha", "beta"),
    "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
    "THIN_PRISM_FISHEYE": ("k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1"),
    "RAD_TAN_THIN_PRISM_FISHEYE": ("k0", "k1", "k2", "k3", "k4", "k5", "p0", "p1", "s0", "s1", "s2", "s3"),
}
"""Lens models and the names of their coefficients; :mod:`depth_anything_3.geometry.distortion` has the formulas.

The names are those of COLMAP. Its SIMPLE_ and RADIAL models are special cases: the readers turn them into these.
"""


@dataclass(frozen=True)
class Lens:
    """What a lens does to directions before the camera matrix makes pixels of them.

    Attributes:
        model: one of :data:`LENS_MODELS`.
        coefficients: in the order given there.

    Raises:
        InputError: an unknown model, a wrong number of coefficients, or one that is not finite.
    """

    model: str = "PINHOLE"
    coefficients: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_choice("model", self.model, tuple(LENS_MODELS))
        wanted = LENS_MODELS[self.model]
        if len(self.coefficients) != len(wanted):
            expected = f"{len(wanted)} for {self.model}"
            raise InputError("coefficients", f"{len(self.coefficients)} numbers", expected, wanted)
        if not np.isfinite(self.coefficients).all():
            raise InputError("coefficients", str(self.coefficients), "finite numbers")

    @property
    def is_pinhole(self) -> bool:
        """Whether straight lines stay straight."""
        if self.model == "EUCM":
            return self.coefficients[0] == 0
        return "FISHEYE" not in self.model and not any(self.coefficients)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cameras:
    """N cameras, as far as a file knows them; the arrays are read-only.

    Attributes:
        source: the file they come from, for messages.
        names: of the photos, as the file writes them (``cam0/0001.jpg``); None where it has none.
        times: (N,) seconds; None where the file has none.
        intrinsics: (N, 3, 3) in pixels, the centre of the top-left pixel at (0.5, 0.5); None where not known.
        extrinsics: (N, 3, 4) world-to-camera, OpenCV axes (x right, y down, z forward); None where not known.
        sizes: (N, 2) height and width that the intrinsics belong to; None where not known.
        lenses: N lenses.

    Raises:
        InputError: a shape is wrong.
    """

    source: str = ""
    names: tuple[str, ...] | None = None
    times: npt.NDArray[np.float64] | None = None
    intrinsics: npt.NDArray[np.float64] | None = None
    extrinsics: npt.NDArray[np.float64] | None = None
    sizes: npt.NDArray[np.int64] | None = None
    lenses: tuple[Lens, ...] = ()

    def __post_init__(self) -> None:
        count = len(self)
        if not self.lenses:
            object.__setattr__(self, "lenses", (Lens(),) * count)
        shapes = {"times": (), "intrinsics": (3, 3), "extrinsics": (3, 4), "sizes": (2,)}
        for name, shape in shapes.items():
            if (value := getattr(self, name)) is None:
                continue
            array = np.array(value, np.int64 if name == "sizes" else np.float64)
            if array.shape != (count, *shape):
                raise InputError(name, f"shape {array.shape}", f"shape {(count, *shape)}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        for name in ("names", "lenses"):
            if (given := getattr(self, name)) is not None and len(given) != count:
                raise InputError(name, f"{len(given)} for {count} cameras", "one per camera")

    def __len__(self) -> int:
        known = (self.extrinsics, self.intrinsics, self.names, self.times)
        return next((len(value) for value in known if value is not None), 0)

    def take(self, order: Sequence[int]) -> Self:
        """The cameras at the given positions, in that order."""
        chosen = list(order)
        changes: dict[str, Any] = {
            field.name: value[chosen] if isinstance(value, np.ndarray) else tuple(value[i] for i in chosen)
            for field in fields(self)
            if field.name != "source" and (value := getattr(self, field.name)) is not None
        }
        return replace(self, **changes)
