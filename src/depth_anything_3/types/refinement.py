"""What refinement did to a prediction: view by view, and to its Gaussians."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from depth_anything_3.types.options import RefineMode

PoseSource = Literal["matches", "rotation", "given", "network"]
"""Where a pose comes from: from matches; its rotation from matches without parallax, which leave it in the place of the
view that it shares them with; from the caller; or from the network, because nothing connects the view to others."""

DepthSource = Literal["field", "scale", "network"]
"""How depth was brought to triangulated points: by a smooth field, by one scale, or not at all."""


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """Result of a refinement; tuples hold one value per view.

    Attributes:
        mode: ``poses`` or ``full``.
        pose_source: where each pose comes from.
        observations: of triangulated points.
        reprojection_px: root mean square over them, in pixels of the pictures that keypoints were found in; None
            without any.
        focal_factor: what the network's focal length was multiplied by, in the mean; 1 where cameras were given.
        depth_source: how each view's depth was aligned.
        depth_error: median of ``|log(point / depth)|`` at the points, before anything was aligned; None without points.
        measured: share of the pixels whose depth was measured by comparing views; 0 in mode ``poses``.
        scale_source: what sets the unit: ``network`` (its depth, in the median over all points), or ``given`` poses.
        matcher: what the matches come from; of several that were asked, those that gave more.
    """

    mode: RefineMode
    pose_source: tuple[PoseSource, ...]
    observations: tuple[int, ...]
    reprojection_px: tuple[float | None, ...]
    focal_factor: float
    depth_source: tuple[DepthSource, ...]
    depth_error: tuple[float | None, ...]
    measured: tuple[float, ...]
    scale_source: Literal["network", "given"]
    matcher: str = "sift"

    @property
    def unsupported(self) -> tuple[int, ...]:
        """Views that kept the network's answer."""
        return tuple(i for i, source in enumerate(self.pose_source) if source == "network")

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, as plain data."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Refinement:
        """The inverse of :meth:`as_dict`."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return cls(**values)

    def summary(self) -> str:
        """One line: what was done and what it changed."""
        count = len(self.pose_source)
        placed = count - len(self.unsupported)
        if not placed:
            return f"refinement: nothing connects the {count} views; the network's answer stands"
        errors = [e for e in self.reprojection_px if e is not None]
        seen, only_turned = sum(self.observations), "rotation" in self.pose_source
        how = "turned in one place" if only_turned and not seen else f"from {seen} observations"
        parts = [f"{placed} of {count} cameras {how}"]
        if errors:
            parts[0] += f" ({sum(errors) / len(errors):.2f} px)"
        if abs(self.focal_factor - 1) >= 0.005:
            parts.append(f"focal length x{self.focal_factor:.2f}")
        if self.mode == "full":
            parts.append(f"depth measured at {sum(self.measured) / count:.0%} of the pixels")
        if self.unsupported:
            views = "view {} keeps" if len(self.unsupported) == 1 else "views {} keep"
            parts.append(f"{views.format(', '.join(map(str, self.unsupported)))} the network's answer")
        return "refinement: " + ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class GaussianRefinement:
    """Result of optimising Gaussians on the views that they come from.

    Attributes:
        steps: of the optimisation.
        psnr_before, psnr_after: of pictures of the Gaussians against the views, in dB: the mean over the views.
    """

    steps: int
    psnr_before: float
    psnr_after: float

    def summary(self) -> str:
        """One line: what it changed."""
        change = f"{self.psnr_before:.2f} dB on their own views, {self.psnr_after:.2f} dB after {self.steps} steps"
        return f"Gaussians: {change}"
