"""Rasterisers by name, what they take and give, and the one function that runs them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.registry import Registry
from depth_anything_3.splat.options import RenderOptions
from depth_anything_3.types.gaussians import Gaussians

MIN_ALPHA = 1 / 255
"""A Gaussian covers the pixels in which its own alpha is above this, and no others."""

MAX_ALPHA = 0.999
"""No Gaussian hides more than this share of what is behind it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rendering:
    """Pictures of B scenes from N views each, on the device of the Gaussians.

    Attributes:
        colour: background included; not clipped to 0 to 1.
        depth: expected z-depth, the mean over what is visible weighted by its share of the pixel; 0 where nothing is.
        alpha: share of the pixel that is covered, 0 to 1.
    """

    colour: Float[Tensor, "B N 3 H W"]
    depth: Float[Tensor, "B N H W"]
    alpha: Float[Tensor, "B N H W"]


class Rasteriser(Protocol):
    """Draws Gaussians; arguments have been checked by :func:`render`, which says what they are."""

    def __call__(
        self,
        gaussians: Gaussians,
        extrinsics: Float[Tensor, "B N 3 4"],
        intrinsics: Float[Tensor, "B N 3 3"],
        size: tuple[int, int],
        options: RenderOptions,
    ) -> Rendering:
        """Draw every scene from each of its views."""


def _known_rasterisers() -> Registry[Rasteriser]:
    registry: Registry[Rasteriser] = Registry("rasteriser")
    registry.register_lazy("torch", f"{__package__}.torch_rasteriser:rasterise")
    registry.register_lazy("gsplat", f"{__package__}.gsplat_rasteriser:rasterise")
    return registry


RASTERISERS: Registry[Rasteriser] = _known_rasterisers()
"""Rasterisers by name, imported when first asked for: ``torch`` runs everywhere, ``gsplat`` on CUDA devices."""


def render(
    gaussians: Gaussians,
    extrinsics: Float[Tensor, "B N 3 4"],
    intrinsics: Float[Tensor, "B N 3 3"],
    size: tuple[int, int],
    *,
    options: RenderOptions | None = None,
    rasteriser: str | None = None,
) -> Rendering:
    """Pictures of Gaussians; gradients flow to all of their tensors.

    Each Gaussian is projected to an ellipse to first order (EWA splatting) and the ellipses are blended from the
    nearest centre to the farthest. A Gaussian is drawn in the pixels where its alpha, opacity x exp(-q / 2) at the
    pixel's centre, is above 1/255; alphas are limited to 0.999. Its colour is max(0, 0.5 + harmonics in the direction
    from the camera to its centre). Gaussians that are not finite, or have a scale of zero or less, are left out.

    Args:
        gaussians: B scenes, in the world of the cameras; harmonics of degree 0 to 3.
        extrinsics: world-to-camera poses, OpenCV axes, in the unit of the Gaussians.
        intrinsics: in pixels of the wanted size, principal point anywhere; the centre of the top-left pixel is
            (0.5, 0.5).
        size: height and width of the pictures.
        options: background, near plane, dilation.
        rasteriser: a name in :data:`RASTERISERS`; None takes ``gsplat`` for Gaussians on a CUDA device where it is
            installed, and ``torch`` otherwise.

    Raises:
        InputError: shapes that do not fit each other, or a size below 1.
        UnknownNameError: there is no such rasteriser.
        MissingExtraError: ``gsplat`` is asked for and not installed.
    """
    _check(gaussians, extrinsics, intrinsics, size)
    name = _best_rasteriser(gaussians) if rasteriser is None else rasteriser
    extrinsics, intrinsics = extrinsics.to(gaussians.means), intrinsics.to(gaussians.means)
    return RASTERISERS[name](gaussians, extrinsics, intrinsics, size, options or RenderOptions())


def _best_rasteriser(gaussians: Gaussians) -> str:
    # gsplat knows float32 only.
    usable = gaussians.means.is_cuda and gaussians.means.dtype.itemsize == 4
    return "gsplat" if usable and importlib.util.find_spec("gsplat") is not None else "torch"


def _check(gaussians: Gaussians, extrinsics: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> None:
    check_gaussians(gaussians)
    if min(size) < 1:
        raise InputError("size", repr(size), "height and width, at least 1")
    scenes = len(gaussians.means)
    if extrinsics.ndim != 4 or len(extrinsics) != scenes or extrinsics.shape[2:] != (3, 4):
        raise InputError("extrinsics", f"shape {tuple(extrinsics.shape)}", f"shape ({scenes}, N, 3, 4)")
    wanted = (*extrinsics.shape[:2], 3, 3)
    if intrinsics.shape != wanted:
        raise InputError("intrinsics", f"shape {tuple(intrinsics.shape)}", f"shape {wanted}")


def check_gaussians(gaussians: Gaussians) -> None:
    """Raise :class:`InputError` unless the shapes of the tensors fit each other."""
    if gaussians.means.ndim != 3 or gaussians.means.shape[-1] != 3:
        raise InputError("gaussians.means", f"shape {tuple(gaussians.means.shape)}", "shape (B, G, 3)")
    scenes, count = gaussians.means.shape[:2]
    for name, tail in (("scales", (3,)), ("rotations", (4,)), ("opacities", ())):
        shape, wanted = tuple(getattr(gaussians, name).shape), (scenes, count, *tail)
        if shape != wanted:
            raise InputError(f"gaussians.{name}", f"shape {shape}", f"shape {wanted}")
    shape = tuple(gaussians.harmonics.shape)
    if shape[:-1] != (scenes, count, 3) or shape[-1] not in (1, 4, 9, 16):
        raise InputError("gaussians.harmonics", f"shape {shape}", f"shape ({scenes}, {count}, 3, 1 | 4 | 9 | 16)")
