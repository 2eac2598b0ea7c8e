"""Gaussians optimised until pictures of them look like the views they come from.

A few hundred steps of Adam on centres, deviations, rotations, opacities and harmonics. Nothing is split or thrown away:
there are as many Gaussians as before, in the same order. One view is drawn per step, so that memory follows the largest
view and not their number; beside the Gaussians themselves it takes three times their size.

The views that are fitted say little about others: what the optimisation gains there is not known from the PSNR here.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from depth_anything_3.errors import CapabilityError
from depth_anything_3.splat.base import check_gaussians, render
from depth_anything_3.splat.clean import drawable, select
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.prediction import Prediction, valid_pixels
from depth_anything_3.types.refinement import GaussianRefinement

_RATES = {"scales": 0.01, "rotations": 0.005, "harmonics": 0.01, "opacities": 0.05}
"""Of Adam, per step: deviations as logarithms, opacities as logits."""

_MEANS_RATE = 0.1  # deviations of a Gaussian
_HIGHER = 0.05  # of the rate of the harmonics, for those above degree 0 (as in 3D Gaussian splatting)
_LAST_RATE = 0.1  # of the first
_CLEAR = 1e-6  # opacities are kept so far from 0 and 1
_EXACT = 1e-10  # a mean squared error that counts as none: 100 dB


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """What N views should look like, on the device of the Gaussians.

    Attributes:
        colours: values from 0 to 1.
        weight: 1 where a pixel counts.
        extrinsics, intrinsics: of the views, in the world of the Gaussians and in pixels of the pictures.
    """

    colours: Float[Tensor, "N 3 H W"]
    weight: Float[Tensor, "N 1 H W"]
    extrinsics: Float[Tensor, "N 3 4"]
    intrinsics: Float[Tensor, "N 3 3"]

    def error(self, gaussians: Gaussians, view: int) -> Float[Tensor, ""]:
        """Mean squared error of one view over the pixels that count; 0 where none does."""
        pose, lens = self.extrinsics[None, view : view + 1], self.intrinsics[None, view : view + 1]
        drawn = render(gaussians, pose, lens, (self.colours.shape[2], self.colours.shape[3])).colour[0, 0]
        weight = self.weight[view]
        return ((drawn - self.colours[view]).square() * weight).sum() / (3 * weight.sum()).clamp(min=1)

    @torch.no_grad()
    def psnr(self, gaussians: Gaussians) -> float:
        """Mean over the views in dB; at most 100."""
        errors = [max(float(self.error(gaussians, view)), _EXACT) for view in range(len(self.colours))]
        return -10 * sum(map(math.log10, errors)) / len(errors)


def refine_gaussians(
    gaussians: Gaussians, target: Target, steps: int, *, on_step: Callable[[int, int], None] | None = None
) -> tuple[Gaussians, GaussianRefinement]:
    """Steps of Adam on the mean squared error, the views in turn; the same input gives the same result.

    Args:
        gaussians: one scene. Those that cannot be drawn (not finite, without extent or opacity) stay as they are.
        target: the views.
        steps: how many.
        on_step: called with the steps done and their number.

    Returns:
        New Gaussians in the order of the old ones, and what the optimisation did.

    Warns:
        UserWarning: the PSNR is lower afterwards.
    """
    check_gaussians(gaussians)
    # Tensors of an inference know no gradients; copies made out here do.
    with torch.inference_mode(mode=False), torch.enable_grad():
        start = Gaussians(**{name: value.detach().clone().float() for name, value in vars(gaussians).items()})
        before = target.psnr(start)
        index = (drawable(start, 0.0) & (start.opacities[0] > 0)).nonzero()[:, 0]
        moved = _descend(select(start, index), target, steps, on_step) if len(index) else select(start, index)
        values = {name: value.index_copy(1, index, getattr(moved, name)) for name, value in vars(start).items()}
        refined = Gaussians(**values)
        after = target.psnr(refined)
    if after < before:
        warnings.warn(f"gs_refine: PSNR fell from {before:.2f} to {after:.2f} dB in {steps} steps", stacklevel=2)
    return refined, GaussianRefinement(steps=steps, psnr_before=before, psnr_after=after)


def _descend(start: Gaussians, target: Target, steps: int, on_step: Callable[[int, int], None] | None) -> Gaussians:
    unit = start.scales.mean(-1, keepdim=True)
    free = {
        # In deviations of its own Gaussian, so that one rate suits the near and the far.
        "means": torch.zeros_like(start.means),
        "scales": start.scales.log(),
        "rotations": start.rotations.clone(),
        "opacities": start.opacities.clamp(_CLEAR, 1 - _CLEAR).logit(),
        "base": start.harmonics[..., :1].clone(),
        "higher": start.harmonics[..., 1:].clone(),
    }
    rates = _RATES | {"means": _MEANS_RATE, "base": _RATES["harmonics"], "higher": _HIGHER * _RATES["harmonics"]}
    groups = [{"params": [value.requires_grad_()], "lr": rates[name]} for name, value in free.items()]
    optimiser = torch.optim.Adam(groups, eps=1e-15)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimiser, _LAST_RATE ** (1 / steps))
    for step in range(steps):
        optimiser.zero_grad(set_to_none=True)
        target.error(_bound(free, start.means, unit), step % len(target.colours)).backward()
        optimiser.step()
        decay.step()
        if on_step is not None:
            on_step(step + 1, steps)
    with torch.no_grad():
        return _bound(free, start.means, unit)


def _bound(free: dict[str, Tensor], means: Tensor, unit: Tensor) -> Gaussians:
    return Gaussians(
        means=means + unit * free["means"],
        scales=free["scales"].exp(),
        rotations=torch.nn.functional.normalize(free["rotations"], dim=-1),
        harmonics=torch.cat((free["base"], free["higher"]), -1),
        opacities=free["opacities"].sigmoid(),
    )


def with_refined_gaussians(
    prediction: Prediction, steps: int, *, on_step: Callable[[int, int], None] | None = None
) -> Prediction:
    """The prediction with its Gaussians optimised on its own pictures; pixels that are masked out do not count.

    Raises:
        CapabilityError: it has no Gaussians, no cameras or no pictures.
    """
    gaussians, images = prediction.gaussians, prediction.processed_images
    poses, lenses = prediction.extrinsics, prediction.intrinsics
    if gaussians is None or images is None or poses is None or lenses is None:
        raise CapabilityError("prediction", "no gaussians, cameras or pictures", "an inference with infer_gs=True")
    with torch.inference_mode(mode=False):
        target = target_of(images, poses, lenses, valid_pixels(prediction), device=gaussians.means.device)
    refined, report = refine_gaussians(gaussians, target, steps, on_step=on_step)
    return dataclasses.replace(prediction, gaussians=refined, gaussian_refinement=report)


def target_of(
    images: UInt8[np.ndarray, "N H W 3"],
    extrinsics: Float[np.ndarray, "N 3 4"],
    intrinsics: Float[np.ndarray, "N 3 3"],
    counts: Bool[np.ndarray, "N H W"],
    *,
    device: torch.device,
) -> Target:
    """Pictures and cameras as tensors."""
    return Target(
        colours=torch.from_numpy(images.astype(np.float32) / 255).to(device).movedim(-1, 1),
        weight=torch.from_numpy(counts.astype(np.float32)).to(device)[:, None],
        extrinsics=torch.from_numpy(np.array(extrinsics, np.float32)).to(device),
        intrinsics=torch.from_numpy(np.array(intrinsics, np.float32)).to(device),
    )
