"""The kernels of gsplat, for CUDA devices. It is never required."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from depth_anything_3._optional import require
from depth_anything_3.geometry.harmonics import degree_of
from depth_anything_3.geometry.poses import as_homogeneous
from depth_anything_3.splat.base import Rendering
from depth_anything_3.splat.options import RenderOptions
from depth_anything_3.types.gaussians import Gaussians


def rasterise(
    gaussians: Gaussians,
    extrinsics: Float[Tensor, "B N 3 4"],
    intrinsics: Float[Tensor, "B N 3 3"],
    size: tuple[int, int],
    options: RenderOptions,
) -> Rendering:
    """Draw with ``gsplat.rasterization``; see :func:`~depth_anything_3.splat.base.render`.

    Its rules are those of the torch rasteriser, but that skew in the intrinsics has no effect, and that it looks at
    whole pixels when it stops.
    """
    rasterization = require("gsplat", extra="gs").rasterization
    height, width = size
    pictures, alphas = [], []
    for b in range(len(gaussians.means)):
        usable = (gaussians.scales[b] > 0).all(-1) & gaussians.means[b].isfinite().all(-1)
        picture, alpha, _ = rasterization(
            means=gaussians.means[b][usable],
            quats=gaussians.rotations[b][usable],
            scales=gaussians.scales[b][usable],
            opacities=gaussians.opacities[b][usable],
            colors=gaussians.harmonics[b][usable].transpose(-1, -2).contiguous(),
            viewmats=as_homogeneous(extrinsics[b]),
            Ks=intrinsics[b],
            width=width,
            height=height,
            near_plane=options.near,
            eps2d=options.dilation,
            sh_degree=degree_of(gaussians.harmonics.shape[-1]),
            packed=False,
            render_mode="RGB+ED",
        )
        pictures.append(picture)
        alphas.append(alpha[..., 0])
    features, alpha = torch.stack(pictures), torch.stack(alphas)
    # Behind everything here, and not there: releases differ in what they do with the depth channel of a background.
    colour = features[..., :3] + (1 - alpha)[..., None] * features.new_tensor(options.background)
    return Rendering(colour=colour.movedim(-1, 2), depth=features[..., 3], alpha=alpha)
